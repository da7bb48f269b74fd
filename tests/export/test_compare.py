"""The comparison of two versions of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yolotrt.errors import ExportError, NonFiniteOutputError
from yolotrt.export.compare import LOWER_PRECISION, SAME_PRECISION, Comparison, compare
from yolotrt.model_spec import Head, LetterboxRule, ModelSpec, TensorSpec
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import RawOutputs

SIZE = (640, 640)
PLACE = LetterboxGeometry.compute(SIZE, SIZE, rule=LetterboxRule())


def spec(head: Head) -> ModelSpec:
    return ModelSpec(
        head=head,
        names=("a", "b"),
        imgsz=SIZE,
        input=TensorSpec(name="x", dtype="float32", shape=(1, 3, *SIZE)),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(1, None, None)),),
    )


def dense(count: int = 40) -> Any:
    """`anchor_free` output: boxes of 20 px on a grid, each of them found."""
    output = np.zeros((1, 6, count), np.float32)
    output[0, 0], output[0, 1] = 20 + 60 * (np.arange(count) % 10), 20 + 60 * (np.arange(count) // 10)
    output[0, 2:4], output[0, 4] = 20, 0.9
    return output


def final(count: int = 40) -> Any:
    """`end_to_end` output: the same boxes by falling score."""
    boxes = dense(count)[0, :4].T
    rows = np.concatenate([boxes[:, :2] - 10, boxes[:, :2] + 10, np.linspace(0.9, 0.5, count)[:, None]], axis=1)
    return np.concatenate([rows, np.zeros((count, 1))], axis=1)[None].astype(np.float32)


def run(a: Any, b: Any, head: Head = "anchor_free") -> Comparison:
    described = spec(head)
    outputs = [RawOutputs(arrays={"y": x}, spec=described) for x in (a, b)]
    return compare(outputs[:1], outputs[1:], [(PLACE,)])


def check(found: Comparison) -> None:
    found.check(SAME_PRECISION, what="the graphs differ", remedy="Look.")


@pytest.mark.parametrize("head", ["anchor_free", "objectness", "end_to_end", "detr"])
def test_equal_outputs(head: Head) -> None:
    output = dense() if head == "anchor_free" else final()
    if head == "objectness":
        output = np.concatenate([np.moveaxis(dense(), 1, 2), np.ones((1, 40, 1), np.float32)], axis=2)
    if head == "detr":
        output[..., :4] /= 640
    found = run(output, output.copy(), head)
    check(found)
    assert (found.box_px, found.score, found.worst_confidence) == (0, 0, 0)
    assert found.matched(0.99) == len(found.ious) > 0


def test_a_moved_box_is_found_though_every_score_is_right() -> None:
    moved = dense()
    moved[0, 0] += 5
    found = run(dense(), moved)
    assert found.box_px == pytest.approx(5)
    assert found.box_relative == pytest.approx(0.25)
    assert found.score == 0
    assert found.matched(0.98) == 0
    with pytest.raises(ExportError, match=r"the graphs differ, got box coordinates that differ by 5 px"):
        check(found)
    with pytest.raises(ExportError, match=r"0 of 80 boxes at IoU 0\.9"):
        found.check(LOWER_PRECISION, what="boxes are lost", remedy="Look.")


def test_a_changed_score() -> None:
    changed = dense()
    changed[0, 4, 0] -= 0.01
    with pytest.raises(ExportError, match=r"scores that differ by 0\.01"):
        check(run(dense(), changed))


def test_the_order_of_equal_scores_is_no_difference() -> None:
    a = final()
    a[0, :, 4] = 0.7
    found = run(a, a[:, ::-1].copy(), "end_to_end")
    check(found)
    assert found.box_px == 0


def test_a_box_at_the_threshold_is_no_difference() -> None:
    a, b = dense(), dense()
    a[0, 4], b[0, 4] = 0.2504, 0.2498
    found = run(a, b)
    check(found)
    assert len(found.ious) == 40 == found.matched(0.99)


def test_boxes_without_area_are_left_out() -> None:
    a = dense()
    a[0, 2] = 0
    assert len(run(a, a.copy()).ious) == 0


def test_one_box_of_few_may_differ() -> None:
    fewer = dense(3)
    fewer[0, 4, 0] = 0
    found = run(dense(3), fewer)
    assert found.reaches(0.99, 0.99)
    assert (found.matched(0.99), len(found.ious)) == (4, 5)


def test_other_shapes_and_nan() -> None:
    with pytest.raises(ExportError, match="changed its shape"):
        run(dense(3), dense(4))
    broken = dense()
    broken[0, 4, 0] = np.nan
    with pytest.raises(NonFiniteOutputError):
        run(dense(), broken)
    hidden = dense()
    hidden[0, 4, 0], hidden[0, 0, 0] = 0, np.nan
    with pytest.raises(ExportError, match="box coordinates"):
        check(run(hidden.copy(), hidden))


def test_its_report() -> None:
    found = run(dense(), dense())
    boxes = "80 of 80 boxes at IoU 0.99 or more (mean 1.0000) on 1 picture"
    assert found.summary(0.99) == f"raw boxes within 0 px, scores within 0, {boxes}"
    assert found.boxes_summary(0.99) == boxes
    assert found.to_dict()["boxes_iou_098"] == 80
    nothing = run(np.zeros((1, 6, 4), np.float32), np.zeros((1, 6, 4), np.float32))
    assert nothing.summary(0.99) == "raw boxes within 0 px, scores within 0 on 1 picture"
    assert nothing.boxes_summary(0.99) == "no boxes, scores within 0 on 1 picture"
