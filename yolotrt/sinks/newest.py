"""The newest result of each stream, for whoever is slower than the streams and must not hold them up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from yolotrt.types import FrameResult

StreamOf: TypeAlias = Callable[[FrameResult], str]
"""The name of the stream that a result is shown in: all pictures of a folder are one stream."""


def own_stream(result: FrameResult) -> str:
    """The stream of a result where every source is one."""
    return result.stream or result.frame.source_id


class Held(NamedTuple):
    """A result with the name of its stream; `number` counts all results that were put in."""

    number: int
    stream: str
    result: FrameResult


class Newest:
    """A place per stream that holds one result; the next one replaces it. All methods are for any thread."""

    def __init__(self, stream_of: StreamOf = own_stream) -> None:
        self._stream_of = stream_of
        self._changed = threading.Condition()
        self._number = 0
        self._held: dict[str, Held] = {}
        self._closed = False

    def put(self, result: FrameResult) -> str:
        """Replace the result of its stream; returns the stream's name."""
        stream = self._stream_of(result)
        with self._changed:
            self._number += 1
            self._held[stream] = Held(self._number, stream, result)
            self._changed.notify_all()
        return stream

    def streams(self) -> list[str]:
        """Those that have given a result, in the order of their first one."""
        with self._changed:
            return list(self._held)

    def get(self, stream: str | None = None, *, after: int = 0, timeout_s: float | None = None) -> Held | None:
        """Wait for a result with a number above `after`, of one stream or of any, the oldest first.

        Returns None when the time is over, or `close` was called.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._find(stream, after) is not None, timeout_s)
            return None if self._closed else self._find(stream, after)

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    def close(self) -> None:
        """Wake all who wait; they get nothing more."""
        with self._changed:
            self._closed = True
            self._held.clear()
            self._changed.notify_all()

    def _find(self, stream: str | None, after: int) -> Held | None:
        held = self._held.values() if stream is None else [self._held[stream]] if stream in self._held else []
        return min((entry for entry in held if entry.number > after), key=lambda entry: entry.number, default=None)
