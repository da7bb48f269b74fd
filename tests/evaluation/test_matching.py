"""Pairing of boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.boxes import detections as boxes
from yolotrt.evaluation.matching import match, match_all


def test_counts() -> None:
    reference = boxes((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.8, 1), (70, 70, 80, 80, 0.5, 0))
    candidate = boxes((0, 0, 10, 9.5, 0.88, 0), (50, 50, 60, 60, 0.8, 0), (20, 20, 30, 30, 0.3, 1))
    m = match(reference, candidate, min_iou=0.9)
    assert (m.reference, m.candidate, m.matched, m.missed, m.added) == (3, 3, 1, 2, 2)
    np.testing.assert_allclose(m.iou, [0.95], rtol=1e-6)
    np.testing.assert_allclose(m.confidence_delta, [-0.02], rtol=1e-4)
    assert match(reference, candidate, min_iou=0.96).matched == 0
    assert match(reference, candidate, min_iou=0.9, max_confidence_delta=0.01).matched == 0


def test_each_box_is_paired_once_and_with_its_closest() -> None:
    reference = boxes((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.8, 0))
    candidate = boxes((0, 0, 10, 9, 0.9, 0), (0, 0, 10, 10, 0.8, 0), (0, 0, 10, 10, 0.7, 0))
    m = match(reference, candidate, min_iou=0.5)
    assert m.matched == 2
    assert m.iou.tolist() == [1.0, 1.0]


def test_totals_over_pictures() -> None:
    one, two = boxes((0, 0, 10, 10, 0.9, 0)), boxes((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.8, 1))
    m = match_all([(one, two), (two, one), (boxes(), boxes())], min_iou=0.5)
    assert (m.reference, m.candidate, m.matched) == (3, 3, 2)
    assert m.matched_share == pytest.approx(2 / 3)
    assert m.added_share == pytest.approx(1 / 3)


def test_no_boxes_at_all() -> None:
    nothing = match(boxes(), boxes(), min_iou=0.5)
    assert nothing.matched_share == 1.0
    assert nothing.added_share == 0.0
    assert match(boxes(), boxes((0, 0, 1, 1, 0.5, 0)), min_iou=0.5).added_share == float("inf")
    assert match_all([], min_iou=0.5).matched_share == 1.0


@given(st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_a_model_matches_itself_in_any_order(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.random((n, 2)) * 50
    rows = np.concatenate((corner, corner + 1 + rng.random((n, 2)) * 40, rng.random((n, 1))), axis=1)
    table = [(*map(float, row), int(rng.integers(0, 2))) for row in rows]
    shuffled = [table[i] for i in rng.permutation(n)]
    assert match(boxes(*table), boxes(*shuffled), min_iou=0.999, max_confidence_delta=0).matched == n  # type: ignore[arg-type]
