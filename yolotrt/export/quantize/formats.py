"""The two number formats of quantized tensors, as arithmetic on NumPy arrays: what a Q/DQ pair in the graph does.

Both are symmetric: zero is zero, and a tensor has a scale and nothing else.

- INT8: the integers -127..127 (-128 is left out, so that the range is symmetric).
- FP8: E4M3FN of "FP8 Formats for Deep Learning" (Micikevicius et al., 2022): 4 exponent and 3 mantissa bits, up to 448.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["int8", "fp8"]
Float32Array = npt.NDArray[np.float32]

_SMALLEST_SCALE = 2.0**-24
"""The smallest positive FP16 number."""


def _e4m3_values() -> npt.NDArray[np.float32]:
    """The value of each of the codes 0..126, which are in rising order; 127 is NaN and 128 upwards are negative."""
    code = np.arange(127)
    exponent, mantissa = code >> 3, code & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    return np.where(exponent > 0, normal, np.ldexp(mantissa / 8, -6)).astype(np.float32)


_E4M3 = _e4m3_values()
_E4M3_MIDDLES = (_E4M3[1:] + _E4M3[:-1]) / 2
_E4M3_BITS = 4  # of precision: three are stored
_E4M3_LEAST_EXPONENT = -5  # as frexp counts; below it, steps get no finer


@dataclass(frozen=True, kw_only=True)
class Format:
    """One of `INT8` and `FP8`.

    Attributes:
        kind: its name.
        largest: the largest value before the scale is applied.
    """

    kind: Kind
    largest: float

    def scale(self, threshold: npt.ArrayLike) -> Float32Array:
        """The scale with which `threshold` is the largest value.

        It is a number that FP16 holds, since in the finished graph it is one; rounded up, so that nothing is cut off.
        """
        wanted = np.maximum(np.asarray(threshold, np.float64) / self.largest, _SMALLEST_SCALE)
        half = np.minimum(wanted, np.finfo(np.float16).max).astype(np.float16)
        half = np.where(half.astype(np.float64) < wanted, np.nextafter(half, np.float16(np.inf)), half)
        return np.minimum(half.astype(np.float32), np.float32(np.finfo(np.float16).max))

    def round(self, values: npt.NDArray[Any]) -> Float32Array:
        """The nearest values of the format, ties to even; what lies beyond `largest` becomes that."""
        if self.kind == "int8":
            return np.asarray(np.clip(np.rint(values), -self.largest, self.largest), np.float32)
        magnitudes = np.minimum(np.abs(values), self.largest)
        _, exponent = np.frexp(magnitudes)
        step = np.ldexp(np.float32(1), np.maximum(exponent, _E4M3_LEAST_EXPONENT) - _E4M3_BITS)
        return np.asarray(np.copysign(np.rint(magnitudes / step) * step, values), np.float32)

    def apply(self, values: npt.NDArray[Any], scale: npt.ArrayLike) -> Float32Array:
        """What a Q/DQ pair gives; `scale` is broadcast against `values`."""
        factor = np.asarray(scale, np.float32)
        return self.round(values / factor) * factor

    def encode(self, rounded: Float32Array) -> npt.NDArray[np.uint8]:
        """The bytes of values that `round` gave, in their shape."""
        if self.kind == "int8":
            return rounded.astype(np.int8).view(np.uint8)
        codes = _e4m3_codes(np.abs(rounded))
        return (codes | np.where(np.signbit(rounded), 128, 0)).astype(np.uint8)

    @property
    def onnx_type(self) -> int:
        """`TensorProto`'s number of the element type."""
        from onnx import TensorProto

        return int(TensorProto.INT8 if self.kind == "int8" else TensorProto.FLOAT8E4M3FN)


INT8 = Format(kind="int8", largest=127.0)
FP8 = Format(kind="fp8", largest=448.0)
FORMATS: dict[Kind, Format] = {"int8": INT8, "fp8": FP8}


def _e4m3_codes(magnitudes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    below = np.searchsorted(_E4M3_MIDDLES, magnitudes, side="left")
    # At a tie `left` gives the lower code; the even one has an even mantissa, which is an even code.
    inside = np.minimum(below, len(_E4M3_MIDDLES) - 1)
    tie = (_E4M3_MIDDLES[inside] == magnitudes) & (below % 2 == 1) & (below < len(_E4M3_MIDDLES))
    return np.asarray(below + tie, np.int64)
