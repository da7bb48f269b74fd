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
    order = np.argsort(-confidence, kind="stable")
    classes = None if class_id is None else class_id[order]
    # Few boxes: all overlaps at once, since what costs is the number of NumPy calls. Many: box by box, in memory that
    # grows with n and not with its square.
    find = _nms_at_once if len(order) <= _AT_ONCE else _nms_box_by_box
    return order[find(xyxy[order], classes, iou, max_det)]


_AT_ONCE = 200


def _nms_at_once(boxes: Float32Array, classes: Int64Array | None, iou: float, max_det: int) -> list[int]:
    """Positions that are kept, of boxes by falling confidence."""
    # Both axes in one array: half as many calls as `_overlaps` takes, whose arithmetic it is.
    low, high = np.ascontiguousarray(boxes.T).reshape(2, 2, -1)
    sides = np.minimum(high[:, :, None], high[:, None]) - np.maximum(low[:, :, None], low[:, None])
    width, height = np.maximum(sides, 0, out=sides)
    overlap = width * height
    whole = high - low
    area = whole[0] * whole[1]
    drops = overlap > np.float32(iou) * (area[:, None] + area - overlap)
    if classes is not None:
        drops &= classes[:, None] == classes
    kept: list[int] = []
    dropped = np.zeros(len(boxes), dtype=bool)
    for position in range(len(boxes)):
        if not dropped[position]:
            kept.append(position)
            if len(kept) == max_det:
                break
            dropped |= drops[position]
    return kept


def _nms_box_by_box(boxes: Float32Array, classes: Int64Array | None, iou: float, max_det: int) -> list[int]:
    """Positions that are kept, of boxes by falling confidence."""
    # One row per coordinate: the loop below then runs over contiguous memory.
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    alive = np.ones(len(boxes), dtype=bool)
    kept: list[int] = []
    position = 0
    while position < len(boxes) and len(kept) < max_det:
        kept.append(position)
        here, after = slice(position, position + 1), slice(position + 1, None)
        drop = _overlaps(x1[here], y1[here], x2[here], y2[here], x1[after], y1[after], x2[after], y2[after], iou)
        if classes is not None:
            drop &= classes[after] == classes[position]
        alive[after] &= ~drop
        # The next box still alive; argmax stops at the first True.
        following = alive[after]
        step = int(following.argmax()) if following.size else 0
        if not following.size or not following[step]:
            break
        position += 1 + step
    return kept


def _overlaps(
    ax1: Float32Array, ay1: Float32Array, ax2: Float32Array, ay2: Float32Array,
    bx1: Float32Array, by1: Float32Array, bx2: Float32Array, by2: Float32Array,
    iou: float,
) -> BoolArray:  # fmt: skip
    """Whether boxes a and b overlap by more than `iou`; all broadcast together."""
    width = np.minimum(ax2, bx2) - np.maximum(ax1, bx1)
    height = np.minimum(ay2, by2) - np.maximum(ay1, by1)
    overlap = np.maximum(width, 0) * np.maximum(height, 0)
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap
    # intersection > iou * union, without the division: no 0 / 0 for boxes without area.
    found: BoolArray = overlap > np.float32(iou) * union
    return found


def pairwise_iou(a: Float32Array, b: Float32Array) -> Float32Array:
    """Intersection over union of boxes `[n, 4]` and `[m, 4]` (xyxy): float32 `[n, m]`; 0 where the union is empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = np.prod(a[:, 2:] - a[:, :2], axis=1)[:, None] + np.prod(b[:, 2:] - b[:, :2], axis=1)[None]
    union = areas - overlap
    out: Float32Array = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return out
