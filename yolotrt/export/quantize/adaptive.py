"""Rounding weights so that what a convolution gives stays, not what it holds.

Each weight is rounded in turn, and the error that this leaves in the output is taken back by those that are still to
come. It is the rounding of Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (ICLR 2023), in the form of Babai's nearest plane: with `H = U U'`, `U` upper triangular, the squared
error of the output is that of `e U`, whose element `k` depends on the first `k` weights alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.export.quantize.formats import Float32Array, Format
from yolotrt.export.quantize.insert import QuantizedWeights
from yolotrt.export.quantize.weights import channel_scales

DAMPING = 0.01
"""Of the mean power of an input: what the calibration pictures say about combinations that they hardly hold."""

_BLOCK = 64


def adaptive(
    weights: npt.NDArray[Any], bias: npt.NDArray[Any] | None, moments: Float32Array, number_format: Format
) -> QuantizedWeights:
    """Weights rounded for the least error of the output.

    Args:
        weights: float32 `[out, in / groups, kh, kw]`.
        bias: `[out]`, kept.
        moments: of the data, `[groups, K, K]` with K = in / groups * kh * kw.
        number_format: of the result.
    """
    scale = channel_scales(weights, number_format)
    rows = (weights / scale.reshape(-1, 1, 1, 1)).reshape(len(moments), -1, moments.shape[1])
    rounded = np.stack([_nearest_plane(r, m, number_format) for r, m in zip(rows, moments, strict=True)])
    return QuantizedWeights(
        rounded=rounded.reshape(weights.shape), scale=scale, bias=None if bias is None else bias.astype(np.float32)
    )


def _nearest_plane(rows: npt.NDArray[Any], moment: Float32Array, number_format: Format) -> Float32Array:
    """Rounded rows `[out, K]` of a `[K, K]` moment; rows are in steps of the format."""
    power = np.diag(moment)
    order = np.argsort(-power, kind="stable")  # what counts most is rounded first, and the rest makes up for it
    damped = moment[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices_from(damped)] += DAMPING * power.mean() + 1e-12
    upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    exact = rows[:, order].astype(np.float64)
    rounded = np.empty_like(exact)
    carried = np.zeros_like(exact)  # of what was rounded before, in each element of the error
    for start in range(0, exact.shape[1], _BLOCK):
        end = min(start + _BLOCK, exact.shape[1])
        for k in range(start, end):
            rounded[:, k] = number_format.round(exact[:, k] - carried[:, k] / upper[k, k])
            carried[:, k:end] += np.outer(rounded[:, k] - exact[:, k], upper[k, k:end])
        carried[:, end:] += (rounded[:, start:end] - exact[:, start:end]) @ upper[start:end, end:]
    restored = np.empty(exact.shape, np.float32)
    restored[:, order] = rounded
    return restored
