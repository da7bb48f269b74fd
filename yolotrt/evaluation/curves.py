"""Precision, recall and F1 over the confidence, and average precision as Ultralytics' `val` counts it.

Two definitions of average precision are in use. COCO's averages the best precision at or beyond each of 101 recalls.
Ultralytics' joins the points of the curve by straight lines and takes the area below them, with a precision of 0 at
recall 1: a perfect model scores 0.995 there. They differ by some thousandths, so `val` reports both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolotrt.decode.nms_cpu import pairwise_iou
from yolotrt.detections import Detections
from yolotrt.evaluation.labels import Labels

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
GRID = np.linspace(0, 1, 1001)
"""The confidences, or recalls, at which curves are sampled."""
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """What became of precision and recall, per class that has labels. Curves are for IoU 0.5.

    Attributes:
        class_ids: int64 `[c]`.
        ap: `[c, 10]`: average precision at IoU 0.50, 0.55, ... 0.95, as Ultralytics counts it.
        precision_at_recall: `[c, 1001]` over recall `GRID`.
        precision, recall, f1: `[c, 1001]` over confidence `GRID`.
    """

    class_ids: npt.NDArray[np.int64]
    ap: Float64Array
    precision_at_recall: Float64Array
    precision: Float64Array
    recall: Float64Array
    f1: Float64Array

    @property
    def map50_95(self) -> float:
        """Mean over classes and IoU thresholds; 0 without classes."""
        return float(self.ap.mean()) if self.ap.size else 0.0

    @property
    def map50(self) -> float:
        """Mean over classes at IoU 0.5; 0 without classes."""
        return float(self.ap[:, 0].mean()) if self.ap.size else 0.0

    @property
    def best(self) -> int:
        """The position in `GRID` where the mean F1 over the classes is highest."""
        return int(smooth(self.f1.mean(axis=0)).argmax()) if len(self.f1) else 0


class CurveCollector:
    """Takes pictures one by one and keeps 16 bytes per box."""

    def __init__(self) -> None:
        self._right: list[BoolArray] = [np.zeros((0, len(IOU_THRESHOLDS)), bool)]
        self._confidence = [np.zeros(0, np.float32)]
        self._class_id = [np.zeros(0, np.int32)]
        self._labels = [np.zeros(0, np.int64)]

    def add(self, labels: Labels, detections: Detections) -> None:
        """Take one picture. Crowds are left out: neither definition of Ultralytics' knows them."""
        labels = labels[~labels.crowd]
        self._right.append(right_at(labels, detections))
        self._confidence.append(detections.confidence)
        self._class_id.append(detections.class_id.astype(np.int32))
        self._labels.append(labels.class_id)

    def curves(self) -> Curves:
        """The curves of everything taken so far."""
        right, confidence = np.concatenate(self._right), np.concatenate(self._confidence)
        class_id = np.concatenate(self._class_id)
        order = np.argsort(-confidence, kind="stable")
        right, confidence, class_id = right[order], confidence[order].astype(np.float64), class_id[order]
        present, counts = np.unique(np.concatenate(self._labels), return_counts=True)
        shape = (len(present), len(GRID))
        ap = np.zeros((len(present), len(IOU_THRESHOLDS)))
        at_recall, precision, recall = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for row, (c, count) in enumerate(zip(present, counts, strict=True)):
            of_class = class_id == c
            if not of_class.any():
                continue
            hits = right[of_class].cumsum(axis=0)
            recalls = hits / count
            precisions = hits / np.arange(1, len(hits) + 1)[:, None]
            for i in range(len(IOU_THRESHOLDS)):
                ap[row, i] = average_precision(recalls[:, i], precisions[:, i])
            at_recall[row] = np.interp(GRID, *_envelope(recalls[:, 0], precisions[:, 0]))
            # np.interp wants rising positions, and confidence falls.
            falling = -confidence[of_class]
            recall[row] = np.interp(-GRID, falling, recalls[:, 0], left=0)
            precision[row] = np.interp(-GRID, falling, precisions[:, 0], left=1)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-16)
        return Curves(
            class_ids=present, ap=ap, precision_at_recall=at_recall, precision=precision, recall=recall, f1=f1
        )


def right_at(labels: Labels, detections: Detections) -> BoolArray:
    """Whether each box is right at each IoU threshold: `[n, 10]`.

    Boxes choose by falling confidence: of the labels of their class that are still free the one they overlap most.
    """
    right = np.zeros((len(detections), len(IOU_THRESHOLDS)), bool)
    iou = pairwise_iou(labels.xyxy.astype(np.float32), detections.xyxy)
    iou[labels.class_id[:, None] != detections.class_id[None]] = 0
    free = np.ones((len(labels), len(IOU_THRESHOLDS)), bool)
    thresholds = np.arange(len(IOU_THRESHOLDS))
    for box in np.flatnonzero((iou >= IOU_THRESHOLDS[0]).any(axis=0)):
        overlap = np.where(free, iou[:, box, None], 0)
        nearest = overlap.argmax(axis=0)
        right[box] = overlap[nearest, thresholds] >= IOU_THRESHOLDS
        free[nearest, thresholds] &= ~right[box]
    return right


def average_precision(recall: Float64Array, precision: Float64Array) -> float:
    """The area below the curve through the points (`recall`, `precision`), both `[n]`, by falling confidence."""
    heights = np.interp(_RECALLS, *_envelope(recall, precision))
    return float(((heights[1:] + heights[:-1]) / 2).mean())


def _envelope(recall: Float64Array, precision: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The curve with its ends (1 at recall 0, a drop to 0 behind the last point) and falling throughout."""
    x = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    y = np.concatenate(([1.0], precision, [0.0, 0.0]))
    return x, np.maximum.accumulate(y[::-1])[::-1]


def smooth(curve: Float64Array, width: float = 0.1) -> Float64Array:
    """A moving average over a share `width` of the curve, its ends held, so that one lucky threshold does not win."""
    half = max(round(len(curve) * width / 2), 1)
    padded = np.concatenate((np.full(half, curve[0]), curve, np.full(half, curve[-1])))
    return np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")
