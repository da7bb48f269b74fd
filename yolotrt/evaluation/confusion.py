"""Which classes are taken for which, and what is wrong with a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolotrt.decode.nms_cpu import pairwise_iou
from yolotrt.detections import Detections
from yolotrt.evaluation.labels import Labels

BoolArray = npt.NDArray[np.bool_]

MIN_CONFIDENCE = 0.25
"""Boxes weaker than this are not shown to a user, so they confuse nobody."""
_MIN_IOU = 0.45


@dataclass(frozen=True, kw_only=True, eq=False)
class Mistakes:
    """What is wrong with one picture.

    Attributes:
        found: the boxes above `MIN_CONFIDENCE`.
        right: bool `[found]`: of the class of the label they lie on.
        met: bool `[labels]`: a right box lies on it. Crowds count as met.
    """

    found: Detections
    right: BoolArray
    met: BoolArray

    @property
    def count(self) -> int:
        """Wrong boxes and labels that nothing right lies on."""
        return int((~self.right).sum() + (~self.met).sum())


class ConfusionMatrix:
    """Counts `[nc + 1, nc + 1]`: rows are what was found, columns what is there; the last of each is background."""

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes + 1, classes + 1), np.int64)

    def add(self, labels: Labels, detections: Detections) -> Mistakes:
        """Take one picture. Each box, by falling confidence, lies on the free label that it overlaps most."""
        found = detections[detections.confidence > MIN_CONFIDENCE]
        background = len(self.counts) - 1
        iou = pairwise_iou(labels.xyxy.astype(np.float32), found.xyxy)
        right, met = np.zeros(len(found), bool), labels.crowd.copy()
        free = np.ones(len(labels), bool)
        for box, class_id in enumerate(found.class_id.tolist()):
            overlap = np.where(free & ~labels.crowd, iou[:, box], 0)
            label = int(overlap.argmax()) if len(labels) else -1
            if label >= 0 and overlap[label] > _MIN_IOU:
                free[label] = False
                there = int(labels.class_id[label])
                right[box] = met[label] = there == class_id
                self.counts[class_id, there] += 1
            elif bool((iou[labels.crowd, box] > _MIN_IOU).any()):
                right[box] = True  # inside a crowd nothing is wrong
            else:
                self.counts[class_id, background] += 1
        self.counts[background] += np.bincount(labels.class_id[free & ~labels.crowd], minlength=len(self.counts))
        return Mistakes(found=found, right=right, met=met)
