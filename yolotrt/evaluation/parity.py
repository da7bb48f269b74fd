"""Does one model say what another says? Both run over the same pictures, and their boxes are paired one to one.

**Pairs.** Two boxes of one class can be a pair if they overlap by an IoU of 0.5 or more; the closest pair first, each
box once. A pair *matches* at an IoU of `min_iou` or more; below that the box has *moved*.

**Flicker.** A box whose confidence is 0.2501 in one model and 0.2499 in the other is no difference that matters, but
cutting both at 0.25 makes one of it. So a box above `conf` may also be paired with one below it, if their confidences
differ by at most `margin`. A strong box that falls below `conf` by more than that is missed: a user no longer sees it.

**The share** that decides is the smaller one of: boxes of the reference that are matched, boxes of the candidate that
are matched. So losing boxes and inventing them both count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.decode.nms_cpu import pairwise_iou
from yolotrt.detections import Detections
from yolotrt.detector import Detector
from yolotrt.errors import EvaluationError, UsageError
from yolotrt.evaluation.matching import greedy
from yolotrt.evaluation.reading import OnProblem, detect_pictures
from yolotrt.evaluation.threshold import Threshold, ThresholdSearch
from yolotrt.options import DetectOptions

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

WORST = 8
"""How many of the pictures that differ most are named."""
_PAIR_IOU = 0.5


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """What counts as the same box.

    Attributes:
        conf: boxes above this confidence are compared, 0..1.
        iou: overlap above which non-maximum suppression drops the weaker box, in both models.
        min_iou: overlap that a matching pair needs, 0.5..1. At 0.9 a box 20 pixels wide may shift by one pixel.
        margin: difference in confidence that a pair may have if one of its boxes is not above `conf`.
        min_match: share of boxes that must match.
    """

    conf: float = 0.25
    iou: float = 0.7
    min_iou: float = 0.9
    margin: float = 0.1
    min_match: float = 0.99

    def __post_init__(self) -> None:
        for name, low in (("conf", 0.0), ("iou", 0.0), ("min_iou", _PAIR_IOU), ("margin", 0.0), ("min_match", 0.0)):
            value = getattr(self, name)
            if not low <= value <= 1:
                raise UsageError(f"option {name} is out of range", got=value, expected=f"a number from {low:g} to 1")

    @property
    def detect(self) -> DetectOptions:
        """How both models are decoded: deep enough for boxes within the margin and for the best threshold."""
        floor = max(min(self.conf / 5, self.conf - self.margin), min(self.conf, 0.001))
        return DetectOptions(conf=floor, iou=self.iou)


@dataclass(frozen=True, kw_only=True, eq=False)
class PicturePairs:
    """The boxes of one picture, paired.

    Attributes:
        picture: its file.
        reference, candidate: the boxes above `conf`, and those below that are part of a pair.
        iou, confidence_delta: float32 `[pairs]`; candidate minus reference.
        reference_counts, candidate_counts: bool per box: above `conf`.
        reference_matched, candidate_matched: bool per box: part of a pair of at least `min_iou`.
    """

    picture: Path
    reference: Detections
    candidate: Detections
    iou: Float32Array
    confidence_delta: Float32Array
    reference_counts: BoolArray
    candidate_counts: BoolArray
    reference_matched: BoolArray
    candidate_matched: BoolArray

    @property
    def missed(self) -> int:
        """Boxes of the reference without a match."""
        return int((self.reference_counts & ~self.reference_matched).sum())

    @property
    def added(self) -> int:
        """Boxes of the candidate without a match."""
        return int((self.candidate_counts & ~self.candidate_matched).sum())

    @property
    def severity(self) -> tuple[int, float]:
        """Larger is worse: boxes without a match, then how far the boxes lie apart."""
        return self.missed + self.added, 1 - float(self.iou.min()) if len(self.iou) else 0.0


def pair_up(picture: Path, reference: Detections, candidate: Detections, options: VerifyOptions) -> PicturePairs:
    """Pair the boxes of two models in one picture; both decoded with `options.detect`."""
    above_r, above_c = reference.confidence > options.conf, candidate.confidence > options.conf
    delta = candidate.confidence[None] - reference.confidence[:, None]
    both, one = above_r[:, None] & above_c[None], above_r[:, None] | above_c[None]
    # Rounding must not decide: hence the small slack.
    possible = both | (one & (np.abs(delta) <= options.margin + 1e-6))
    possible &= reference.class_id[:, None] == candidate.class_id[None]
    iou = pairwise_iou(reference.xyxy, candidate.xyxy)
    rows, columns = greedy(np.where(possible & (iou >= _PAIR_IOU), iou, -1))
    close = iou[rows, columns] >= options.min_iou
    matched_r, matched_c = np.zeros(len(reference), bool), np.zeros(len(candidate), bool)
    matched_r[rows], matched_c[columns] = close, close
    keep_r, keep_c = above_r.copy(), above_c.copy()
    keep_r[rows], keep_c[columns] = True, True
    return PicturePairs(
        picture=picture,
        reference=reference[keep_r],
        candidate=candidate[keep_c],
        iou=iou[rows, columns],
        confidence_delta=delta[rows, columns],
        reference_counts=above_r[keep_r],
        candidate_counts=above_c[keep_c],
        reference_matched=matched_r[keep_r],
        candidate_matched=matched_c[keep_c],
    )


@dataclass(frozen=True, kw_only=True)
class ClassParity:
    """The boxes of one class: of both models above `conf`, and those without a match."""

    name: str
    reference: int
    candidate: int
    missed: int
    added: int

    @property
    def match(self) -> float:
        """The smaller share of matched boxes; see the module."""
        return _share(self.reference, self.candidate, self.missed, self.added)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What came out of a comparison.

    Attributes:
        options: what counted as the same.
        names: class names of both models.
        images: pictures compared.
        classes: by class id; only classes that were found.
        moved: pairs with an IoU from 0.5 to `min_iou`. Their boxes count as missed and as added.
        flickering: matching pairs with one box above `conf` and one not.
        iou, confidence_delta: float32 `[pairs]`, moved ones included; candidate minus reference.
        threshold: where the candidate agrees best with the reference.
        worst: the pictures that differ most, worst first.
        problems: pictures that could not be read, one line each.
        left_out: their files.
    """

    options: VerifyOptions
    names: tuple[str, ...]
    images: int
    classes: dict[int, ClassParity]
    moved: int
    flickering: int
    iou: Float32Array = field(repr=False)
    confidence_delta: Float32Array = field(repr=False)
    threshold: Threshold
    worst: tuple[PicturePairs, ...] = field(repr=False)
    problems: tuple[str, ...]
    left_out: tuple[Path, ...] = field(repr=False)

    @property
    def total(self) -> ClassParity:
        """All classes together."""
        sums = {key: sum(getattr(c, key) for c in self.classes.values())
                for key in ("reference", "candidate", "missed", "added")}  # fmt: skip
        return ClassParity(name="all", **sums)

    @property
    def passed(self) -> bool:
        """Whether enough boxes match."""
        return self.total.match >= self.options.min_match

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        total = self.total
        return {
            "passed": self.passed,
            "match": round(total.match, 5),
            "images": self.images,
            "reference_boxes": total.reference,
            "candidate_boxes": total.candidate,
            "matched": total.reference - total.missed,
            "missed": total.missed,
            "added": total.added,
            "moved": self.moved,
            "flickering": self.flickering,
            "iou": spread(self.iou),
            "confidence_delta": spread(self.confidence_delta),
            "best_f1": self.threshold.to_dict(),
            "per_class": [
                {
                    "class_id": class_id,
                    "name": c.name,
                    "reference_boxes": c.reference,
                    "candidate_boxes": c.candidate,
                    "matched": c.reference - c.missed,
                    "missed": c.missed,
                    "added": c.added,
                    "match": round(c.match, 5),
                }
                for class_id, c in self.classes.items()
            ],
            "worst": [
                {"picture": str(w.picture), "missed": w.missed, "added": w.added,
                 "min_iou": round(float(w.iou.min()), 4) if len(w.iou) else None}
                for w in self.worst
            ],
            "problems": list(self.problems),
        }  # fmt: skip


