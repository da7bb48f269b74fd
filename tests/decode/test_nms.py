"""Non-maximum suppression against the definition, and against Ultralytics' own where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolotrt.decode.nms_cpu import _nms_at_once, _nms_box_by_box, nms, pairwise_iou


@st.composite
def boxes(draw: st.DrawFn, grid: int = 12) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Boxes on a coarse grid with few scores and classes: many ties, duplicates and boxes without area."""
    n = draw(st.integers(0, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, grid, (n, 2))
    size = rng.integers(0, grid // 2, (n, 2))
    xyxy = np.concatenate((corner, corner + size), axis=1).astype(np.float32)
    return xyxy, (rng.integers(0, 6, n) / 5).astype(np.float32), rng.integers(0, 3, n)


def by_definition(
    xyxy: npt.NDArray[Any], confidence: npt.NDArray[Any], classes: npt.NDArray[Any] | None, iou: float
) -> list[int]:
    """Greedy suppression, pair by pair: exact for small whole numbers and thresholds that are binary fractions."""
    kept: list[int] = []
    for i in sorted(range(len(xyxy)), key=lambda i: (-float(confidence[i]), i)):
        for j in kept:
            if classes is not None and classes[i] != classes[j]:
                continue
            a, b = [float(v) for v in xyxy[i]], [float(v) for v in xyxy[j]]
            overlap = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
            if overlap > iou * union:
                break
        else:
            kept.append(i)
    return kept


@settings(max_examples=300, deadline=None)
@given(boxes(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans())
def test_equals_the_definition(data: tuple[npt.NDArray[Any], ...], iou: float, agnostic: bool) -> None:
    xyxy, confidence, class_id = data
    classes = None if agnostic else class_id
    got = nms(xyxy, confidence, classes, iou=iou, max_det=1000)
    assert got.tolist() == by_definition(xyxy, confidence, classes, iou)


@settings(max_examples=300, deadline=None)
@given(boxes(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans(), st.integers(1, 40))
def test_both_ways_give_the_same(data: tuple[np.ndarray, ...], iou: float, agnostic: bool, max_det: int) -> None:
    xyxy, confidence, class_id = data
    order = np.argsort(-confidence, kind="stable")
    classes = None if agnostic else class_id[order]
    assert _nms_at_once(xyxy[order], classes, iou, max_det) == _nms_box_by_box(xyxy[order], classes, iou, max_det)


@given(boxes(), st.integers(1, 10))
def test_max_det_cuts_the_tail(data: tuple[npt.NDArray[Any], ...], max_det: int) -> None:
    xyxy, confidence, class_id = data
    every = nms(xyxy, confidence, class_id, iou=0.5, max_det=1000)
    np.testing.assert_array_equal(nms(xyxy, confidence, class_id, iou=0.5, max_det=max_det), every[:max_det])


@settings(deadline=None)
@given(boxes(), st.sampled_from([0.3, 0.7]))
def test_kept_boxes_do_not_overlap(data: tuple[npt.NDArray[Any], ...], iou: float) -> None:
    xyxy, confidence, class_id = data
    keep = nms(xyxy, confidence, None, iou=iou, max_det=1000)
    assert (np.diff(confidence[keep]) <= 0).all()
    overlaps = pairwise_iou(xyxy[keep], xyxy[keep])
    np.fill_diagonal(overlaps, 0)
    assert (overlaps <= iou + 1e-6).all()
    del class_id


def test_equals_ultralytics() -> None:
    torch = pytest.importorskip("torch")
    ultralytics_nms = pytest.importorskip("ultralytics.utils.nms").TorchNMS.nms
    rng = np.random.default_rng(0)
    for _ in range(20):
        corner = rng.random((500, 2)) * 600
        xyxy = np.concatenate((corner, corner + 5 + rng.random((500, 2)) * 200), axis=1).astype(np.float32)
        confidence = rng.permutation(500).astype(np.float32) / np.float32(500)
        theirs = ultralytics_nms(torch.from_numpy(xyxy), torch.from_numpy(confidence), 0.5)
        assert nms(xyxy, confidence, None, iou=0.5, max_det=1000).tolist() == theirs.tolist()


def test_no_boxes() -> None:
    empty = np.empty((0, 4), np.float32)
    assert nms(empty, np.empty(0, np.float32), None, iou=0.5, max_det=10).tolist() == []
    assert pairwise_iou(empty, empty).shape == (0, 0)
