"""Pair the boxes of two models, box to box: class scores alone would not show boxes that moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolotrt.decode.nms_cpu import pairwise_iou
from yolotrt.detections import Detections


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Which boxes of a candidate are which of the reference, over any number of pictures.

    Attributes:
        reference: number of boxes of the reference.
        candidate: number of boxes of the candidate.
        matched: pairs that agree within the tolerances.
        iou: float32 `[matched]`.
        confidence_delta: float32 `[matched]`: candidate minus reference.
    """

    reference: int
    candidate: int
    matched: int
    iou: npt.NDArray[np.float32]
    confidence_delta: npt.NDArray[np.float32]

    @property
    def missed(self) -> int:
        """Boxes of the reference without a partner."""
        return self.reference - self.matched

    @property
    def added(self) -> int:
        """Boxes of the candidate without a partner."""
        return self.candidate - self.matched

    @property
    def matched_share(self) -> float:
        """Matched boxes per box of the reference; 1.0 where it has none."""
        return self.matched / self.reference if self.reference else 1.0

    @property
    def added_share(self) -> float:
        """Added boxes per box of the reference; where it has none, 0.0 or infinity."""
        if self.reference:
            return self.added / self.reference
        return float("inf") if self.added else 0.0


def match(
    reference: Detections, candidate: Detections, *, min_iou: float, max_confidence_delta: float = 1.0
) -> Matches:
    """Pair the boxes of one picture.

    Args:
        reference, candidate: of the same picture.
        min_iou: intersection over union that a pair needs.
        max_confidence_delta: confidence difference that it may have.
    """
    iou = pairwise_iou(reference.xyxy, candidate.xyxy)
    delta = candidate.confidence[None] - reference.confidence[:, None]
    possible = (reference.class_id[:, None] == candidate.class_id[None]) & (iou >= min_iou)
    # The closest overlap pairs first. Rounding must not decide an equal confidence: hence the small slack.
    possible &= np.abs(delta) <= max_confidence_delta + 1e-6
    rows, columns = greedy(np.where(possible, iou, -1))
    return Matches(
        reference=len(reference),
        candidate=len(candidate),
        matched=len(rows),
        iou=iou[rows, columns],
        confidence_delta=delta[rows, columns],
    )


def match_all(
    pairs: Iterable[tuple[Detections, Detections]], *, min_iou: float, max_confidence_delta: float = 1.0
) -> Matches:
    """Pair the boxes of (reference, candidate) picture by picture and add up."""
    found = [match(a, b, min_iou=min_iou, max_confidence_delta=max_confidence_delta) for a, b in pairs]
    empty = np.empty(0, np.float32)
    return Matches(
        reference=sum(m.reference for m in found),
        candidate=sum(m.candidate for m in found),
        matched=sum(m.matched for m in found),
        iou=np.concatenate([empty, *(m.iou for m in found)]),
        confidence_delta=np.concatenate([empty, *(m.confidence_delta for m in found)]),
    )


def greedy(score: npt.NDArray[np.float32]) -> tuple[list[int], list[int]]:
    """Row and column of each pair, taking the highest score first, each row and column once; negative is no pair."""
    rows: list[int] = []
    columns: list[int] = []
    free_rows, free_columns = set(range(score.shape[0])), set(range(score.shape[1]))
    for flat in np.argsort(-score, axis=None, kind="stable"):
        row, column = divmod(int(flat), score.shape[1])
        if score[row, column] < 0:
            break
        if row in free_rows and column in free_columns:
            free_rows.remove(row)
            free_columns.remove(column)
            rows.append(row)
            columns.append(column)
    return rows, columns
