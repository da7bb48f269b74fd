"""A graph that is cut before its boxes is the same graph; one of another form is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from tests.support.tiny_heads import TinyHead, reorder, tiny_head
from yolotrt import assets
from yolotrt.backends.box_branch import BoxBranch, cut_boxes
from yolotrt.export.head_surgery import cut_head
from yolotrt.model_spec_infer import load_onnx, read_onnx_spec

HEAD = TinyHead(branch=5)


def cut(model: onnx.ModelProto) -> BoxBranch | None:
    return cut_boxes(model, read_onnx_spec(model))


def run(model: onnx.ModelProto, given: dict[str, Any]) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [v.name for v in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def assert_same(model: onnx.ModelProto, branch: BoxBranch, images: Any) -> None:
    trunk = run(branch.trunk, {"images": images})
    boxes = run(branch.boxes, {name: trunk[name] for name in branch.features})
    got = np.concatenate([boxes[branch.outputs[0]], trunk[branch.scores[0]]], axis=1)
    np.testing.assert_allclose(got, run(model, {"images": images})["output0"], rtol=1e-5, atol=1e-4)


def test_the_demo_model() -> None:
    model = load_onnx(assets.demo_model())
    branch = cut(model)
    assert branch is not None
    assert [len(level.first.matrix) // 9 for level in branch.levels] == [64, 128, 256]
    assert branch.reg_max == 16
    convolutions = [sum(n.op_type == "Conv" for n in m.graph.node) for m in (model, branch.trunk, branch.boxes)]
    assert convolutions == [64, 54, 10], "nine of the branch and DFL's"
    images = np.random.default_rng(0).random((1, 3, 640, 640), np.float32)
    assert_same(model, branch, images)


@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        TinyHead(branch=4, reg_max=1, batch=2),
        TinyHead(branch=5, scores_first=True, strides=(8, 16, 32)),
        TinyHead(branch=5, batch=None),
    ],
    ids=["fixed", "one-bin", "scores-first", "open-batch"],
)
def test_heads(head: TinyHead) -> None:
    model = tiny_head(head)
    before = model.SerializeToString()
    branch = cut(model)
    assert branch is not None
    assert model.SerializeToString() == before
    assert branch.features == [f"cell_{s}" for s in head.strides]
    images = np.random.default_rng(0).random((head.batch or 3, 3, *head.imgsz), np.float32)
    assert_same(model, branch, images)


def test_a_raw_head() -> None:
    whole = tiny_head(HEAD)
    raw = cut_head(whole, read_onnx_spec(whole))
    branch = cut_boxes(raw.model, raw.spec)
    assert branch is not None
    assert branch.outputs == ["boxes_8", "boxes_16"]
    assert branch.scores == ["scores_8", "scores_16"]
    images = np.random.default_rng(0).random((1, 3, *HEAD.imgsz), np.float32)
    trunk = run(branch.trunk, {"images": images})
    got = trunk | run(branch.boxes, {name: trunk[name] for name in branch.features})
    for name, expected in run(raw.model, {"images": images}).items():
        np.testing.assert_allclose(got[name], expected, rtol=1e-5, atol=1e-4)


def test_levels_of_a_raw_head_come_as_its_outputs_do() -> None:
    whole = tiny_head(HEAD)
    raw = cut_head(whole, read_onnx_spec(whole))
    reorder(raw.model, HEAD.strides)
    branch = cut_boxes(raw.model, raw.spec)
    assert branch is not None
    assert [level.values for level in branch.levels] == branch.outputs == ["boxes_8", "boxes_16"]
    assert branch.features == ["cell_8", "cell_16"]


def test_a_raw_head_whose_boxes_are_something_of_a_branch_stays() -> None:
    whole = tiny_head(HEAD)
    raw = cut_head(whole, read_onnx_spec(whole))
    node_of(raw.model, "boxes_16").output[0] = "before"
    raw.model.graph.node.append(helper.make_node("Neg", ["before"], ["boxes_16"]))
    assert cut_boxes(raw.model, raw.spec) is None


def test_equal_constants_under_an_identity() -> None:
    """Of equal ones an exporter keeps one."""
    model = tiny_head(HEAD)
    (bias,) = (i for i in model.graph.initializer if i.name == "box_conv_8_b")
    bias.name = "kept"
    model.graph.node.insert(0, helper.make_node("Identity", ["kept"], ["box_conv_8_b"]))
    assert cut(model) is not None


def node_of(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.output[0] == output)


def other_activation(model: onnx.ModelProto) -> None:
    node_of(model, "box_conv_8_0_gate").op_type = "Tanh"


def other_gate(model: onnx.ModelProto) -> None:
    node_of(model, "box_conv_8_0_gate").input[0] = "box_conv_16_0"


def no_activation(model: onnx.ModelProto) -> None:
    node_of(model, "box_conv_8").input[0] = "box_conv_8_1"


def read_twice(model: onnx.ModelProto) -> None:
    node_of(model, "box_conv_16").input[0] = "box_conv_8_1_silu"


def attribute(name: str, value: Any, output: str = "box_conv_8_1") -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        node = node_of(model, output)
        for found in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(found)
        node.attribute.append(helper.make_attribute(name, value))

    return change


def without_bias(model: onnx.ModelProto) -> None:
    del node_of(model, "box_conv_8_0").input[2]


def computed_weights(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Neg", ["box_conv_8_0_w"], ["computed"]))
    node_of(model, "box_conv_8_0").input[1] = "computed"


def five_by_five(model: onnx.ModelProto) -> None:
    weights = np.ones((5, 3, 5, 5), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "wide"))
    node_of(model, "box_conv_8_0").input[1] = "wide"
    attribute("pads", [2] * 4, "box_conv_8_0")(model)


def boxes_follow_the_picture(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0))
    node_of(model, "centre").input[1] = "brightest"


def scores_follow_the_boxes(model: onnx.ModelProto) -> None:
    model.graph.node.insert(len(model.graph.node) - 2, helper.make_node("Mul", ["all_classes", "strides"], ["more"]))
    model.graph.node.insert(len(model.graph.node) - 2, helper.make_node("ReduceMax", ["pixels"], ["far"], keepdims=0))
    model.graph.node.insert(len(model.graph.node) - 2, helper.make_node("Mul", ["more", "far"], ["most"]))
    node_of(model, "scores").input[0] = "most"


def joined_by_more(model: onnx.ModelProto) -> None:
    node_of(model, "output0").op_type = "Sum"


@pytest.mark.parametrize(
    "change",
    [
        other_activation,
        other_gate,
        no_activation,
        read_twice,
        attribute("pads", [1, 1, 1, 0]),
        attribute("pads", [0, 0, 0, 0]),
        attribute("strides", [2, 2]),
        attribute("dilations", [2, 2]),
        attribute("group", 5),
        attribute("auto_pad", "SAME_UPPER"),
        attribute("pads", [1, 1, 1, 1], "box_conv_8"),
        attribute("axis", 2, "output0"),
        without_bias,
        computed_weights,
        five_by_five,
        boxes_follow_the_picture,
        scores_follow_the_boxes,
        joined_by_more,
    ],
)
def test_another_form_stays(change: Callable[[onnx.ModelProto], None]) -> None:
    model = tiny_head(HEAD)
    spec = read_onnx_spec(model)
    assert cut_boxes(model, spec) is not None
    change(model)
    assert cut_boxes(model, spec) is None


@pytest.mark.parametrize(
    "head",
    [TinyHead(), TinyHead(branch=5, joined=True), TinyHead(branch=5, half=True)],
    ids=["no-branch", "joined", "fp16"],
)
def test_another_head_stays(head: TinyHead) -> None:
    assert cut(tiny_head(head)) is None
