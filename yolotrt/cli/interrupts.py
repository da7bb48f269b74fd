"""Ctrl-C and SIGTERM that do not get lost, and do no harm.

Python raises KeyboardInterrupt wherever the main thread happens to be. In the few places where exceptions are swallowed
(a finalizer, a callback of the import system) it vanishes; so the wish is remembered, and commands look after each
frame. And where a lock was just taken it stays taken, and whoever waits for it waits for ever; so runs of many threads
are told by a thread to end (`handed_to`).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import FrameType

_INTERRUPT, _OVER = "interrupt", "over"


class _State:
    asked = False
    told: SimpleQueue[str] | None = None  # who is to hear of the first one


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
    if _State.asked:
        raise KeyboardInterrupt


@contextlib.contextmanager
def handed_to(end: Callable[[], None]) -> Iterator[None]:
    """Within the block, the first interrupt calls `end` in another thread; KeyboardInterrupt comes behind the block.

    A second one is raised at once, wherever the main thread is.
    """
    check()
    told: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        if told.get() == _INTERRUPT:
            end()

    thread = threading.Thread(target=listen, name="yolotrt-interrupts", daemon=True)
    thread.start()
    _State.told = told
    try:
        yield
    finally:
        _State.told = None
        told.put(_OVER)
    thread.join()
    check()


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature is the signal module's)
    told = None if _State.asked else _State.told
    _State.asked = True
    if told is None:
        raise KeyboardInterrupt
    told.put(_INTERRUPT)  # takes no lock: this runs in the midst of anything
