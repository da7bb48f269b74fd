"""The GPU tests on a machine without a GPU: see `scripts/rehearse_gpu`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cuda.core")
ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "tests" / "gpu").glob("test_*.py"))


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem.removeprefix("test_"))
def test_the_gpu_tests_are_rehearsed(file: Path) -> None:
    if not all(map(shutil.which, ("gcc", "g++"))):
        pytest.skip("the driver of the host needs gcc and g++")
    # What hangs says where: the signal that ends a test waits for C code to return.
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "faulthandler_timeout=150",
        str(file),
    ]
    with subprocess.Popen(
        [ROOT / "scripts" / "rehearse_gpu", *tests],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=450)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
    assert process.returncode in (0, 5), said[-8000:]  # 5: all of its tests need a real one
