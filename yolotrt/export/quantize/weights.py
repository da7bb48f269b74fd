"""Rounding the weights of convolutions, each output channel with its own scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.export.quantize.formats import Float32Array, Format
from yolotrt.export.quantize.insert import QuantizedWeights

_SHRINKS = np.linspace(0.7, 1.0, 31)


def channel_scales(weights: npt.NDArray[Any], number_format: Format) -> Float32Array:
    """The scale of each output channel, `[out]`.

    INT8 takes the one with the least squared error, among cutting off nothing and up to 30 % of the largest weight.
    FP8 cuts nothing off: its error is relative, so a smaller range gains nothing.

    Args:
        weights: float32 `[out, in / groups, kh, kw]`.
        number_format: of the result.
    """
    rows = weights.reshape(len(weights), -1)
    largest = np.abs(rows).max(axis=1)
    largest = np.where(largest > 0, largest, 1.0)
    if number_format.kind == "fp8":
        return number_format.scale(largest)
    scales = np.stack([number_format.scale(largest * s) for s in _SHRINKS])
    errors = [((number_format.apply(rows, s[:, None]) - rows) ** 2).sum(axis=1) for s in scales]
    best: Float32Array = scales[np.argmin(errors, axis=0), np.arange(len(rows))]
    return best


def nearest(weights: npt.NDArray[Any], bias: npt.NDArray[Any] | None, number_format: Format) -> QuantizedWeights:
    """Weights rounded to the nearest values."""
    scale = channel_scales(weights, number_format)
    rounded = number_format.round(weights / scale.reshape(-1, 1, 1, 1))
    return QuantizedWeights(rounded=rounded, scale=scale, bias=None if bias is None else bias.astype(np.float32))
