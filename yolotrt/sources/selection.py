"""Which frames of a stream are of use."""

from __future__ import annotations


class Selection:
    """Every n-th frame, and so many per second of the source's own time. To be asked of each frame, in order.

    Each of several videos begins at index 0, and with a second of its own.

    Args:
        stride: take every n-th frame.
        fps: take at most so many per second; None takes all.
    """

    def __init__(self, *, stride: int = 1, fps: float | None = None) -> None:
        self._stride, self._fps = stride, fps
        self._slot: int | None = None

    def takes(self, index: int, timestamp_s: float) -> bool:
        """Whether the frame of this number and time is one of them."""
        if index == 0:
            self._slot = None
        return index % self._stride == 0 and self._is_in_new_slot(timestamp_s)

    def _is_in_new_slot(self, timestamp_s: float) -> bool:
        """Whether it is the first frame in its 1/fps of a second."""
        if self._fps is None:
            return True
        slot, before = int(timestamp_s * self._fps + 1e-6), self._slot
        self._slot = slot
        return slot != before
