"""Comparing two models: which boxes are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.boxes import Row
from tests.support.boxes import detections as found
from tests.support.datasets import cells_picture
from tests.support.tiny_models import tiny_yolo
from yolotrt import Detector
from yolotrt.errors import EvaluationError, UsageError
from yolotrt.evaluation.parity import PicturePairs, VerifyOptions, common_names, pair_up, spread, verify
from yolotrt.evaluation.threshold import Threshold, ThresholdSearch

HERE = (10.0, 10.0, 50.0, 50.0)
NEAR = (10.0, 10.0, 50.0, 49.0)  # IoU 0.975
FAR = (10.0, 10.0, 50.0, 40.0)  # IoU 0.75


def pair(reference: list[Row], candidate: list[Row], **options: Any) -> PicturePairs:
    return pair_up(Path("a.png"), found(*reference), found(*candidate), VerifyOptions(**options))


def test_the_same_box() -> None:
    pairs = pair([(*HERE, 0.9, 0)], [(*NEAR, 0.8, 0)])
    assert (pairs.missed, pairs.added) == (0, 0)
    assert pairs.iou.tolist() == pytest.approx([0.975])
    assert pairs.confidence_delta.tolist() == pytest.approx([-0.1])


@pytest.mark.parametrize(
    ("candidate", "missed", "added", "pairs"),
    [
        ([(*FAR, 0.9, 0)], 1, 1, 1),  # moved
        ([(*HERE, 0.9, 1)], 1, 1, 0),  # another class
        ([(60.0, 60.0, 90.0, 90.0, 0.9, 0)], 1, 1, 0),  # elsewhere
        ([], 1, 0, 0),
        ([(*HERE, 0.9, 0), (*NEAR, 0.8, 0)], 0, 1, 1),  # once too often
        ([(*HERE, 0.2, 0)], 1, 0, 0),  # fallen below the threshold by far
    ],
)
def test_boxes_that_differ(candidate: list[Row], missed: int, added: int, pairs: int) -> None:
    result = pair([(*HERE, 0.9, 0)], candidate)
    assert (result.missed, result.added, len(result.iou)) == (missed, added, pairs)


def test_flicker_at_the_threshold_is_no_difference() -> None:
    strong, weak = (*HERE, 0.26, 0), (*NEAR, 0.24, 0)
    for reference, candidate in ((strong, weak), (weak, strong)):
        pairs = pair([reference], [candidate])
        assert (pairs.missed, pairs.added, len(pairs.iou)) == (0, 0, 1)
    assert pair([strong], [weak], margin=0.01).missed == 1
    assert pair([weak], [strong], margin=0.01).added == 1
    both_weak = pair([weak], [weak])
    assert len(both_weak.iou) == len(both_weak.reference) == 0


def test_options_out_of_range() -> None:
    for name, value in (("conf", 1.5), ("min_iou", 0.4), ("margin", -0.1), ("min_match", 2.0)):
        with pytest.raises(UsageError, match=f"option {name} is out of range"):
            VerifyOptions(**{name: value})
    assert VerifyOptions(conf=0.25, margin=0.1).detect.conf == pytest.approx(0.05)
    assert VerifyOptions(conf=0.25, margin=0.24).detect.conf == pytest.approx(0.01)
    assert VerifyOptions(conf=0.0).detect.conf == 0


def test_class_names() -> None:
    assert common_names(["a", "b"], ["a", "b"]) == ("a", "b")
    assert common_names([], ["a", "b"]) == ("a", "b")
    with pytest.raises(UsageError, match="other classes than the reference, got 1 classes, expected 2"):
        common_names(["a", "b"], ["a"])
    with pytest.raises(UsageError, match="got class 1 'c', expected 'b'"):
        common_names(["a", "b"], ["a", "c"])


def best(reference: list[Row], candidate: list[Row]) -> Threshold:
    search = ThresholdSearch(0.25)
    search.add(found(*reference), found(*candidate))
    return search.best()


def test_the_shift_of_the_threshold() -> None:
    spots = [(10.0 * i, 0.0, 10.0 * i + 9, 9.0) for i in range(10)]
    scores = [0.9 - 0.09 * i for i in range(10)]  # eight of them above 0.25
    reference: list[Row] = [(*spot, score, 0) for spot, score in zip(spots, scores, strict=True)]
    same = best(reference, reference)
    assert (same.candidate, same.f1, same.f1_at_reference) == (0.25, 1, 1)
    lower = best(reference, [(*r[:4], r[4] - 0.08, 0) for r in reference])
    assert lower.f1 == 1
    assert lower.f1_at_reference < 1
    assert 0.1 <= lower.candidate < 0.19
    higher = best(reference, [(*r[:4], min(r[4] + 0.1, 1), 0) for r in reference])
    assert higher.f1 == 1
    assert 0.28 <= higher.candidate < 0.37
    assert higher.to_dict()["shift"] == pytest.approx(higher.candidate - 0.25, abs=1e-4)
    nothing = best(reference, [])
    assert (nothing.f1, nothing.candidate) == (0, 0.25)


def test_spread_of_nothing() -> None:
    assert set(spread(np.empty(0, np.float32)).values()) == {None}
    assert spread(np.array([-1, 1], np.float32))["mean_abs"] == 1


def test_two_models_over_pictures(tmp_path: Path) -> None:
    options = VerifyOptions()
    three = tiny_yolo(tmp_path / "three.onnx")
    pictures = [cells_picture(tmp_path / "a.png", [(0, 0, 0)]), cells_picture(tmp_path / "b.png", [(1, 3, 3)])]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    calls: list[str] = []
    with (
        Detector(three, backend="onnxruntime", options=options.detect) as a,
        Detector(three, backend="openvino", options=options.detect) as b,
    ):
        result = verify(
            a, b, [*pictures, bad], on_result=lambda: calls.append("result"), on_problem=lambda _: calls.append("bad")
        )
        assert result.passed
        assert result.images == 2
        assert len(result.problems) == 1
        assert result.left_out == (bad,)
        assert sorted(calls) == ["bad", *["result"] * 4]
        assert [c.name for c in result.classes.values()] == ["red", "green"]
        assert result.to_dict()["matched"] == result.total.reference > 0
        empty = cells_picture(tmp_path / "empty.png", [])
        with pytest.raises(EvaluationError, match="neither model finds anything in 1 pictures"):
            verify(a, b, [empty])
        with pytest.raises(EvaluationError, match="none of the 1 pictures can be read"):
            verify(a, b, [bad])
