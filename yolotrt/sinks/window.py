"""Annotated streams in windows on this machine's screen."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from yolotrt.errors import SinkError, YolotrtError
from yolotrt.plotting import draw_result
from yolotrt.sinks.base import Sink
from yolotrt.sinks.child import Child
from yolotrt.sinks.newest import Newest, StreamOf, own_stream
from yolotrt.types import FrameResult

_MOST = 1280  # pixels of the longer side
_START_S = 20.0  # within which the first window must be there
_END_S = 0.5
_INSTEAD = "Use --restream http://:8080 and a browser, or --save DIR."


class WindowSink(Sink):
    """Shows each stream of the run in a window of its own, always its newest picture.

    Closing a window, q or Esc ends the showing.
    """

    def __init__(self, on_closed: Callable[[], None], *, stream_of: StreamOf = own_stream) -> None:
        """Open the screen.

        Args:
            on_closed: called, in a thread of this object, when the user ends the showing.

        Raises SinkError where there is no screen, or OpenCV was built without windows.
        """
        super().__init__()
        _check_screen()
        self._on_closed = on_closed
        self._newest = Newest(stream_of)
        self._ready = threading.Event()
        self._trouble = ""
        self._child = Child("yolotrt.sinks.window_viewer", {}, self._heard)
        if not self._ready.wait(_START_S) or self._trouble:
            self._child.kill()
            self._child.end()
            raise SinkError(
                f"no window can be opened: {self._trouble or 'the screen does not answer'}", remedy=_INSTEAD
            )
        self._thread = threading.Thread(target=self._send, name="yolotrt-window", daemon=True)
        self._thread.start()

    def write(self, result: FrameResult) -> None:
        self._newest.put(result)

    def close(self) -> None:
        self._newest.close()
        self._thread.join(_END_S)
        if self._thread.is_alive():
            self._child.kill()
            self._thread.join()

    def _heard(self, line: str) -> None:
        """A line of the process: `ready`, what is wrong, or nothing at its end."""
        if line not in ("ready", ""):
            self._trouble = line
        elif not self._ready.is_set():
            if not line:
                self._trouble = self._trouble or "the screen cannot be used"
            self._ready.set()
        elif not self._newest.closed:
            self._on_closed()  # at once, though no further picture may come

    def _send(self) -> None:
        number = 0
        try:
            while (found := self._newest.get(after=number)) is not None:
                number = found.number
                self._child.send(found.stream, draw_result(found.result), most=_MOST)
        except (OSError, YolotrtError):
            pass  # the user closed it; or a picture is lost with its GPU
        self._child.end()


def _check_screen() -> None:
    """On Linux, GUI libraries end the whole process where there is none."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise SinkError(
            "no window can be opened: there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)", remedy=_INSTEAD
        )
