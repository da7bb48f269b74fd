"""The GPU tests on a machine without a GPU: see `scripts/rehearse_gpu`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("cuda.core")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_gpu_tests_are_rehearsed() -> None:
    if not all(map(shutil.which, ("gcc", "g++"))):
        pytest.skip("the driver of the host needs gcc and g++")
    done = subprocess.run([ROOT / "scripts" / "rehearse_gpu"], capture_output=True, text=True, timeout=880)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
