"""A histogram of magnitudes that grows with what it sees: one pass over the pictures is enough, in constant memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 8192


class Histogram:
    """How often which |x| occurred.

    Bins are `2**exponent` wide. A value beyond the last one merges them in pairs until it fits, so histograms of any
    two tensors can be added, and at least half of the bins are in use.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.exponent: int | None = None
        self.largest = 0.0

    @property
    def width(self) -> float:
        """Of one bin."""
        return math.ldexp(1.0, self.exponent or 0)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The value in the middle of each bin, `[BINS]`."""
        return (np.arange(BINS, dtype=np.float64) + 0.5) * np.float64(self.width)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count finite values of any shape."""
        magnitudes = np.abs(values).ravel()
        top = float(magnitudes.max(initial=0.0))
        self._make_room(top)
        if self.exponent is None:  # nothing but zeros so far
            self.counts[0] += magnitudes.size
            return
        bins = (magnitudes * np.float32(1 / self.width)).astype(np.int32)
        self.counts += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another tensor."""
        self._make_room(other.largest)
        if other.exponent is None or self.exponent is None:
            self.counts += other.counts
            return
        copy = Histogram()
        copy.counts, copy.exponent = other.counts.copy(), other.exponent
        copy._widen(self.exponent)
        self._widen(copy.exponent)
        self.counts += copy.counts

    def _make_room(self, top: float) -> None:
        self.largest = max(self.largest, top)
        if self.largest > 0:
            needed = math.frexp(self.largest)[1] - int(math.log2(BINS))  # largest < 2**(needed + log2(BINS))
            if self.exponent is None:
                self.exponent = needed
            self._widen(needed)

    def _widen(self, exponent: int) -> None:
        while self.exponent is not None and self.exponent < exponent:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([pairs, np.zeros(BINS - len(pairs), np.int64)])
            self.exponent += 1
