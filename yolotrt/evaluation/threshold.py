"""Where to cut a candidate's confidences so that it agrees best with a reference.

A precision that shifts all confidences by a little leaves the boxes right and yet changes what a user sees. The shift
of the best threshold tells that apart from boxes that are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from yolotrt.detections import Detections
from yolotrt.evaluation.curves import right_at
from yolotrt.evaluation.labels import Labels

_RAGGED = 0.002


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The candidate beside the reference's boxes above `reference`.

    Attributes:
        reference: the confidence at which the reference is cut; by definition its own best one.
        candidate: the confidence at which the candidate's F1 is highest; of those within 0.002 of it the nearest, as
            single boxes make the curve ragged.
        f1: there.
        f1_at_reference: the candidate's F1 at the reference's threshold.
    """

    reference: float
    candidate: float
    f1: float
    f1_at_reference: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "reference_confidence": round(self.reference, 5),
            "candidate_confidence": round(self.candidate, 5),
            "shift": round(self.candidate - self.reference, 5),
            "f1": round(self.f1, 5),
            "f1_at_reference_confidence": round(self.f1_at_reference, 5),
        }


class ThresholdSearch:
    """Takes pictures one by one. Boxes agree at an IoU of 0.5 and the same class."""

    def __init__(self, conf: float) -> None:
        self._conf = conf
        self._truth = 0
        self._confidence = [np.empty(0, np.float32)]
        self._right = [np.empty(0, bool)]

    def add(self, reference: Detections, candidate: Detections) -> None:
        """Take one picture; the candidate's boxes should go down well below the threshold."""
        truth = reference[reference.confidence > self._conf]
        labels = Labels(
            xyxy=truth.xyxy.astype(np.float64),
            class_id=truth.class_id,
            area=np.zeros(len(truth)),
            crowd=np.zeros(len(truth), bool),
        )
        self._truth += len(truth)
        self._confidence.append(candidate.confidence)
        self._right.append(right_at(labels, candidate)[:, 0])

    def best(self) -> Threshold:
        """The best threshold for everything taken so far."""
        confidence, right = np.concatenate(self._confidence), np.concatenate(self._right)
        order = np.argsort(-confidence, kind="stable")
        confidence, right = confidence[order].astype(np.float64), right[order]
        kept = np.arange(len(confidence) + 1)
        hits = np.concatenate(([0], right.cumsum()))
        f1 = 2 * hits / np.maximum(kept + self._truth, 1)
        # A threshold t keeps the boxes above it: keeping k of them means confidence[k] <= t < confidence[k - 1].
        low = np.concatenate((confidence, [0.0]))
        high = np.concatenate(([1.0], confidence))
        nearest = np.clip(self._conf, low, np.maximum(np.nextafter(high, 0), low))
        possible = (low < high) | (kept == 0)
        best = np.flatnonzero(possible & (f1 >= f1[possible].max() - _RAGGED))
        chosen = best[np.abs(nearest[best] - self._conf).argmin()]
        here = int((confidence > np.float32(self._conf)).sum())
        return Threshold(
            reference=self._conf,
            candidate=float(nearest[chosen]),
            f1=float(f1[chosen]),
            f1_at_reference=float(f1[here]),
        )
