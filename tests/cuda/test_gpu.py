"""`yolotrt.cuda` on a driver that works in the memory of the host; on a real one: `tests/gpu`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cuda_host import driver

pytest.importorskip("cuda.core")


def test_on_the_driver_of_the_host(tmp_path: Path) -> None:
    """In a process of its own: one that has found no driver, or another one, would keep to that."""
    folder = driver.build(tmp_path)
    suite = Path(__file__).with_name("on_host_driver.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite)]
    done = subprocess.run(
        command, env={**os.environ, "LD_LIBRARY_PATH": str(folder)}, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
