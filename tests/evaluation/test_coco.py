"""Mean average precision of hand-made cases whose value is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.boxes import detections as found
from yolotrt.evaluation.coco import CocoEvaluator, evaluate_coco
from yolotrt.evaluation.labels import Labels


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    boxes = [(1, 1, [10, 10, 40, 40]), (1, 2, [60, 60, 20, 20]), (2, 1, [0, 0, 50, 50])]
    path = tmp_path / "val.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": i, "width": 100, "height": 100, "file_name": f"{i}.png"} for i in (1, 2)],
                "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
                "annotations": [
                    {"id": i, "image_id": image, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
                    for i, (image, c, b) in enumerate(boxes, 1)
                ],
            }
        )
    )
    return path


def test_perfect_detections_score_one(labels: Path) -> None:
    metrics = evaluate_coco(
        labels,
        {1: found((10, 10, 50, 50, 0.9, 0), (60, 60, 80, 80, 0.9, 1)), 2: found((0, 0, 50, 50, 0.9, 0))},
        category_ids=(1, 2),
    )
    assert (metrics.map50_95, metrics.map50, metrics.map75) == pytest.approx((1, 1, 1))


def test_a_missed_class_and_a_loose_box_cost_their_share(labels: Path) -> None:
    # Class a: both boxes found, one with IoU 0.8 (thresholds 0.50 to 0.80 pass: 7 of 10). Class b: nothing.
    metrics = evaluate_coco(
        labels, {1: found((10, 10, 50, 42, 0.9, 0)), 2: found((0, 0, 50, 40, 0.9, 0))}, category_ids=(1, 2)
    )
    assert metrics.map50 == pytest.approx(0.5)
    assert metrics.map50_95 == pytest.approx(0.7 * 0.5, abs=0.01)


def test_no_detections_score_zero(labels: Path) -> None:
    assert evaluate_coco(labels, {1: found(), 2: found()}).map50_95 == 0.0


def test_class_by_class_it_is_what_coco_gives_for_the_whole_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    boxes_of = {}
    evaluator = CocoEvaluator()
    for image in range(1, 31):
        images.append({"id": image, "width": 300, "height": 300, "file_name": f"{image}.png"})
        count = int(rng.integers(0, 8))
        corners, sides = rng.random((count, 2)) * 150, 5 + rng.random((count, 2)) * 130
        boxes, kinds = np.concatenate((corners, corners + sides), axis=1), rng.integers(0, 2, count)
        crowd = rng.random(count) < 0.1
        for box, kind, is_crowd in zip(boxes, kinds, crowd, strict=True):
            x1, y1, x2, y2 = box.tolist()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(kind) + 1, "iscrowd": int(is_crowd),
                 "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            )  # fmt: skip
        moved = boxes.repeat(2, axis=0) + rng.normal(0, 3, (2 * count, 4))
        rows = np.concatenate((moved, np.sort(rng.random((2 * count, 1)), axis=0)[::-1], kinds.repeat(2)[:, None]), 1)
        boxes_of[image] = found(*map(tuple, rows.tolist()))
        areas = np.prod(sides, axis=1)
        evaluator.add(Labels(xyxy=boxes, class_id=kinds, area=areas, crowd=crowd), boxes_of[image])
    path = tmp_path / "val.json"
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    whole, by_class = evaluate_coco(path, boxes_of, category_ids=(1, 2)), evaluator.metrics()
    assert 0.1 < whole.map50_95 < 0.9
    for name in ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large"):
        assert getattr(by_class, name) == pytest.approx(getattr(whole, name), abs=1e-9)
        for class_id in (0, 1):
            one, other = by_class.per_class[class_id], whole.per_class[class_id]
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)


def test_nothing_labelled_scores_nothing() -> None:
    evaluator = CocoEvaluator()
    none = Labels(xyxy=np.zeros((0, 4)), class_id=np.zeros(0, np.int64), area=np.zeros(0), crowd=np.zeros(0, bool))
    evaluator.add(none, found((0, 0, 9, 9, 0.5, 0)))
    metrics = evaluator.metrics()
    assert (metrics.map50_95, metrics.map_small, metrics.per_class) == (0, None, {})
