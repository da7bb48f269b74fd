"""Random numbers, noise fields and blurs that give the same bits on every machine.

The validation pictures are made again wherever they are needed and compared by digest, so nothing here may depend on
the SIMD width, on a math library or on a version of NumPy. The rules: raw PCG64 words instead of distributions (only
the raw stream is promised to stay the same), sines from a rounded table, sums in integers, and otherwise only
elementwise `+ - * / sqrt`, which IEEE 754 defines to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

_TURN_STEPS = 2048
_SINES = tuple(round(math.sin(math.tau * i / _TURN_STEPS) * 65536) / 65536 for i in range(_TURN_STEPS))


def sin_turn(turns: float) -> float:
    """Sine of an angle in turns, from a table rounded to 1/65536, hence independent of the C math library."""
    return _SINES[math.floor(turns * _TURN_STEPS + 0.5) % _TURN_STEPS]


def cos_turn(turns: float) -> float:
    """Cosine of an angle in turns; see `sin_turn`."""
    return sin_turn(turns + 0.25)


class Dice:
    """Random draws for one key, taken from raw PCG64 words only."""

    def __init__(self, *key: int) -> None:
        """Seed from integers, for example (seed, split, index)."""
        self.key = key
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def child(self, *key: int) -> Dice:
        """An independent stream, so that one part's number of draws never shifts another part's values."""
        return Dice(*self.key, *key)

    def unit(self) -> float:
        """A number in [0, 1)."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.unit()

    def integer(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.unit() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.integer(0, len(items) - 1)]

    def weighted(self, weights: dict[str, float]) -> str:
        """A key, by weight."""
        left = self.unit() * sum(weights.values())
        for name, weight in weights.items():
            left -= weight
            if left < 0:
                return name
        return next(reversed(weights))

    def octets(self, *shape: int) -> U8:
        """Uniform bytes of this shape."""
        count = math.prod(shape)
        words = self._bits.random_raw((count + 7) // 8).astype("<u8")
        return words.view(np.uint8)[:count].reshape(shape)

    def bell(self, *shape: int) -> F32:
        """Noise of mean 0 and standard deviation 1, close to normal: the sum of four bytes, which is exact."""
        parts = self.octets(4, *shape).astype(np.int32)
        total = parts[0] + parts[1] + parts[2] + parts[3] - 510
        return np.asarray(total.astype(np.float32) * np.float32(1 / 147.8), np.float32)


def _lerp_plan(count: int, cells: int) -> tuple[NDArray[np.int64], F32]:
    position = np.arange(count, dtype=np.float64) * ((cells - 1) / count)
    index = position.astype(np.int64)
    t = position - index
    return index, (t * t * (3.0 - 2.0 * t)).astype(np.float32)


def upsample(lattice: F32, height: int, width: int) -> F32:
    """Smoothly enlarge a lattice of values to `height` x `width`."""
    iy, ty = _lerp_plan(height, lattice.shape[0])
    ix, tx = _lerp_plan(width, lattice.shape[1])
    ty = ty[:, None]
    rows = lattice[iy] * (1 - ty) + lattice[iy + 1] * ty
    return np.asarray(rows[:, ix] * (1 - tx) + rows[:, ix + 1] * tx, dtype=np.float32)


def fractal(dice: Dice, height: int, width: int, cells: float, octaves: int = 4, stretch: float = 1.0) -> F32:
    """Cloud-like noise of mean 0.5, range [0, 1]; `cells` across the width, `stretch` > 1 makes it wider than tall."""
    total = np.zeros((height, width), np.float32)
    gain, weight = 0.5, 0.0
    for octave in range(octaves):
        across = cells * 2.0**octave
        columns = max(2, min(int(across) + 2, width))
        rows = max(2, min(int(across * stretch * height / max(width, 1)) + 2, height))
        lattice = dice.octets(rows, columns).astype(np.float32) * np.float32(1 / 255)
        total += upsample(lattice, height, width) * np.float32(gain)
        weight += gain
        gain *= 0.55
    return total * np.float32(1 / weight)


def box_blur(plane: F32, radius_y: int, radius_x: int, steps: int = 64) -> F32:
    """Mean over a (2r+1) window with repeated borders, summed in integers.

    Values are taken in steps of 1/`steps` (64 suits colours, 4096 opacities), so the running sums are exact in
    whatever order they are formed.
    """
    fixed = (plane * np.float32(steps)).astype(np.int32)
    for axis, radius in ((0, radius_y), (1, radius_x)):
        if radius > 0:
            fixed = _box_axis(fixed, axis, radius)
    return fixed.astype(np.float32) * np.float32(1 / steps)


def _box_axis(fixed: NDArray[np.int32], axis: int, radius: int) -> NDArray[np.int32]:
    size = 2 * radius + 1
    pad = [(0, 0)] * fixed.ndim
    pad[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(fixed, pad, mode="edge"), axis=axis, dtype=np.int32)
    count = fixed.shape[axis]
    head = [slice(None)] * fixed.ndim
    tail = [slice(None)] * fixed.ndim
    head[axis] = slice(size, size + count)
    tail[axis] = slice(0, count)
    # The differences are below 2**24, so float32 holds them exactly; half a step is added to round.
    mean = (sums[tuple(head)] - sums[tuple(tail)]).astype(np.float32) * np.float32(1 / size) + np.float32(0.5)
    return mean.astype(np.int32)


def ramp(values: F32, low: float, high: float) -> F32:
    """0 below `low`, 1 above `high`, linear between."""
    scaled = (values - np.float32(low)) * np.float32(1.0 / (high - low))
    return np.asarray(np.minimum(np.maximum(scaled, np.float32(0)), np.float32(1)), np.float32)
