"""Windows: on a screen in memory where there is one (Xvfb), and without any screen."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from tests.support.media import picture
from tests.support.results import frame_result
from tests.support.screen import screen  # noqa: F401 (a fixture)
from yolotrt.errors import SinkError
from yolotrt.sinks import WindowSink

linux = pytest.mark.skipif(sys.platform != "linux", reason="screens are found by DISPLAY there")


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


def test_streams_are_shown_until_the_end(screen: str) -> None:  # noqa: F811
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


def test_a_window_that_goes_away_ends_the_showing(screen: str) -> None:  # noqa: F811
    closed = threading.Event()
    sink = WindowSink(closed.set)
    sink.write(frame_result(picture((96, 128)), "a"))
    time.sleep(0.3)
    sink._child._process.terminate()  # as if its user had closed it
    assert closed.wait(10), "though no further picture comes"
    sink.write(frame_result(picture((960, 1280)), "a"))
    sink.close()
