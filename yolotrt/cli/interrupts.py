"""Ctrl-C and SIGTERM that do not get lost.

Python raises KeyboardInterrupt wherever the main thread happens to be; in the few places where exceptions are swallowed
(a finalizer, a callback of the import system) it vanishes. So the wish is remembered, and commands look after each
frame.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

_asked = threading.Event()


def install() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt: open files are finished or removed on the way out.

    Signals that are ignored (nohup) stay so. Outside the main thread they are the business of the program that calls.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def check() -> None:
    """Raise KeyboardInterrupt if one was asked for since `install`, even if it got lost."""
    if _asked.is_set():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature is the signal module's)
    _asked.set()
    raise KeyboardInterrupt