def verify(
    reference: Detector,
    candidate: Detector,
    pictures: Sequence[Path],
    options: VerifyOptions | None = None,
    *,
    on_result: Callable[[], None] | None = None,
    on_problem: OnProblem | None = None,
) -> Parity:
    """Compare two models, opened with `options.detect`, one after the other over all pictures.

    Args:
        reference, candidate: stay open.
        pictures: picture files.
        options: what counts as the same; the defaults if None.
        on_result: called after each picture of each model.
        on_problem: called with the error of each picture that cannot be read.

    Raises:
        UsageError: the models have different classes.
        EvaluationError: no picture can be read, or neither model finds anything in them.
        BackendError: a model failed.
    """
    options = options or VerifyOptions()
    names = common_names(reference.names, candidate.names)
    problems: list[str] = []

    def problem(error: Exception) -> None:
        problems.append(str(error))
        if on_problem is not None:
            on_problem(error)

    found: list[tuple[Path, Detections]] = []
    for result in detect_pictures(reference, pictures, on_problem=problem):
        found.append((pictures[result.frame.index], result.detections))
        if on_result is not None:
            on_result()
    if not found:
        raise EvaluationError(f"none of the {len(pictures)} pictures can be read", got=problems[0])
    run = _Run(options, names)
    for result in detect_pictures(candidate, [path for path, _ in found], on_problem=problem):
        path, expected = found[result.frame.index]
        run.add(path, expected, result.detections)
        if on_result is not None:
            on_result()
    return run.finish(pictures, tuple(problems))


