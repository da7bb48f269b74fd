"""A bounded queue between two threads that ends, fails and is given up in an orderly way."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class CancelledError(Exception):
    """The other side is gone; nothing that is still in the channel matters any more."""


class Channel(Generic[T]):
    """Carries items from one producing to one consuming thread, at most `capacity` at a time.

    `queue.Queue` has no end (before Python 3.13) and no way to hand an error across.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._cancelled = False
        self._error: BaseException | None = None  # of the producer: raised behind its last item

    def put(self, item: T) -> None:
        """Add an item; waits for room. Raises CancelledError."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or len(self._items) < self._capacity)
            if self._cancelled:
                raise CancelledError
            self._items.append(item)
            self._changed.notify_all()

    def take(self, count: int = 1) -> list[T]:
        """The next `count` items (at most `capacity`); fewer at the end, and none behind it.

        Raises what the producer gave to `finish`, behind its last item, or CancelledError.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or self._finished or len(self._items) >= count)
            if self._cancelled:
                raise CancelledError
            if not self._items and self._error is not None:
                raise self._error
            taken = [self._items.popleft() for _ in range(min(count, len(self._items)))]
            self._changed.notify_all()
            return taken

    def finish(self, error: BaseException | None = None) -> None:
        """Producer: there is nothing more; `error` says why, if it is no proper end."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Either side: give up what is in the channel and wake the other side."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()
