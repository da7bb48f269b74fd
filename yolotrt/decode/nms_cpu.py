"""Non-maximum suppression on the CPU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]


def nms(
    xyxy: Float32Array, confidence: Float32Array, class_id: Int64Array | None, *, iou: float, max_det: int
) -> Int64Array:
    """Greedy non-maximum suppression, the rule of torchvision's `nms` applied to each class.

    Boxes are taken by falling confidence (of equal ones the first in the input); each taken box drops the remaining
    ones of its class that overlap it by more than `iou`. Stopping at `max_det` gives the same boxes as cutting
    afterwards, since a box is never dropped by a weaker one.

    Args:
        xyxy: float32 `[n, 4]`, any unit. Boxes without area overlap nothing.
        confidence: float32 `[n]`.
        class_id: int64 `[n]`; None lets boxes of all classes suppress each other.
        iou: intersection over union above which the weaker box is dropped, 0..1.
        max_det: at most this many boxes are kept.

    Returns:
        int64 `[k]`: indices of the kept boxes by falling confidence.
    """
    remaining = np.argsort(-confidence, kind="stable")
    boxes = xyxy[remaining]
    # One row per coordinate: the loop below then runs over contiguous memory.
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    area = (x2 - x1) * (y2 - y1)
    classes = None if class_id is None else class_id[remaining]
    alive = np.ones(len(remaining), dtype=bool)
    kept: list[int] = []
    position = 0
    while position < len(remaining) and len(kept) < max_det:
        kept.append(position)
        after = slice(position + 1, None)
        width = np.minimum(x2[after], x2[position]) - np.maximum(x1[after], x1[position])
        height = np.minimum(y2[after], y2[position]) - np.maximum(y1[after], y1[position])
        overlap = np.maximum(width, 0) * np.maximum(height, 0)
        # intersection > iou * union, without the division: no 0 / 0 for boxes without area.
        drop = overlap > np.float32(iou) * (area[after] + area[position] - overlap)
        if classes is not None:
            drop &= classes[after] == classes[position]
        alive[after] &= ~drop
        # The next box still alive; argmax stops at the first True.
        following = alive[after]
        step = int(following.argmax()) if following.size else 0
        if not following.size or not following[step]:
            break
        position += 1 + step
    return remaining[kept]


def pairwise_iou(a: Float32Array, b: Float32Array) -> Float32Array:
    """Intersection over union of boxes `[n, 4]` and `[m, 4]` (xyxy): float32 `[n, m]`; 0 where the union is empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = np.prod(a[:, 2:] - a[:, :2], axis=1)[:, None] + np.prod(b[:, 2:] - b[:, :2], axis=1)[None]
    union = areas - overlap
    out: Float32Array = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return out
