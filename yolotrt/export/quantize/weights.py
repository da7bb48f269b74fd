"""Rounding the weights of convolutions, each output channel with its own scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.export.quantize.formats import Float32Array, Format, Kind
from yolotrt.export.quantize.insert import QuantizedWeights

_FACTORS: dict[Kind, npt.NDArray[np.float64]] = {"int8": np.linspace(0.7, 1.0, 31), "fp8": np.linspace(1.0, 2.0, 17)}


def channel_scales(weights: npt.NDArray[Any], number_format: Format) -> Float32Array:
    """The scale of each output channel, `[out]`: the one with the least squared error among some.

    INT8 tries to cut off nothing and up to 30 % of the largest weight. FP8 cuts nothing off, since its error is
    relative; but where its steps fall between two powers of two matters, so it tries scales up to twice the smallest.

    Args:
        weights: float32 `[out, in / groups, kh, kw]`.
        number_format: of the result.
    """
    rows = weights.reshape(len(weights), -1)
    largest = np.abs(rows).max(axis=1)
    largest = np.where(largest > 0, largest, 1.0)
    scales = np.stack([number_format.scale(largest * factor) for factor in _FACTORS[number_format.kind]])
    errors = [((number_format.apply(rows, s[:, None]) - rows) ** 2).sum(axis=1) for s in scales]
    best: Float32Array = scales[np.argmin(errors, axis=0), np.arange(len(rows))]
    return best


def nearest(weights: npt.NDArray[Any], bias: npt.NDArray[Any] | None, number_format: Format) -> QuantizedWeights:
    """Weights rounded to the nearest values."""
    scale = channel_scales(weights, number_format)
    rounded = number_format.round(weights / scale.reshape(-1, 1, 1, 1))
    return QuantizedWeights(rounded=rounded, scale=scale, bias=None if bias is None else bias.astype(np.float32))
