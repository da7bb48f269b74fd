"""What ends in `__del__`, and so anywhere."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Afterwards(Generic[T]):
    """A lock, and what is to be done under it as soon as nobody holds it.

    The garbage collector runs in whichever thread comes along, in the midst of whatever that one does: `__del__` may
    wait for no lock, since the thread that holds it may come to wait for one that this thread holds. So what ends is
    handed in without waiting, and done at once where the lock is free, else by who has it, once it is done.

    Args:
        work: called with each item, under the lock. May end others.
    """

    def __init__(self, work: Callable[[T], None]) -> None:
        self._work = work
        self._items: deque[T] = deque()
        self._lock = threading.Lock()

    def hand_in(self, item: T) -> None:
        """From any thread, at any time. Waits for nobody."""
        self._items.append(item)
        self._do()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._do()

    def _do(self) -> None:
        # Looked at again after each release: whoever found the lock taken meanwhile has left its item to this thread.
        while self._items and self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(IndexError):
                    while True:
                        self._work(self._items.popleft())
            finally:
                self._lock.release()
