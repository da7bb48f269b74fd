"""Windows: on a screen in memory where there is one (Xvfb), and without any screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import cv2
import pytest

from tests.support.media import picture
from tests.support.results import frame_result
from yolotrt.errors import SinkError
from yolotrt.sinks import WindowSink

linux = pytest.mark.skipif(sys.platform != "linux", reason="screens are found by DISPLAY there")
HAS_WINDOWS = "GUI:                           NONE" not in cv2.getBuildInformation()


@linux
def test_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SinkError, match=r"no window can be opened: there is no screen .* Use --restream"):
        WindowSink(lambda: None)


@linux
def test_with_a_screen_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without windows in OpenCV it says that; with Qt the process that owns the windows dies, and this one does not.
    monkeypatch.setenv("DISPLAY", ":99999")
    with pytest.raises(SinkError, match=r"no window can be opened: (the screen cannot be used|this OpenCV)"):
        WindowSink(lambda: None)
    assert "yolotrt-child" not in [t.name for t in threading.enumerate()]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The DISPLAY of a screen in memory."""
    if not shutil.which("Xvfb") or not HAS_WINDOWS:
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


def test_streams_are_shown_until_the_end(screen: str) -> None:
    closed: list[bool] = []
    sink = WindowSink(lambda: closed.append(True))
    for index in range(20):
        sink.write(frame_result(picture((96, 128)), "a", index=index))
        sink.write(frame_result(picture((3000, 1000)), "b", index=index))
        time.sleep(0.02)
    sink.close()
    sink.close()
    assert closed == []
    assert not {"yolotrt-child", "yolotrt-window"} & {t.name for t in threading.enumerate()}


def test_a_window_that_goes_away_ends_the_showing(screen: str) -> None:
    closed = threading.Event()
    sink = WindowSink(closed.set)
    sink.write(frame_result(picture((96, 128)), "a"))
    time.sleep(0.3)
    sink._child._process.terminate()  # as if its user had closed it
    deadline = time.monotonic() + 10
    while not closed.is_set() and time.monotonic() < deadline:
        sink.write(frame_result(picture((960, 1280)), "a"))
        time.sleep(0.02)
    assert closed.is_set()
    sink.close()
