"""Decoding of every head from hand-made outputs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.support import torchvision_ops
from tests.support.specs import make_spec
from yolotrt.decode import decode
from yolotrt.detections import Detections
from yolotrt.errors import ModelError, NonFiniteOutputError
from yolotrt.model_spec import Head, LetterboxRule
from yolotrt.options import DetectOptions
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import RawOutputs

SIZE = (50, 100)  # of the source picture
GEOMETRY = LetterboxGeometry.compute(SIZE, (100, 200), rule=LetterboxRule())  # twice the size, no padding


def run(head: Head, output: list[list[float]], **options: object) -> Detections:
    array = np.array([output], np.float32)
    outputs = RawOutputs(arrays={"output0": array}, spec=make_spec(head=head, output_shape=array.shape))
    return decode(outputs, [GEOMETRY], DetectOptions(**options))[0]  # type: ignore[arg-type]


ANCHORS = np.array(
    [
        # cx, cy, w, h, red, green, blue
        [20, 20, 20, 20, 0.9, 0.1, 0.0],
        [21, 20, 20, 20, 0.8, 0.1, 0.0],  # overlaps the first
        [21, 20, 20, 20, 0.0, 0.7, 0.0],  # the same box, another class
        [90, 60, 10, 30, 0.0, 0.0, 0.25],  # not above the threshold
        [100, 50, 40, 20, 0.0, 0.26, 0.0],
    ]
)


def test_anchor_free() -> None:
    found = run("anchor_free", ANCHORS.T.tolist())
    assert found.class_id.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.confidence, [0.9, 0.7, 0.26], rtol=1e-6)
    assert found.xyxy.tolist() == [[5, 5, 15, 15], [5.5, 5, 15.5, 15], [40, 20, 60, 30]]
    assert found.labels == ["red", "green", "green"]
    assert found.size == SIZE


def test_objectness_multiplies_the_scores() -> None:
    rows = np.insert(ANCHORS, 4, [1, 1, 1, 1, 0.9], axis=1)
    found = run("objectness", rows.tolist())
    assert found.class_id.tolist() == [0, 1]  # 0.9 * 0.26 falls below the threshold
    np.testing.assert_allclose(found.confidence, [0.9, 0.7], rtol=1e-6)


def test_end_to_end_is_not_suppressed() -> None:
    rows = [[10, 10, 30, 30, 0.5, 2], [10, 10, 30, 30, 0.9, 2], [0, 0, 9, 9, 0.1, 1]]
    found = run("end_to_end", rows)
    np.testing.assert_allclose(found.confidence, [0.9, 0.5], rtol=1e-6)
    assert found.xyxy.tolist() == [[5, 5, 15, 15]] * 2
    assert found.class_id.tolist() == [2, 2]


def test_detr_boxes_are_relative() -> None:
    found = run("detr", [[0.5, 0.5, 0.5, 0.5, 0.9, 1], [0.5, 0.5, 0.1, 0.1, 0.2, 0]])
    assert found.xyxy.tolist() == [[25, 12.5, 75, 37.5]]
    assert found.class_id.tolist() == [1]


def test_options() -> None:
    rows = ANCHORS.T.tolist()
    assert run("anchor_free", rows, agnostic=True).class_id.tolist() == [0, 1]
    assert run("anchor_free", rows, classes=(1,)).class_id.tolist() == [1, 1]
    assert run("anchor_free", rows, classes=()).class_id.tolist() == []
    assert run("anchor_free", rows, max_det=1).class_id.tolist() == [0]
    assert len(run("anchor_free", rows, conf=0.0)) == 4
    assert len(run("anchor_free", rows, iou=1.0)) == 4
    assert len(run("anchor_free", rows, conf=1.0)) == 0


def test_every_class_above_the_threshold_is_a_box() -> None:
    both = np.array([[20, 20, 20, 20, 0.9, 0.5, 0.0], [90, 60, 10, 30, 0.0, 0.1, 0.7]])
    found = run("anchor_free", both.T.tolist(), multi_label=True)
    assert found.class_id.tolist() == [0, 2, 1]
    np.testing.assert_allclose(found.confidence, [0.9, 0.7, 0.5], rtol=1e-6)
    assert found.xyxy[0].tolist() == found.xyxy[2].tolist()
    with_objectness = np.insert(both, 4, 0.8, axis=1).tolist()
    found = run("objectness", with_objectness, multi_label=True)
    assert found.class_id.tolist() == [0, 2, 1]
    np.testing.assert_allclose(found.confidence, [0.72, 0.56, 0.4], rtol=1e-6)
    assert run("anchor_free", both.T.tolist(), multi_label=True, classes=(1,)).class_id.tolist() == [1]
    assert run("end_to_end", [[10, 10, 30, 30, 0.5, 2]], multi_label=True).class_id.tolist() == [2]


def test_multi_label_gives_what_ultralytics_gives() -> None:
    pytest.importorskip("ultralytics")
    torchvision_ops.install()
    import torch
    from ultralytics.utils.nms import non_max_suppression

    rng = np.random.default_rng(3)
    boxes = np.concatenate((rng.random((500, 2)) * 150 + 20, rng.random((500, 2)) * 30 + 5), axis=1)
    output = np.concatenate((boxes, rng.random((500, 3)) ** 4), axis=1).T.astype(np.float32)[None]
    (theirs,) = non_max_suppression(torch.from_numpy(output.copy()), 0.05, 0.5, multi_label=True)
    geometry = LetterboxGeometry.compute((200, 200), (200, 200), rule=LetterboxRule())
    outputs = RawOutputs(arrays={"output0": output}, spec=make_spec(output_shape=output.shape))
    options = DetectOptions(conf=0.05, iou=0.5, multi_label=True, clip=False)
    (ours,) = decode(outputs, [geometry], options)
    assert len(ours) == len(theirs) > 100
    np.testing.assert_allclose(ours.confidence, theirs[:, 4].numpy(), rtol=1e-6)
    assert ours.class_id.tolist() == theirs[:, 5].int().tolist()
    np.testing.assert_allclose(ours.xyxy, theirs[:, :4].numpy(), atol=1e-3)


def test_boxes_are_cut_off_at_the_edge_unless_told_otherwise() -> None:
    row = [[10, 10, 40, 40, 0.9, 0.0, 0.0]]
    assert run("anchor_free", np.array(row).T.tolist()).xyxy.tolist() == [[0, 0, 15, 15]]
    whole = run("anchor_free", np.array(row).T.tolist(), clip=False)
    assert whole.xyxy.tolist() == [[-5, -5, 15, 15]]
    assert whole.clipped().xyxy.tolist() == [[0, 0, 15, 15]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("head", "place"),
    [
        ("anchor_free", (0, 5)),
        ("anchor_free", (0, 1)),
        ("objectness", (0, 4)),
        ("end_to_end", (0, 4)),
        ("detr", (0, 0)),
    ],
)
def test_non_finite_outputs_are_refused(head: Head, place: tuple[int, int], bad: float) -> None:
    rows = np.array([[20, 20, 20, 20, 0.9, 0.9, 0.9, 0.9]] * 4)
    rows = rows[:, :6] if head in ("end_to_end", "detr") else rows
    rows = rows[:, :7] if head == "anchor_free" else rows
    rows[place] = bad
    with pytest.raises(NonFiniteOutputError, match="NaN or infinity"):
        run(head, (rows.T if head == "anchor_free" else rows).tolist())


def test_padding_of_the_batch_is_ignored() -> None:
    array = np.repeat(np.array([ANCHORS.T], np.float32), 4, axis=0)
    array[2:] = np.nan
    outputs = RawOutputs(arrays={"output0": array}, spec=make_spec())
    assert [len(d) for d in decode(outputs, [GEOMETRY, GEOMETRY], DetectOptions())] == [3, 3]


def test_half_precision_outputs() -> None:
    array = np.array([ANCHORS.T], np.float16)
    found = decode(RawOutputs(arrays={"output0": array}, spec=make_spec()), [GEOMETRY], DetectOptions())[0]
    assert found.class_id.tolist() == [0, 1, 1]
    assert found.xyxy.dtype == np.float32


def test_other_tasks_are_refused_by_name() -> None:
    spec = dataclasses.replace(make_spec(), task="pose")
    with pytest.raises(ModelError, match="pose"):
        decode(RawOutputs(arrays={"output0": np.zeros((1, 7, 4), np.float32)}, spec=spec), [GEOMETRY], DetectOptions())
