"""Decode `raw` heads: what the last convolutions give, before DFL, sigmoid and box arithmetic.

Only the boxes above the threshold are worked out, a few of thousands. Boxes and scores are those of the same model with
its whole head but for rounding, with three differences at the rims of floating point: of classes whose scores are equal
after rounding, the one that is larger before it wins; plus infinity before the sigmoid is refused as NaN is, since
nothing but an overflow gives it; and scores below 1e-38 are zero.

The arithmetic is spelled out in single-precision steps, sums in a fixed order, so that `raw.cuh` does the same on a GPU
to the last bit. No library's `exp` can promise that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.model_spec import RawHead, TensorSpec
from yolotrt.types import RawOutputs

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

RawCandidates = tuple[Float32Array, Float32Array, Int64Array]

LOWEST = -87.0
"""exp of less is taken as that of this: the smallest that is a normal number."""

_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.44269504, 0.693359375, -2.12194440e-4
_ROUND = 12582912.0  # added to a small number, it leaves no digits behind the point
_POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# Far more than the rounding of a sigmoid, up to the score from where its slope is too flat to tell.
_SLACK, _FLAT = 0.01, 0.9999


def raw_candidates(outputs: RawOutputs, index: int, *, conf: float, every_class: bool) -> RawCandidates | None:
    """Boxes of one picture whose confidence is above `conf`.

    Args:
        outputs: of a `raw` head.
        index: of the picture in its batch.
        conf: 0..1.
        every_class: one box per class above `conf`; else one for the best class.

    Returns:
        (xyxy `[n, 4]` in input pixels, confidence `[n]`, class_id `[n]`), level by level and row by row; boxes that are
        not finite are left in. None where a class score is NaN or infinity.
    """
    raw = outputs.spec.raw
    assert raw is not None
    least = least_logit(conf)
    parts = []
    for level in raw.levels:
        scores = _rows(outputs.arrays[level.scores][index].astype(np.float32, copy=False))
        best = scores.max(axis=1)
        if not best.max() < np.inf:  # NaN neither
            return None
        cells = (best > least).nonzero()[0]
        if len(cells):
            cells, class_id, logit = _classes(scores, best, cells, least, every_class=every_class)
            image = outputs.arrays[level.boxes][index]
            parts.append((_rows(image)[cells], _middles(cells, image.shape[2], level.stride), class_id, logit))
    if not parts:
        return np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64)
    # All levels at once, since what costs is the number of NumPy calls.
    values, middles, class_id, logit = (np.concatenate(part) for part in zip(*parts, strict=True))
    confidence = sigmoid(logit)
    if not (above := confidence > np.float32(conf)).all():
        values, middles, class_id, confidence = values[above], middles[above], class_id[above], confidence[above]
    return _boxes(values, middles, raw.reg_max), confidence, class_id


def as_anchor_free(outputs: RawOutputs) -> RawOutputs:
    """The outputs of a `raw` head as an `anchor_free` one would give them; those of any other head as they are."""
    spec = outputs.spec
    if spec.raw is None:
        return outputs
    array = whole_head(outputs.arrays, spec.raw)
    tensor = TensorSpec(name="output0", dtype="float32", shape=array.shape)
    spec = dataclasses.replace(spec, head="anchor_free", raw=None, outputs=(tensor,))
    return RawOutputs(arrays={tensor.name: array}, spec=spec)


def whole_head(arrays: Mapping[str, npt.NDArray[Any]], raw: RawHead) -> Float32Array:
    """All boxes of a `raw` head as an `anchor_free` one gives them: `[N, 4 + nc, A]`, in the precision of float32."""
    parts = []
    for level in raw.levels:
        n, _, height, width = arrays[level.boxes].shape
        middles = np.tile(_middles(np.arange(height * width), width, level.stride), (n, 1))
        values = np.concatenate([_rows(image) for image in arrays[level.boxes]])
        xyxy = _boxes(values, middles, raw.reg_max).reshape(n, -1, 4)
        scores = sigmoid(np.stack([_rows(image) for image in arrays[level.scores]]).astype(np.float32))
        middle, size = (xyxy[..., :2] + xyxy[..., 2:]) / 2, xyxy[..., 2:] - xyxy[..., :2]
        parts.append(np.concatenate([middle, size, scores], axis=2))
    return np.ascontiguousarray(np.concatenate(parts, axis=1).transpose(0, 2, 1))


def exp(x: Float32Array) -> Float32Array:
    """e to the power of x <= 0, within 2 units in the last place; that of `LOWEST` for less."""
    x = np.maximum(x, np.float32(LOWEST))  # keeps NaN
    power = (x * np.float32(_LOG2_E) + np.float32(_ROUND)) - np.float32(_ROUND)
    rest = (x - power * np.float32(_LN2_HIGH)) - power * np.float32(_LN2_LOW)
    found = np.full_like(rest, _POLYNOMIAL[0])
    for factor in _POLYNOMIAL[1:]:
        found *= rest
        found += np.float32(factor)
    found *= rest * rest
    found += rest
    found += np.float32(1)
    with np.errstate(invalid="ignore"):  # NaN has no whole number; it stays NaN in the product
        scale = ((power.astype(np.int32) + 127) << 23).view(np.float32)
    scaled: Float32Array = found * scale
    return scaled


def sigmoid(x: Float32Array) -> Float32Array:
    """1 / (1 + exp(-x)); 0 below `LOWEST`."""
    small = exp(-np.abs(x))
    found = np.where(x >= 0, np.float32(1), small) / (np.float32(1) + small)
    found[x < np.float32(LOWEST)] = 0
    return np.asarray(found, np.float32)


def least_logit(conf: float) -> np.float32:
    """What a class score before the sigmoid must surely be above, for a confidence above `conf`."""
    if conf <= 0:
        return np.float32(-np.inf)
    conf = min(conf, _FLAT)
    return np.float32(math.log(conf) - math.log1p(-conf) - _SLACK)


def _rows(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`[C, h, w]` as `[h * w, C]`: a view, whether the cells or the channels come last in memory."""
    channels = len(image)
    if image.strides[0] > image.strides[2]:
        return image.reshape(channels, -1).T
    return image.transpose(1, 2, 0).reshape(-1, channels)


