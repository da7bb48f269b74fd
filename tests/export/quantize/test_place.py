"""Where Q/DQ pairs go."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.export.quantize.graphs import WIDE, constant, conv, conv_silu, graph, node_of, pictures, source, weights
from yolotrt.errors import ExportError
from yolotrt.export.quantize import Calibration, Kind, QuantizeOptions, QuantizeResult, quantize
from yolotrt.export.quantize.place import Placement, convolution_macs, place

FP32 = QuantizeOptions(method="minmax", fp16=False)


def quantized(model: onnx.ModelProto, kind: Kind = "int8", options: QuantizeOptions = FP32) -> QuantizeResult:
    found = quantize(model, pictures, kind=kind, options=options)
    onnx.checker.check_model(found.model, full_check=True)
    return found


def names(placement: Placement) -> set[frozenset[str]]:
    return {frozenset(group) for group in placement.groups}


def test_data_and_weights_get_a_pair_and_the_bias_none() -> None:
    found = quantized(graph([*conv_silu("x", "t")]))
    node = node_of(found.model, "t_conv")
    assert source(found.model, node.input[0]) == "x"
    restored = node_of(found.model, node.input[1])
    assert restored.op_type == "DequantizeLinear"
    assert constant(found.model, restored.input[0]).dtype == np.int8
    assert constant(found.model, restored.input[1]).shape == (4,), "one scale for each output channel"
    assert constant(found.model, node.input[2]).dtype == np.float32
    assert not any(n.op_type == "QuantizeLinear" and n.input[0] == node.input[2] for n in found.model.graph.node)


def test_silu_is_left_whole() -> None:
    found = quantized(graph([*conv_silu("x", "t")]))
    gate, product = node_of(found.model, "t_gate"), node_of(found.model, "t")
    assert list(gate.input) == ["t_conv"]
    assert list(product.input) == ["t_conv", "t_gate"]


def test_int8_is_symmetric() -> None:
    found = quantized(graph([*conv_silu("x", "t")]))
    for node in found.model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not constant(found.model, node.input[2]).any(), "the zero point is zero"
    for i in found.model.graph.initializer:
        if i.data_type == TensorProto.INT8:
            assert constant(found.model, i.name).min(initial=0) >= -127


def test_the_tensors_of_a_concat_share_one_scale() -> None:
    body = [
        *conv_silu("x", "a"),
        helper.make_node("Concat", ["x", "a"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "wide"], ["c"], name="c", pads=[1, 1, 1, 1]),
        conv("c", "t"),
    ]
    model = graph(body, {"wide": np.concatenate([weights(2), weights(3)], axis=1)})
    assert names(place(model)) == {frozenset({"image"}), frozenset({"x", "a"}), frozenset({"c"})}
    found = quantized(model)
    assert found.scales["x"] == found.scales["a"] != found.scales["c"]
    assert [source(found.model, t) for t in node_of(found.model, "both").input] == ["x", "a"]
    assert node_of(found.model, "c").input[0] == "both", "what comes out of a Concat is quantized already"


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (helper.make_node("MaxPool", ["x"], ["m"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {}),
        (helper.make_node("Resize", ["x", "", "by"], ["m"], mode="nearest"), {"by": np.ones(4, np.float32)}),
        (helper.make_node("Transpose", ["x"], ["m"], perm=[0, 1, 3, 2]), {}),
        (helper.make_node("Reshape", ["x", "to"], ["m"]), {"to": np.array([1, 4, 16, 16])}),
        (helper.make_node("Slice", ["x", "s", "e"], ["m"]), {"s": np.array([0]), "e": np.array([1])}),
    ],
    ids=lambda p: p.op_type if isinstance(p, onnx.NodeProto) else "",
)  # fmt: skip
def test_moves_move_quantized_values(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> None:
    found = quantized(graph([node, *conv_silu("m", "t")], constants))
    assert source(found.model, node_of(found.model, "m").input[0]) == "x"
    assert node_of(found.model, "t_conv").input[0] == "m"
    assert set(found.scales) == {"image", "x"}


def test_a_split_is_quantized_once_before_it() -> None:
    body = [
        helper.make_node("Split", ["x", "sizes"], ["p", "q"], axis=1),
        helper.make_node("Conv", ["q", "narrow"], ["r"], name="r", pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["p", "q", "r"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "wide"], ["c"], name="c", pads=[1, 1, 1, 1]),
        conv("c", "t"),
    ]
    constants = {
        "sizes": np.array([2, 2]),
        "narrow": weights(2)[:2, :2],
        "wide": np.concatenate([weights(3), weights(4)[:, :2]], axis=1),
    }
    model = graph(body, constants)
    assert names(place(model)) == {frozenset({"image"}), frozenset({"x", "r"}), frozenset({"c"})}


def test_a_resize_that_computes_values_is_no_move() -> None:
    body = [helper.make_node("Resize", ["x", "", "by"], ["m"], mode="linear"), *conv_silu("m", "t")]
    assert place(graph(body, {"by": np.ones(4, np.float32)})).tensors == ["image", "m"]


def test_the_residual_input_of_an_add_is_read_quantized() -> None:
    body = [*conv_silu("x", "a"), helper.make_node("Add", ["x", "a"], ["sum"]), *conv_silu("sum", "t")]
    found = quantized(graph(body))
    add = node_of(found.model, "sum")
    assert source(found.model, add.input[0]) == "x"
    assert add.input[1] == "a", "the fresh result of a convolution is added inside its kernel"
    assert set(found.scales) == {"image", "x", "sum"}
    turned = graph([*conv_silu("x", "a"), helper.make_node("Add", ["a", "x"], ["sum"]), *conv_silu("sum", "t")])
    assert node_of(quantized(turned).model, "sum").input[0] == "a"


def test_of_two_fresh_results_one_is_the_residual() -> None:
    body = [
        *conv_silu("x", "a"),
        *conv_silu("x", "c"),
        helper.make_node("Add", ["a", "c"], ["sum"]),
        *conv_silu("sum", "t"),
    ]
    found = quantized(graph(body))
    add = node_of(found.model, "sum")
    assert source(found.model, add.input[0]) == "a"
    assert add.input[1] == "c"


def test_an_add_whose_result_stays_in_floating_point_is_left_alone() -> None:
    found = quantized(graph([*conv_silu("x", "a"), helper.make_node("Add", ["x", "a"], ["t"])]))
    assert list(node_of(found.model, "t").input) == ["x", "a"]


def test_heads_and_the_expectation_are_kept() -> None:
    bins = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)
    model = graph([*conv_silu("x", "a"), conv("a", "t")])
    node_of(model, "y").CopyFrom(helper.make_node("Conv", ["odds", "bins"], ["y"]))
    softmax = helper.make_node("Softmax", ["t"], ["odds"], axis=1)
    model.graph.node.insert(len(model.graph.node) - 1, softmax)
    model.graph.initializer.append(onnx.numpy_helper.from_array(bins, "bins"))
    placement = place(model)
    assert placement.kept == {"t": "head", "y": "expectation"}
    assert [c.key for c in placement.convolutions] == ["stem_conv", "a_conv"]


def test_what_the_caller_keeps() -> None:
    model = graph([*conv_silu("x", "a"), *conv_silu("a", "t")])
    found = quantize(model, pictures, kind="int8", keep=lambda n: n.name == "a_conv", options=FP32)
    assert found.kept == {"a_conv": "asked", "y": "head"}
    assert set(found.scales) == {"image", "a"}
    # 3 or 4 input channels, 9 taps, 4 outputs at 256 places
    assert found.share == pytest.approx((3 + 4) / (3 + 4 + 4 + 4))


def test_fp8_reads_the_picture_in_floating_point() -> None:
    found = quantized(graph([*conv_silu("x", "t")], channels=WIDE), "fp8")
    assert found.kept == {"stem_conv": "input", "y": "head"}
    assert set(found.scales) == {"x"}


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((16, WIDE, 3, 3), {}),
        ((WIDE, 1, 3, 3), {"group": WIDE}),
        ((WIDE, WIDE, 7, 7), {"pads": [3, 3, 3, 3]}),
        ((WIDE, WIDE, 1, 1), {}),
    ],
    ids=["few", "depthwise", "large kernel", "pointwise"],
)
def test_fp8_leaves_what_it_does_not_pay_for(shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    body = [*conv_silu("x", "a"), helper.make_node("Conv", ["a", "v"], ["t"], name="c", **attributes)]
    model = graph(body, {"v": np.ones(shape, np.float32)}, channels=WIDE)
    assert place(model, kind="fp8").kept == {"stem_conv": "input", "t": "narrow", "y": "head"}
    assert place(model, kind="int8").kept == {"y": "head"}


def test_fp8_takes_wide_pointwise_convolutions() -> None:
    body = [*conv_silu("x", "a"), helper.make_node("Conv", ["a", "v"], ["t"], name="c")]
    model = graph(body, {"v": np.ones((68, 64, 1, 1), np.float32)})
    assert "t" in [c.key for c in place(model, kind="fp8").convolutions]


def attention() -> onnx.ModelProto:
    """As in YOLO11: queries, keys and values of one convolution, and a positional one over the values."""
    body = [
        *conv_silu("x", "a"),
        helper.make_node("Conv", ["a", "triple"], ["qkv"], name="qkv"),
        helper.make_node("Reshape", ["qkv", "flat"], ["rows"]),
        helper.make_node("Split", ["rows"], ["q", "k", "v"], axis=1, num_outputs=3),
        helper.make_node("Transpose", ["q"], ["q_turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q_turned", "k"], ["odds"]),
        helper.make_node("Softmax", ["odds"], ["looks"], axis=-1),
        helper.make_node("MatMul", ["v", "looks"], ["seen"]),
        helper.make_node("Reshape", ["seen", "square"], ["seen_square"]),
        helper.make_node("Reshape", ["v", "square"], ["v_square"]),
        conv("v_square", "position"),
        helper.make_node("Add", ["seen_square", "position"], ["sum"]),
        *conv_silu("sum", "t"),
    ]
    constants = {
        "triple": np.concatenate([weights(s)[:, :, :1, :1] for s in (2, 3, 4)]),
        "flat": np.array([1, 12, 256]),
        "square": np.array([1, 4, 16, 16]),
    }
    return graph(body, constants)


def test_attention_computes_in_floating_point() -> None:
    found = quantized(attention())
    assert found.kept == {"position": "attention", "y": "head"}
    assert set(found.quantized) == {"stem_conv", "a_conv", "qkv", "t_conv"}
    assert set(found.scales) == {"image", "x", "a", "sum"}
    assert node_of(found.model, "rows").input[0] == "qkv"
    assert list(node_of(found.model, "sum").input) == ["seen_square", "position"]


def test_nothing_behind_the_heads_is_quantized() -> None:
    # As in YOLO26: scores choose among the boxes, and both come from the last convolutions.
    model = graph(conv_silu("x", "t"))
    constants = {"flat": np.array([1, 4, 256]), "one": np.array([1]), "count": np.array([5])}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in constants.items())
    model.graph.node.extend([
        helper.make_node("Reshape", ["y", "flat"], ["rows"]),
        helper.make_node("ReduceMax", ["rows", "one"], ["best"], keepdims=0),
        helper.make_node("TopK", ["best", "count"], ["scores", "index"]),
        helper.make_node("Squeeze", ["index"], ["places"]),
        helper.make_node("Gather", ["rows", "places"], ["boxes"], axis=2),
        helper.make_node("Concat", ["boxes", "boxes"], ["all"], axis=1),
    ])  # fmt: skip
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("all", TensorProto.FLOAT, None))
    found = quantized(model)
    assert found.kept == {"y": "head"}
    assert set(found.scales) == {"image", "x"}
    assert node_of(found.model, "rows").input[0] == "y"


def test_multiplications_are_counted_for_the_size_at_hand() -> None:
    model = graph([*conv_silu("x", "t")])
    assert convolution_macs(model, (2, 3, 8, 8))["t_conv"] == 2 * 4 * 64 * 4 * 9


def test_what_cannot_be_quantized_is_refused() -> None:
    model = graph([*conv_silu("x", "t")])
    with pytest.raises(ExportError, match="quantized already"):
        quantize(quantized(model).model, pictures, kind="int8")
    with pytest.raises(ExportError, match="without calibration pictures"):
        quantize(model, list, kind="int8")
    with pytest.raises(ExportError, match="no convolution to quantize"):
        Calibration.measure(model, pictures).quantize(kind="int8", keep=lambda _: True)
    half = quantized(model, options=QuantizeOptions(method="minmax")).model
    del half.graph.node[:]
    with pytest.raises(ExportError, match="not FP32"):
        quantize(half, pictures, kind="int8")
