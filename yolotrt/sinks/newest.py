"""The newest result of each stream, for whoever is slower than the streams and must not hold them up."""

from __future__ import annotations

import threading

from yolotrt.types import FrameResult


class Newest:
    """A place per stream that holds one result; the next one replaces it. All methods are for any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self._held: dict[str, tuple[int, FrameResult]] = {}
        self._closed = False

    def put(self, result: FrameResult) -> None:
        """Replace the result of its stream, which is `Frame.source_id`."""
        with self._changed:
            self._number += 1
            self._held[result.frame.source_id] = (self._number, result)
            self._changed.notify_all()

    def streams(self) -> list[str]:
        """Those that have given a result, in the order of their first one."""
        with self._changed:
            return list(self._held)

    def get(
        self, stream: str | None = None, *, after: int = 0, timeout_s: float | None = None
    ) -> tuple[int, FrameResult] | None:
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

    def _find(self, stream: str | None, after: int) -> tuple[int, FrameResult] | None:
        held = self._held.values() if stream is None else [self._held[stream]] if stream in self._held else []
        return min((entry for entry in held if entry[0] > after), key=lambda entry: entry[0], default=None)