def common_names(reference: Sequence[str], candidate: Sequence[str]) -> tuple[str, ...]:
    """The class names of both models; those of the other one where one has none.

    Raises:
        UsageError: they are not the same.
    """
    if reference and candidate and tuple(reference) != tuple(candidate):
        if len(reference) != len(candidate):
            got, expected = f"{len(candidate)} classes", f"{len(reference)}"
        else:
            first = next(i for i, (a, b) in enumerate(zip(reference, candidate, strict=True)) if a != b)
            got, expected = f"class {first} {candidate[first]!r}", repr(reference[first])
        raise UsageError(
            "the candidate has other classes than the reference",
            got=got,
            expected=expected,
            remedy="Compare two exports of the same weights.",
        )
    return tuple(reference or candidate)


def spread(values: Float32Array) -> dict[str, float | None]:
    """How values are spread; None throughout where there are none."""
    keys = ("mean", "mean_abs", "min", "p1", "p5", "p50", "p95", "p99", "max")
    if not len(values):
        return dict.fromkeys(keys)
    percentiles = np.percentile(values, [0, 1, 5, 50, 95, 99, 100]).tolist()
    return {
        key: round(float(v), 5)
        for key, v in zip(keys, [values.mean(), np.abs(values).mean(), *percentiles], strict=True)
    }


class _Run:
    """The sums of one comparison."""

    def __init__(self, options: VerifyOptions, names: tuple[str, ...]) -> None:
        self._options, self._names = options, names
        self._compared: set[Path] = set()
        self._images, self._moved, self._flickering = 0, 0, 0
        self._counts: dict[int, list[int]] = {}
        self._iou, self._delta = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
        self._threshold = ThresholdSearch(options.conf)
        self._worst: list[PicturePairs] = []

    def add(self, picture: Path, reference: Detections, candidate: Detections) -> None:
        pairs = pair_up(picture, reference, candidate, self._options)
        self._images += 1
        self._compared.add(picture)
        self._moved += int((pairs.iou < self._options.min_iou).sum())
        self._flickering += int((pairs.reference_matched & ~pairs.reference_counts).sum())
        self._flickering += int((pairs.candidate_matched & ~pairs.candidate_counts).sum())
        self._iou.append(pairs.iou)
        self._delta.append(pairs.confidence_delta)
        self._threshold.add(reference, candidate)
        sides = (
            (pairs.reference, pairs.reference_counts, pairs.reference_matched),
            (pairs.candidate, pairs.candidate_counts, pairs.candidate_matched),
        )
        for side, (boxes, counts, matched) in enumerate(sides):
            for class_id in boxes.class_id[counts].tolist():
                self._counts.setdefault(class_id, [0, 0, 0, 0])[side] += 1
            for class_id in boxes.class_id[counts & ~matched].tolist():
                self._counts[class_id][2 + side] += 1
        self._worst = sorted((*self._worst, pairs), key=lambda p: p.severity, reverse=True)[:WORST]

    def finish(self, pictures: Sequence[Path], problems: tuple[str, ...]) -> Parity:
        if not self._counts:
            raise EvaluationError(
                f"neither model finds anything in {self._images} pictures, so nothing was compared",
                remedy="Give pictures like those the model will see, or a lower --conf.",
            )
        names = dict(enumerate(self._names))
        return Parity(
            options=self._options,
            names=self._names,
            images=self._images,
            classes={
                c: ClassParity(name=names.get(c, str(c)), reference=r, candidate=k, missed=m, added=a)
                for c, (r, k, m, a) in sorted(self._counts.items())
            },
            moved=self._moved,
            flickering=self._flickering,
            iou=np.concatenate(self._iou),
            confidence_delta=np.concatenate(self._delta),
            threshold=self._threshold.best(),
            worst=tuple(self._worst),
            problems=problems,
            left_out=tuple(p for p in pictures if p not in self._compared),
        )


def _share(reference: int, candidate: int, missed: int, added: int) -> float:
    """Of a model without boxes all are matched; the other one's are not."""
    return min(
        (reference - missed) / reference if reference else 1.0, (candidate - added) / candidate if candidate else 1.0
    )
