"""Average precision as Ultralytics counts it, the curves, and the confusion matrix."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tests.support.boxes import detections as found
from yolotrt.evaluation.confusion import ConfusionMatrix
from yolotrt.evaluation.curves import GRID, CurveCollector, average_precision, right_at, smooth
from yolotrt.evaluation.labels import Labels


def labels(*rows: tuple[float, float, float, float, int], crowd: tuple[int, ...] = ()) -> Labels:
    """Rows of x1, y1, x2, y2, class; `crowd` are the numbers of those that are crowds."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Labels(
        xyxy=table[:, :4],
        class_id=table[:, 4].astype(np.int64),
        area=np.ones(len(table)),
        crowd=np.isin(np.arange(len(table)), crowd),
    )


def test_each_label_is_taken_once_and_by_the_stronger_box() -> None:
    right = right_at(
        labels((0, 0, 10, 10, 0), (20, 20, 30, 30, 1)),
        found((0, 0, 10, 9.1, 0.9, 0), (0, 0, 10, 10, 0.8, 0), (20, 20, 30, 30, 0.7, 0), (20, 20, 30, 26.1, 0.6, 1)),
    )
    # 0.91: all thresholds but the last; then only the last is left for the second box.
    assert right.sum(axis=1).tolist() == [9, 1, 0, 3]
    assert right[1].tolist() == [False] * 9 + [True]


def test_known_average_precision() -> None:
    assert average_precision(np.array([1.0]), np.array([1.0])) == pytest.approx(0.995)
    assert average_precision(np.array([0.5]), np.array([1.0])) == pytest.approx(0.5, abs=0.006)


def test_a_picture_without_boxes_and_one_without_labels() -> None:
    collector = CurveCollector()
    assert collector.curves().map50_95 == 0
    assert collector.curves().best == 0
    collector.add(labels(), found((0, 0, 1, 1, 0.5, 0)))
    collector.add(labels((0, 0, 10, 10, 1)), found())
    curves = collector.curves()
    assert curves.class_ids.tolist() == [1]
    assert curves.map50 == 0


def test_the_best_threshold_divides_right_from_wrong() -> None:
    collector = CurveCollector()
    for i in range(20):
        collector.add(
            labels((0, 0, 10, 10, 0)), found((0, 0, 10, 10, 0.8 + i / 1000, 0), (50, 50, 60, 60, 0.3 - i / 1000, 0))
        )
    curves = collector.curves()
    assert 0.3 < GRID[curves.best] < 0.8
    assert curves.f1[0, curves.best] > 0.99  # between the two groups the curve is a straight line
    assert curves.recall[0, 900] == 0


def test_smoothing_keeps_length_and_level() -> None:
    curve = np.r_[np.zeros(50), 1, np.zeros(50)]
    assert len(smooth(curve)) == len(curve)
    assert smooth(curve).max() == pytest.approx(1 / 11)
    np.testing.assert_allclose(smooth(np.ones(1001)), 1)


def test_the_same_as_ultralytics_on_random_boxes() -> None:
    pytest.importorskip("ultralytics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ultralytics.utils.metrics import ap_per_class
    rng = np.random.default_rng(0)
    collector = CurveCollector()
    right, confidences, classes, truth = [], [], [], []
    for _ in range(40):
        corners = rng.random((6, 2)) * 60
        boxes = np.concatenate((corners, corners + 10 + rng.random((6, 2)) * 25), axis=1)
        kinds = rng.integers(0, 3, 6)
        there = labels(*[(*b, int(c)) for b, c in zip(boxes.tolist(), kinds, strict=True)])
        moved = boxes.repeat(2, axis=0) + rng.normal(0, 2, (12, 4))
        confidence = np.sort(rng.random(12))[::-1]
        seen = found(*[(*b, s, int(c)) for b, s, c in zip(moved.tolist(), confidence, kinds.repeat(2), strict=True)])
        collector.add(there, seen)
        right.append(right_at(there, seen))
        confidences.append(seen.confidence)
        classes.append(seen.class_id)
        truth.append(there.class_id)
    theirs = ap_per_class(*(np.concatenate(parts) for parts in (right, confidences, classes, truth)))
    ours = collector.curves()
    np.testing.assert_allclose(ours.ap, theirs[5], atol=1e-6)
    assert 0.2 < ours.map50_95 < 0.9
    # Their curves have 1,000 samples and ours 1,001; the best threshold is the same within that.
    assert GRID[ours.best] == pytest.approx(np.linspace(0, 1, 1000)[smooth(theirs[9].mean(0)).argmax()], abs=0.01)


def test_confusion_and_mistakes() -> None:
    matrix = ConfusionMatrix(2)
    mistakes = matrix.add(
        labels((0, 0, 10, 10, 0), (20, 20, 30, 30, 1), (60, 60, 70, 70, 1)),
        found(
            (0, 0, 10, 10, 0.9, 0),
            (20, 20, 30, 30, 0.8, 0),  # another class
            (40, 40, 50, 50, 0.7, 1),  # nothing there
            (0, 0, 10, 10, 0.6, 0),  # once too often
            (60, 60, 70, 70, 0.2, 1),  # too weak to be shown
        ),
    )
    assert matrix.counts.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 0]]
    assert mistakes.right.tolist() == [True, False, False, False]
    assert mistakes.met.tolist() == [True, False, False]
    assert mistakes.count == 5


def test_in_a_crowd_nothing_is_wrong() -> None:
    matrix = ConfusionMatrix(2)
    there = labels((0, 0, 50, 50, 0), (60, 60, 70, 70, 1), crowd=(0,))
    mistakes = matrix.add(there, found((0, 0, 50, 40, 0.9, 0), (60, 60, 70, 70, 0.8, 1)))
    assert matrix.counts.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert mistakes.count == 0
    collector = CurveCollector()
    collector.add(there, found())
    assert collector.curves().class_ids.tolist() == [1]


def test_no_labels_and_no_boxes() -> None:
    matrix = ConfusionMatrix(1)
    assert matrix.add(labels(), found()).count == 0
    assert matrix.add(labels(), found((0, 0, 1, 1, 0.9, 0))).count == 1
    assert matrix.counts.tolist() == [[0, 1], [0, 0]]
