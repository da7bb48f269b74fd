"""Mean average precision of hand-made cases whose value is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from yolotrt.detections import Detections
from yolotrt.evaluation.coco import evaluate_coco


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


def found(*rows: tuple[float, ...]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(
        xyxy=table[:, :4],
        confidence=table[:, 4],
        class_id=table[:, 5].astype(np.int64),
        names=("a", "b"),
        size=(100, 100),
    )


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
