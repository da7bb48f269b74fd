"""Numerical comparison of two versions of a model on the same pictures: raw outputs, and the boxes decoded from them.

Both are looked at because they fail differently: an error of the box branch leaves every score right, and a change of
the order among equal scores changes raw outputs of end-to-end heads without changing a box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.decode import decode
from yolotrt.decode.nms_cpu import pairwise_iou
from yolotrt.decode.raw import as_anchor_free
from yolotrt.detections import Detections
from yolotrt.errors import ExportError
from yolotrt.model_spec import ModelSpec
from yolotrt.options import DetectOptions
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import RawOutputs

Float32Array = npt.NDArray[np.float32]

_CONF = 0.25
_CONF_SLACK = 0.05  # a box is looked for among those down to this far below the threshold
_FLOOR = 0.1  # rows of end-to-end heads below this score are in no stable order


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The most that two versions may differ by.

    Attributes:
        box_px: of a raw box coordinate in input pixels, or `box_relative` of the box's longer side if that is more.
        score: of a raw class score, 0..1.
        iou: of a decoded box with its counterpart, at least, for the share `matched` of all decoded boxes.
    """

    box_px: float
    box_relative: float
    score: float
    iou: float
    matched: float


SAME_PRECISION = Tolerance(box_px=0.1, box_relative=1e-3, score=1e-3, iou=0.99, matched=0.95)
"""FP32 against FP32: only the order of summation differs. Raw outputs are held to that; of the decoded boxes some may
differ, where equal scores compete."""

LOWER_PRECISION = Tolerance(box_px=math.inf, box_relative=math.inf, score=0.1, iou=0.9, matched=0.95)
"""Beyond this, FP16 is broken for the model. What it should reach is `GOOD_IOU`."""

