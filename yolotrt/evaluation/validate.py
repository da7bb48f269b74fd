"""How good a model is on a labelled data set."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.detections import Detections
from yolotrt.detector import Detector
from yolotrt.errors import DatasetError, ModelError
from yolotrt.evaluation.coco import CocoEvaluator, CocoMetrics
from yolotrt.evaluation.confusion import ConfusionMatrix, Mistakes
from yolotrt.evaluation.curves import GRID, CurveCollector, Curves
from yolotrt.evaluation.dataset import align
from yolotrt.evaluation.labels import Dataset, Sample
from yolotrt.evaluation.reading import detect_pictures
from yolotrt.options import DetectOptions

WORST = 8
"""How many of the pictures with the most mistakes are kept."""

VAL_OPTIONS = DetectOptions(conf=0.001, iou=0.7, max_det=300, multi_label=True, clip=False)
"""What Ultralytics' `val` decodes with. It compares boxes before they are clipped; COCO gets them clipped."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What was measured.

    Attributes:
        metrics: as COCO counts.
        curves: over confidence and recall, and average precision as Ultralytics counts it.
        confusion: int64 `[nc + 1, nc + 1]`; see `ConfusionMatrix`.
        names: class names of the labels and of `confusion`.
        images: pictures measured.
        boxes: labels in them.
        images_with: by class id, in how many pictures it is labelled.
        boxes_of: by class id, how many labels it has.
        worst: the pictures with the most mistakes, worst first.
        problems: pictures that were left out, one line each.
        left_out: their files.
        seconds: from the first picture to the last.
        notes: what a reader should know of the data set.
    """

    metrics: CocoMetrics
    curves: Curves
    confusion: npt.NDArray[np.int64] = field(repr=False)
    names: tuple[str, ...]
    images: int
    boxes: int
    images_with: npt.NDArray[np.int64] = field(repr=False)
    boxes_of: npt.NDArray[np.int64] = field(repr=False)
    worst: tuple[tuple[Sample, Mistakes], ...] = field(repr=False)
    problems: tuple[str, ...]
    left_out: tuple[Path, ...] = field(repr=False)
    seconds: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        m, best = self.metrics, self.curves.best
        sizes = {name: _rounded(getattr(m, name)) for name in ("map_small", "map_medium", "map_large")}
        return {
            "map50_95": _rounded(m.map50_95),
            "map50": _rounded(m.map50),
            "map75": _rounded(m.map75),
            **sizes,
            "ultralytics": {"map50_95": _rounded(self.curves.map50_95), "map50": _rounded(self.curves.map50)},
            "best_f1": {
                "confidence": round(float(GRID[best]), 3),
                "f1": _rounded(_mean_at(self.curves.f1, best)),
                "precision": _rounded(_mean_at(self.curves.precision, best)),
                "recall": _rounded(_mean_at(self.curves.recall, best)),
            },
            "per_class": [self._class(c) for c in range(len(self.names))],
            "images": self.images,
            "boxes": self.boxes,
            "seconds": round(self.seconds, 3),
            "problems": list(self.problems),
            "notes": list(self.notes),
        }

    def _class(self, class_id: int) -> dict[str, Any]:
        found = self.metrics.per_class.get(class_id)
        keys = ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large")
        return {
            "class_id": class_id,
            "name": self.names[class_id],
            "images": int(self.images_with[class_id]),
            "boxes": int(self.boxes_of[class_id]),
            **{key: _rounded(getattr(found, key, None)) for key in keys},
        }


def validate(
    detector: Detector,
    dataset: Dataset,
    *,
    on_result: Callable[[], None] | None = None,
    on_problem: Callable[[Exception], None] | None = None,
) -> Validation:
    """Measure a detector. It should have been opened with `VAL_OPTIONS`; what it leaves out, counts as not found.

    Args:
        detector: stays open.
        dataset: from `open_dataset`.
        on_result: called after each picture.
        on_problem: called with the error of each picture that is left out: not readable, or not as labelled. In the
            calling thread or in a reading one.

    Raises:
        DatasetError: classes that are not the model's, or no picture at all could be measured.
        BackendError: the model failed.
        MissingExtraError: faster-coco-eval is not installed (extra `eval`).
    """
    run = _Run(align(dataset, detector.names), detector)
    problems: list[str] = []

    def problem(error: Exception) -> None:
        problems.append(str(error))
        if on_problem is not None:
            on_problem(error)

    started = time.perf_counter()
    for result in detect_pictures(detector, [s.path for s in run.dataset.samples], on_problem=problem):
        try:
            run.add(result.frame.index, result.detections)
        except DatasetError as e:
            problem(e)
        if on_result is not None:
            on_result()
    if not run.images:
        raise DatasetError(f"{dataset.name}: none of its {len(dataset.samples)} pictures can be used", got=problems[0])
    return run.finish(tuple(problems), time.perf_counter() - started)


class _Run:
    """The sums of one run."""

    def __init__(self, dataset: Dataset, detector: Detector) -> None:
        self.dataset = dataset
        self._measured: set[int] = set()
        # A model without names may find classes that the data set has none for.
        classes = max(len(dataset.names), len(detector.names))
        self._boxes_of, self._images_with = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        self._coco, self._curves, self._confusion = CocoEvaluator(), CurveCollector(), ConfusionMatrix(classes)
        self._worst: list[tuple[int, int, Mistakes]] = []

    @property
    def images(self) -> int:
        return len(self._measured)

    def add(self, index: int, detections: Detections) -> None:
        classes = len(self._boxes_of)
        if len(detections) and detections.class_id.max() >= classes:
            raise ModelError(
                "the model has more classes than the data set",
                got=f"class {detections.class_id.max()}",
                expected=f"0 to {classes - 1}",
            )
        sample = self.dataset.samples[index]
        labels = sample.labels(detections.size)
        self._curves.add(labels, detections)
        detections = detections.clipped()
        self._coco.add(labels, detections)
        mistakes = self._confusion.add(labels, detections)
        self._measured.add(index)
        self._boxes_of += np.bincount(labels.class_id, minlength=len(self._boxes_of))
        self._images_with[np.unique(labels.class_id)] += 1
        if mistakes.count:
            # The index settles equal counts, so that the mistakes themselves are never compared.
            heapq.heappush(self._worst, (mistakes.count, -index, mistakes))
            if len(self._worst) > WORST:
                heapq.heappop(self._worst)

    def finish(self, problems: tuple[str, ...], seconds: float) -> Validation:
        worst = sorted(self._worst, reverse=True, key=lambda entry: entry[:2])
        return Validation(
            metrics=self._coco.metrics(),
            curves=self._curves.curves(),
            confusion=self._confusion.counts,
            names=self.dataset.names,
            images=self.images,
            boxes=int(self._boxes_of.sum()),
            images_with=self._images_with,
            boxes_of=self._boxes_of,
            worst=tuple((self.dataset.samples[-index], mistakes) for _, index, mistakes in worst),
            problems=problems,
            left_out=tuple(s.path for i, s in enumerate(self.dataset.samples) if i not in self._measured),
            seconds=seconds,
            notes=self.dataset.notes,
        )


def _mean_at(curves: npt.NDArray[np.float64], position: int) -> float:
    return float(curves[:, position].mean()) if len(curves) else 0.0


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
