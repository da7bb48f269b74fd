"""COCO mean average precision, computed by faster-coco-eval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.detections import Detections
from yolotrt.errors import MissingExtraError
from yolotrt.evaluation.labels import Labels

_MAX_DET = 100
"""COCO looks at this many boxes per picture and class, the strongest ones."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Average precision, 0..1: over IoU 0.50 to 0.95, at 0.50 and 0.75, and over 0.50 to 0.95 by the size of objects.

    Small is less than 32² pixels of the picture, large more than 96². None where there are no such objects.
    """

    map50_95: float | None
    map50: float | None
    map75: float | None
    map_small: float | None
    map_medium: float | None
    map_large: float | None


@dataclass(frozen=True, kw_only=True)
class CocoMetrics:
    """Mean average precision over the classes that have labels, 0..1; 0 where no class has any.

    Attributes:
        map50_95, map50, map75: over IoU 0.50 to 0.95, and at 0.50 and 0.75.
        map_small, map_medium, map_large: over IoU 0.50 to 0.95 by the size of objects; None where there are none.
        per_class: by class id; only classes with labels.
    """

    map50_95: float
    map50: float
    map75: float
    map_small: float | None
    map_medium: float | None
    map_large: float | None
    per_class: Mapping[int, Precision]


class CocoEvaluator:
    """Collects detections picture by picture and scores them class by class.

    What is kept of a box are 24 bytes; the records that COCO's evaluation needs, some 60 times as much, exist only for
    one class at a time.

    Raises:
        MissingExtraError: faster-coco-eval is not installed (extra `eval`).
    """

    def __init__(self) -> None:
        _require()
        self._images = 0
        self._truth: dict[int, list[tuple[int, Labels]]] = defaultdict(list)
        self._found: dict[int, list[tuple[int, npt.NDArray[np.float32]]]] = defaultdict(list)

    def add(self, labels: Labels, detections: Detections) -> None:
        """Take one picture: what is there, and what was found, from a low threshold (`conf` 0.001) on."""
        image, self._images = self._images, self._images + 1
        for class_id in np.unique(labels.class_id).tolist():
            self._truth[class_id].append((image, labels[labels.class_id == class_id]))
        for class_id in np.unique(detections.class_id).tolist():
            chosen = np.flatnonzero(detections.class_id == class_id)[:_MAX_DET]
            boxes, confidence = detections.xyxy[chosen], detections.confidence[chosen, None]
            self._found[class_id].append((image, np.concatenate((boxes, confidence), axis=1)))

    def metrics(self) -> CocoMetrics:
        """The score of everything taken so far."""
        classes = {}
        for class_id in sorted(self._truth):
            precision = self._class(class_id)
            if precision.map50_95 is not None:  # else it has crowds only
                classes[class_id] = precision
        return CocoMetrics(
            map50_95=_mean([c.map50_95 for c in classes.values()]) or 0.0,
            map50=_mean([c.map50 for c in classes.values()]) or 0.0,
            map75=_mean([c.map75 for c in classes.values()]) or 0.0,
            map_small=_mean([c.map_small for c in classes.values()]),
            map_medium=_mean([c.map_medium for c in classes.values()]),
            map_large=_mean([c.map_large for c in classes.values()]),
            per_class=classes,
        )

    def _class(self, class_id: int) -> Precision:
        """Pictures with neither a label nor a box of the class have no say in its precision."""
        truth: list[dict[str, Any]] = [
            {"image_id": image, "bbox": box, "area": area, "iscrowd": int(crowd), "category_id": 1}
            for image, labels in self._truth[class_id]
            for box, area, crowd in zip(_xywh(labels.xyxy), labels.area.tolist(), labels.crowd, strict=True)
        ]
        found: list[dict[str, Any]] = [
            {"image_id": image, "bbox": box, "score": score, "category_id": 1}
            for image, rows in self._found[class_id]
            for box, score in zip(_xywh(rows[:, :4]), rows[:, 4].tolist(), strict=True)
        ]
        images = sorted({record["image_id"] for record in (*truth, *found)})
        for number, record in enumerate(truth, 1):
            record["id"] = number
        dataset = {
            "images": [{"id": image} for image in images],
            "annotations": truth,
            "categories": [{"id": 1, "name": "1"}],
        }
        return _summary(_evaluate(dataset, found, images)[0])


def evaluate_coco(
    annotations: Path, detections: Mapping[int, Detections], *, category_ids: Sequence[int] | None = None
) -> CocoMetrics:
    """Score detections against a COCO file, as it stands.

    Args:
        annotations: COCO instances JSON.
        detections: by image id, from a low threshold (`conf` 0.001), since precision is averaged over recall.
        category_ids: the COCO category of each class; the class ids themselves by default.

    Raises:
        MissingExtraError: faster-coco-eval is not installed (extra `eval`).
    """
    _require()
    found = [
        record
        for image_id, boxes in detections.items()
        for record in boxes.to_coco(image_id, category_ids=category_ids)
    ]
    precision, categories = _evaluate(str(annotations), found, list(detections))
    class_of = {c: i for i, c in enumerate(category_ids)} if category_ids is not None else {}
    classes = {
        class_of.get(category, category): _summary(precision[:, :, k : k + 1])
        for k, category in enumerate(categories)
        if (precision[:, :, k] > -1).any()
    }
    whole = _summary(precision)
    return CocoMetrics(
        map50_95=whole.map50_95 or 0.0,
        map50=whole.map50 or 0.0,
        map75=whole.map75 or 0.0,
        map_small=whole.map_small,
        map_medium=whole.map_medium,
        map_large=whole.map_large,
        per_class=classes,
    )


def _require() -> None:
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError as e:
        raise MissingExtraError("faster-coco-eval", "eval", needed_for="Mean average precision") from e


def _evaluate(
    truth: str | dict[str, Any], found: list[dict[str, Any]], images: list[int]
) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Precision `[IoU, recall, class, size]` with -1 where there is nothing to find, and the categories' ids."""
    from faster_coco_eval import COCO, COCOeval_faster

    labels = COCO(truth)
    evaluator = COCOeval_faster(labels, labels.loadRes(found), "bbox", print_function=_silent)
    evaluator.params.imgIds = images
    evaluator.evaluate()
    evaluator.accumulate()
    # The last axis is the number of boxes per picture, 1, 10 and 100.
    return np.asarray(evaluator.eval["precision"])[..., -1], [int(c) for c in evaluator.params.catIds]


def _silent(*_: object) -> None:
    """In place of faster-coco-eval's own lines."""


def _summary(precision: npt.NDArray[np.float64]) -> Precision:
    every, small, medium, large = (precision[..., size] for size in range(4))
    return Precision(
        map50_95=_average(every),
        map50=_average(every[0]),
        map75=_average(every[5]),
        map_small=_average(small),
        map_medium=_average(medium),
        map_large=_average(large),
    )


def _average(precision: npt.NDArray[np.float64]) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that there are."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _xywh(xyxy: npt.NDArray[Any]) -> list[list[float]]:
    """Boxes `[n, 4]` of two corners as COCO writes them: x, y, width, height."""
    found: list[list[float]] = np.concatenate((xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]), axis=1).tolist()
    return found
