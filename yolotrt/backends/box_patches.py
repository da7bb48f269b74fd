"""Which cells the boxes of some anchors follow from, as rows of matrices.

A box follows from the 3x3 cells of a branch's first convolution around it, and each of those from the 3x3 cells of the
feature around it. Anchors above the threshold lie side by side: they share most of these cells, so each is listed
once. Outside the picture both the feature and what the first convolution gives are zero.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]

_NEAR = 9


@dataclass(frozen=True, kw_only=True, eq=False)
class Patches:
    """What the boxes of some cells of one level follow from.

    Attributes:
        reads: `[m, 9]`: for each cell of the first convolution that is needed, the rows of the feature `[N * h * w, C]`
            around it; -1 outside the picture.
        near: `[n, 9]`: for each box, the rows of `reads` around it; -1 outside the picture.
    """

    reads: Int32Array = field(repr=False)
    near: Int32Array = field(repr=False)

    @classmethod
    def around(cls, cells: Int64Array, shape: tuple[int, int, int]) -> Patches:
        """Those of cells, which are rows of `[N * h * w]`, in maps of the shape (N, h, w)."""
        places = _places(*shape)
        _, height, width = shape
        wide = width + 2
        offsets = (np.arange(-1, 2)[:, None] * wide + np.arange(-1, 2)).ravel()
        image, place = np.divmod(cells, height * width)
        y, x = np.divmod(place, width)
        around = (((image * (height + 2) + y + 1) * wide) + x + 1)[:, None] + offsets
        needed = np.zeros(len(places), np.bool_)
        needed[around] = True
        needed &= places >= 0
        first = needed.nonzero()[0]
        index = np.full(len(places), -1, np.int32)
        index[first] = np.arange(len(first), dtype=np.int32)
        return cls(reads=places[first[:, None] + offsets], near=index[around])

    def rows(self, feature: Float32Array, count: int) -> Float32Array:
        """What the first convolution reads, `[count, 9 * C]` of a feature `[N * h * w, C]`; zero from row m on."""
        channels = feature.shape[1]
        found = np.empty((count, _NEAR, channels), np.float32)
        taken = found[: len(self.reads)]
        feature.take(self.reads, axis=0, out=taken, mode="clip")
        outside = self.reads < 0
        if outside.any():
            taken[outside] = 0
        found[len(self.reads) :] = 0
        return found.reshape(count, _NEAR * channels)

    def neighbours(self, count: int, zero: int) -> Int32Array:
        """`near`, with `zero` for what is outside, as `[count, 9]`; from row n on all is outside."""
        found = np.full((count, _NEAR), zero, np.int32)
        np.copyto(found[: len(self.near)], self.near, where=self.near >= 0)
        return found


@functools.lru_cache(maxsize=32)
def _places(images: int, height: int, width: int) -> Int32Array:
    """Of maps with a rim of one cell, which row each cell is without the rim; -1 in the rim."""
    found = np.full((images, height + 2, width + 2), -1, np.int32)
    found[:, 1:-1, 1:-1] = np.arange(images * height * width, dtype=np.int32).reshape(images, height, width)
    flat: Int32Array = found.ravel()
    flat.flags.writeable = False
    return flat
