"""The process that owns the windows; see `WindowSink`."""

from __future__ import annotations

import sys
import threading

import cv2

from yolotrt.sinks.child import received
from yolotrt.types import ImageU8

_PROBE = "yolotrt"
_WAIT_MS = 15
_KEYS = (ord("q"), 27)


def main() -> int:
    """Show what comes from standard input until it ends, or the user has seen enough."""
    try:
        cv2.namedWindow(_PROBE)
        cv2.waitKey(1)
        cv2.destroyWindow(_PROBE)
    except cv2.error:
        print(
            f"this OpenCV ({cv2.__version__}) was built without windows; opencv-python has them: "
            "pip uninstall opencv-python-headless, then pip install opencv-python",
            flush=True,
        )
        return 1
    print("ready", flush=True)
    newest: dict[str, ImageU8] = {}
    reader = threading.Thread(target=_read, args=(newest,), daemon=True)
    reader.start()
    shown: set[str] = set()
    while reader.is_alive():
        for name in list(newest):
            if name not in shown:
                cv2.namedWindow(name, cv2.WINDOW_AUTOSIZE)
                shown.add(name)
            cv2.imshow(name, newest.pop(name))
        if not shown:
            reader.join(_WAIT_MS / 1000)  # without a window, waitKey does not wait
            continue
        if (cv2.waitKey(_WAIT_MS) & 0xFF) in _KEYS or any(_is_closed(name) for name in shown):
            break
    cv2.destroyAllWindows()
    return 0


def _read(newest: dict[str, ImageU8]) -> None:
    parts = received(sys.stdin.buffer)
    next(parts)
    for name, pixels in parts:
        newest[name] = pixels  # noqa: PERF403 (it never ends; others look at it meanwhile)


def _is_closed(name: str) -> bool:
    try:
        return cv2.getWindowProperty(name, cv2.WND_PROP_VISIBLE) < 1
    except cv2.error:
        return True


if __name__ == "__main__":
    sys.exit(main())
