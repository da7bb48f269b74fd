"""A screen in memory, for tests that open windows."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import cv2
import pytest

_HAS_WINDOWS = any(
    line.split(":")[1].strip() != "NONE" for line in cv2.getBuildInformation().splitlines() if "GUI:" in line
)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its DISPLAY, which is set as well. Skips where there is no Xvfb, or OpenCV has no windows."""
    if not shutil.which("Xvfb") or not _HAS_WINDOWS:
        pytest.skip("needs Xvfb and an OpenCV with windows")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24"], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        display = f":{pipe.readline().strip()}"
    monkeypatch.setenv("DISPLAY", display)
    yield display
    server.kill()
    server.wait()