GOOD_IOU, GOOD_SHARE = 0.98, 0.99
"""An FP16 model keeps this share of its boxes at this IoU."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """How far two versions of a model are apart.

    Attributes:
        pictures: compared.
        box_px: largest error of a raw box coordinate, input pixels.
        box_relative: the same over the longer side of its box.
        score: largest error of a raw score; score_relative is over the larger of the score and 0.01.
        worst_confidence: largest difference in confidence between a decoded box and its counterpart.
        ious: of each decoded box with a confidence above 0.25, of either version, with its counterpart of the same
            class in the other; 0.0 where there is none.
    """

    pictures: int
    box_px: float
    box_relative: float
    score: float
    score_relative: float
    worst_confidence: float
    ious: npt.NDArray[np.float64] = field(repr=False)

    def matched(self, iou: float) -> int:
        """How many decoded boxes have a counterpart with at least this IoU."""
        return int((self.ious >= iou).sum())

    def reaches(self, iou: float, share: float) -> bool:
        """Whether that share of the boxes has that IoU. One box may always miss: of few, a single tie would decide."""
        return len(self.ious) - self.matched(iou) <= max(1, (1 - share) * len(self.ious))

    def summary(self, iou: float) -> str:
        """One line on everything, for versions that should be equal."""
        raw = f"raw boxes within {self.box_px:.2g} px, scores within {self.score:.1g}"
        return f"{raw}, {self.boxes_summary(iou)}" if len(self.ious) else f"{raw} on {self._pictures}"

    def boxes_summary(self, iou: float) -> str:
        """One line on what is found. Raw boxes are left out: those that nobody would look at may well move."""
        if not len(self.ious):
            return f"no boxes, scores within {self.score:.1g} on {self._pictures}"
        found = f"{self.matched(iou)} of {len(self.ious)} boxes at IoU {iou} or more"
        return f"{found} (mean {self.ious.mean():.4f}) on {self._pictures}"

    @property
    def _pictures(self) -> str:
        return f"{self.pictures} picture{'s' * (self.pictures != 1)}"

    def to_dict(self) -> dict[str, float]:
        """JSON-ready numbers."""
        return {
            "pictures": self.pictures,
            "box_px": self.box_px,
            "box_relative": self.box_relative,
            "score": self.score,
            "score_relative": self.score_relative,
            "boxes": len(self.ious),
            "boxes_iou_098": self.matched(0.98),
            "boxes_iou_099": self.matched(0.99),
            "worst_iou": float(self.ious.min(initial=1.0)),
            "mean_iou": float(self.ious.mean()) if len(self.ious) else 1.0,
            "worst_confidence": self.worst_confidence,
        }

    def check(self, tolerance: Tolerance, *, what: str, remedy: str) -> None:
        """Raise ExportError where the difference is larger than `tolerance`."""
        problem = None
        if self.box_px > tolerance.box_px and self.box_relative > tolerance.box_relative:
            problem = f"box coordinates that differ by {self.box_px:.3g} px", f"at most {tolerance.box_px} px"
        elif self.score > tolerance.score:
            problem = f"scores that differ by {self.score:.3g}", f"at most {tolerance.score}"
        elif not self.reaches(tolerance.iou, tolerance.matched):
            found = f"{self.matched(tolerance.iou)} of {len(self.ious)} boxes at IoU {tolerance.iou}"
            problem = found, f"at least {tolerance.matched:.0%} of them"
        if problem:
            raise ExportError(what, got=problem[0], expected=problem[1], remedy=remedy)


def compare(
    reference: Sequence[RawOutputs],
    other: Sequence[RawOutputs],
    geometries: Sequence[Sequence[LetterboxGeometry]],
) -> Comparison:
    """Compare the outputs of two versions, batch by batch.

    Raises:
        ExportError: the shapes differ.
        NonFiniteOutputError: NaN or infinity in one of them.
    """
    raw: npt.NDArray[np.float64] = np.zeros(4)
    matches: list[npt.NDArray[np.float64]] = []
    for one, two, placed in zip(reference, other, geometries, strict=True):
        a, b = as_anchor_free(one), as_anchor_free(two)
        if a.first.shape != b.first.shape:
            raise ExportError("the output changed its shape", got=b.first.shape, expected=a.first.shape)
        raw = np.maximum(raw, _raw_errors(a, b))
        matches += [_match(a, b, placed), _match(b, a, placed)]
    found = np.concatenate(matches) if matches else np.empty((0, 2))
    return Comparison(
        pictures=sum(len(g) for g in geometries),
        box_px=float(raw[0]),
        box_relative=float(raw[1]),
        score=float(raw[2]),
        score_relative=float(raw[3]),
        worst_confidence=float(found[found[:, 0] > 0, 1].max(initial=0.0)),
        ious=found[:, 0],
    )


def _raw_errors(a: RawOutputs, b: RawOutputs) -> npt.NDArray[np.float64]:
    """(box px, box relative, score, score relative): the largest of each."""
    boxes_a, scores_a = _boxes_and_scores(a.first, a.spec)
    boxes_b, scores_b = _boxes_and_scores(b.first, b.spec)
    score = np.abs(scores_a - scores_b)
    if a.spec.head in ("end_to_end", "detr"):
        boxes_a, boxes_b = _align(a.first, b.first)
        if a.spec.head == "detr":
            boxes_a, boxes_b = boxes_a * max(a.spec.imgsz), boxes_b * max(a.spec.imgsz)
    px = np.abs(boxes_a - boxes_b)
    relative = px / np.maximum(_longer_side(boxes_a, a.spec)[:, None], 1.0)
    return np.array([_max(px), _max(relative), _max(score), _max(score / np.maximum(np.abs(scores_a), 0.01))])


def _max(values: npt.NDArray[Any]) -> float:
    # NaN in a raw output is a difference beyond any tolerance, not one that every comparison lets pass.
    return float(np.nan_to_num(values, nan=np.inf, posinf=np.inf).max(initial=0.0))


def _boxes_and_scores(output: npt.NDArray[Any], spec: ModelSpec) -> tuple[Float32Array, Float32Array]:
    """Boxes `[n, 4]` and scores of all pictures of a batch, in an order that both versions share."""
    output = output.astype(np.float32)
    if spec.head == "anchor_free":
        rows = np.moveaxis(output, 1, 2).reshape(-1, output.shape[1])
        return rows[:, :4], rows[:, 4:]
    if spec.head == "objectness":
        rows = output.reshape(-1, output.shape[2])
        return rows[:, :4], rows[:, 4:]
    return output[..., :4].reshape(-1, 4), -np.sort(-output[..., 4], axis=1)


def _align(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[Float32Array, Float32Array]:
    """Boxes `[n, 4]` of `a` with a score that stands out, each with the nearest box of its class and picture in `b`."""
    pairs: list[tuple[Float32Array, Float32Array]] = []
    for rows_a, rows_b in zip(a.astype(np.float32), b.astype(np.float32), strict=True):
        for row in rows_a[rows_a[:, 4] > max(_FLOOR, rows_b[-1, 4] + 1e-3)]:
            same = rows_b[rows_b[:, 5] == row[5]]
            if len(same):
                pairs.append((row[:4], same[np.abs(same[:, :5] - row[:5]).max(axis=1).argmin(), :4]))
    if not pairs:
        return np.empty((0, 4), np.float32), np.empty((0, 4), np.float32)
    return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


def _longer_side(boxes: Float32Array, spec: ModelSpec) -> Float32Array:
    sides = boxes[:, 2:] - boxes[:, :2] if spec.head == "end_to_end" else boxes[:, 2:]
    longer: Float32Array = np.abs(sides).max(axis=1, initial=0.0)
    return longer


def _match(a: RawOutputs, b: RawOutputs, geometries: Sequence[LetterboxGeometry]) -> npt.NDArray[np.float64]:
    """For each decoded box of `a`: (IoU with its best counterpart in `b`, difference in confidence), `[n, 2]`."""
    # A box at the threshold may fall on either side of it, so its counterpart is looked for a little below.
    mine = decode(a, geometries, DetectOptions(conf=_CONF))
    theirs = decode(b, geometries, DetectOptions(conf=_CONF - _CONF_SLACK))
    return np.concatenate([_match_one(x, y) for x, y in zip(mine, theirs, strict=True)])


def _match_one(mine: Detections, theirs: Detections) -> npt.NDArray[np.float64]:
    has_area = (mine.xyxy[:, 2:] > mine.xyxy[:, :2]).all(axis=1)  # without, a box overlaps not even itself
    xyxy, class_id, confidence = mine.xyxy[has_area], mine.class_id[has_area], mine.confidence[has_area]
    found = np.zeros((len(xyxy), 2))
    if len(theirs.xyxy) and len(found):
        iou = pairwise_iou(xyxy, theirs.xyxy) * (class_id[:, None] == theirs.class_id[None])
        best = iou.argmax(axis=1)
        found[:, 0] = iou[np.arange(len(found)), best]
        found[:, 1] = np.abs(confidence - theirs.confidence[best])
    return found
