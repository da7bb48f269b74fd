"""The times of recordings."""

from __future__ import annotations

_STEP_BACK_S = 2.0  # by more than this, it is another part that begins


class RecordedClock:
    """Places the times of a recording behind each other, from its first picture on.

    Parts that were put together begin anew, as HLS has them, and files of `cat a.ts b.ts`. Each goes on where the one
    before ended.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last = 0.0

    def place(self, seconds: float) -> float:
        """Seconds since the first picture, of one that the recording shows at `seconds`; they never run back."""
        if self._offset is None or seconds + self._offset < self._last - _STEP_BACK_S:
            self._offset = self._last - seconds
        self._last = max(seconds + self._offset, self._last)
        return self._last
