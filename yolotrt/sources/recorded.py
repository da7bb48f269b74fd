"""The times of recordings."""

from __future__ import annotations

# By more than this, another part begins. Pictures come in the order in which they are shown; what damage or a careless
# program puts out of order is less.
_STEP_BACK_S = 0.25
_LEAP_S = 10.0  # by more than this, the time of a picture may be damaged


class RecordedClock:
    """Places the times of a recording behind each other, from its first picture on.

    Parts that were put together begin anew, as HLS has them, and files of `cat a.ts b.ts`. Each goes on where the one
    before ended.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last = self._step = 0.0
        self._before_leap: float | None = None  # where the picture before the last one stood

    def place(self, seconds: float) -> float:
        """Seconds since the first picture, of one that the recording shows at `seconds`.

        They run back only behind a single picture far ahead, whose time was damaged.
        """
        if self._offset is None:
            self._offset = -seconds
        at, before, self._before_leap = seconds + self._offset, self._before_leap, None
        if before is not None and 0 < at - before <= _LEAP_S:
            self._last = before
        elif at < self._last - _STEP_BACK_S:
            at = self._last + self._step
            self._offset = at - seconds
        if at - self._last > _LEAP_S:
            self._before_leap = self._last
        elif at > self._last:
            self._step = at - self._last
        self._last = max(at, self._last)
        return self._last