def _classes(
    scores: npt.NDArray[Any], best: npt.NDArray[Any], cells: Int64Array, least: np.float32, *, every_class: bool
) -> tuple[Int64Array, Int64Array, Float32Array]:
    """Which cell, which class, and its score before the sigmoid, each `[n]`."""
    chosen = scores[cells]
    if not every_class:
        return cells, chosen.argmax(axis=1), best[cells].astype(np.float32)
    row, class_id = (chosen > least).nonzero()
    return cells[row], class_id, chosen[row, class_id].astype(np.float32)


def _middles(cells: Int64Array, width: int, stride: int) -> Float32Array:
    """Middle of each cell of a level that is `width` wide, in strides, and the stride: x, y, stride `[n, 3]`."""
    found = np.empty((len(cells), 3), np.float32)
    found[:, 0], found[:, 1] = cells % width, cells // width
    found[:, :2] += np.float32(0.5)
    found[:, 2] = stride
    return found


def _boxes(values: npt.NDArray[Any], middles: Float32Array, reg_max: int) -> Float32Array:
    """Boxes `[n, 4]` in input pixels of `values [n, 4 * reg_max]`."""
    boxes = np.empty((len(values), 4), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found later, by whoever reads the boxes
        sides = _distances(values.astype(np.float32, copy=False).reshape(-1, 4, reg_max))
        np.subtract(middles[:, :2], sides[:, :2], out=boxes[:, :2])
        np.add(middles[:, :2], sides[:, 2:], out=boxes[:, 2:])
        boxes *= middles[:, 2:]
    return boxes


def _distances(bins: Float32Array) -> Float32Array:
    """Distances `[n, 4]` in strides, of `[n, 4, reg_max]`."""
    reg_max = bins.shape[2]
    if reg_max == 1:
        return bins[..., 0]
    weights = exp(bins - bins.max(axis=2, keepdims=True))
    weighted = weights * np.arange(reg_max, dtype=np.float32)
    # One after the other: what `sum` does first depends on the size.
    top, total = (np.add.accumulate(part, axis=2)[..., -1] for part in (weighted, weights))
    return np.asarray(top / total, np.float32)
