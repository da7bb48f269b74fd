"""The precision of each layer, read from graphs whose precision is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.export.quantize.graphs import conv_silu, pictures, weights
from tests.export.quantize.graphs import graph as small_graph
from tests.support.static_quantizer import quantize_statically
from yolotrt.export.quantize import quantize
from yolotrt.inspection.inspect import shares
from yolotrt.inspection.onnx_layers import onnx_layers
from yolotrt.inspection.report import Layer

FLOAT, HALF, INT8, FP8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.FLOAT8E4M3FN


def graph(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], kind: int = FLOAT) -> onnx.ModelProto:
    shapes: dict[str, list[str | int | None]] = {
        "x": ["batch", 4, "height", "width"],
        "y": ["batch", 8, "height", "width"],
    }
    inputs, outputs = ([helper.make_tensor_value_info(n, kind, shapes[n])] for n in ("x", "y"))
    made = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def convolution(data: str = "x", weight: str = "w") -> onnx.NodeProto:
    return helper.make_node("Conv", [data, weight], ["y"], "conv", pads=[1, 1, 1, 1])


def weight(dtype: str = "float32", name: str = "w") -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones((8, 4, 3, 3), dtype), name)


def quantizers(kind: int, *, data: bool = True) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Q/DQ around the input (`data`) and DQ behind quantized weights."""
    constants = [
        numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
        helper.make_tensor("zero", kind, [], [0]),
        helper.make_tensor("wq", kind, [8, 4, 3, 3], [1] * 288),
    ]
    nodes = [helper.make_node("DequantizeLinear", ["wq", "scale", "zero"], ["w"])]
    if data:
        nodes += [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        ]
    return nodes, constants


def test_operations_are_those_of_one_picture_whatever_the_batch() -> None:
    model = graph([convolution()], [weight()])
    one = only(model).flops
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    assert only(model).flops == one == 2 * 8 * 16 * 32 * 4 * 3 * 3


def only(model: onnx.ModelProto) -> Layer:
    (layer,) = onnx_layers(model, (16, 32))
    return layer


@pytest.mark.parametrize(("kind", "dtype", "precision"), [(FLOAT, "float32", "fp32"), (HALF, "float16", "fp16")])
def test_a_plain_convolution(kind: int, dtype: str, precision: str) -> None:
    layer = only(graph([convolution()], [weight(dtype)], kind))
    assert (layer.name, layer.kind, layer.precision) == ("conv", "Conv", precision)
    assert layer.parameters == 8 * 4 * 3 * 3
    # One picture of 16 by 32 pixels: two operations per weight use.
    assert layer.flops == 2 * 8 * 16 * 32 * 4 * 9


@pytest.mark.parametrize(("kind", "precision"), [(INT8, "int8"), (FP8, "fp8")])
def test_a_quantized_convolution(kind: int, precision: str) -> None:
    nodes, constants = quantizers(kind)
    layer = only(graph([*nodes, convolution("xd")], constants))
    assert layer.precision == precision
    assert layer.parameters == 288


def test_quantized_weights_alone_do_not_make_a_layer_int8() -> None:
    nodes, constants = quantizers(INT8, data=False)
    assert only(graph([*nodes, convolution()], constants)).precision == "fp32, int8 weights"


def test_weights_that_are_quantized_in_the_graph() -> None:
    nodes, constants = quantizers(INT8)
    nodes[0] = helper.make_node("QuantizeLinear", ["wf", "scale", "zero"], ["wq2"])
    nodes.insert(1, helper.make_node("DequantizeLinear", ["wq2", "scale", "zero"], ["w"]))
    layer = only(graph([*nodes, convolution("xd")], [*constants, weight(name="wf")]))
    assert layer.precision == "int8"
    assert layer.parameters == 288


def moved(kind: int, moves: list[onnx.NodeProto], *, last: str) -> onnx.ModelProto:
    """The convolution behind Q/DQ on `x` and `moves`, from `xd` (and `x`, in floating point) to `last`."""
    nodes, constants = quantizers(kind)
    twice, shape = np.array([1, 1, 2, 2], np.float32), np.array([0, 4, 16, 32], np.int64)
    constants += [numpy_helper.from_array(twice, "twice"), numpy_helper.from_array(shape, "shape")]
    return graph([*nodes, *moves, convolution(last)], constants)


MOVES = {
    "MaxPool": [helper.make_node("MaxPool", ["xd"], ["m"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
    "Resize": [helper.make_node("Resize", ["xd", "", "twice"], ["m"], mode="nearest")],
    "Transpose": [helper.make_node("Transpose", ["xd"], ["m"], perm=[0, 1, 3, 2])],
    "Reshape": [helper.make_node("Reshape", ["xd", "shape"], ["m"])],
    "Identity": [helper.make_node("Identity", ["xd"], ["m"])],
    "Cast": [helper.make_node("Cast", ["xd"], ["h"], to=HALF), helper.make_node("Cast", ["h"], ["m"], to=FLOAT)],
    "Split, Concat": [
        helper.make_node("Split", ["xd"], ["one", "two"], axis=1, num_outputs=2),
        helper.make_node("MaxPool", ["two"], ["pooled"], kernel_shape=[1, 1]),
        helper.make_node("Concat", ["one", "pooled"], ["m"], axis=1),
    ],
}


@pytest.mark.parametrize(("kind", "precision"), [(INT8, "int8"), (FP8, "fp8")])
@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES)
def test_moves_are_looked_through(moves: list[onnx.NodeProto], kind: int, precision: str) -> None:
    assert only(moved(kind, moves, last="m")).precision == precision


def test_what_computes_ends_the_look() -> None:
    ends = {
        "linear Resize": [helper.make_node("Resize", ["xd", "", "twice"], ["m"], mode="linear")],
        "AveragePool": [helper.make_node("AveragePool", ["xd"], ["m"], kernel_shape=[1, 1])],
        "activation": [helper.make_node("Relu", ["xd"], ["m"])],
        "Concat with what is not quantized": [
            helper.make_node("Split", ["xd"], ["one", "two"], axis=1, num_outputs=2),
            helper.make_node("Split", ["x"], ["three", "four"], axis=1, num_outputs=2),
            helper.make_node("Concat", ["one", "four"], ["m"], axis=1),
        ],
    }
    found = {name: only(moved(INT8, nodes, last="m")).precision for name, nodes in ends.items()}
    assert found == dict.fromkeys(ends, "fp32, int8 weights")


def test_many_concats_take_no_time() -> None:
    """Each doubles the ways back to the input: 2 ** 200 of them."""
    nodes = [helper.make_node("Identity", ["xd"], ["m0"])]
    for i in range(200):
        nodes += [
            helper.make_node("Concat", [f"m{i}", f"m{i}"], [f"c{i}"], axis=1),
            helper.make_node("Split", [f"c{i}"], [f"m{i + 1}", f"rest{i}"], axis=1, num_outputs=2),
        ]
    assert only(moved(INT8, nodes, last="m200")).precision == "int8"


def test_what_our_quantizer_made() -> None:
    """A residual, a MaxPool and a Concat; the share is the one that the quantizer counts."""
    body = [
        *conv_silu("x", "a"),
        helper.make_node("Add", ["x", "a"], ["sum"]),
        helper.make_node("MaxPool", ["sum"], ["pooled"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["x", "sum", "pooled"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "wide"], ["t"], name="t", pads=[1, 1, 1, 1]),
    ]
    source = small_graph(body, {"wide": np.concatenate([weights(s) for s in (2, 3, 4)], axis=1)})
    made = quantize(source, pictures, kind="int8")
    layers = onnx_layers(made.model, (16, 16))
    assert {layer.name for layer in layers if layer.precision == "int8"} == set(made.quantized)
    assert {layer.name for layer in layers if layer.precision in ("fp16", "fp32")} == set(made.kept)
    share = {s.precision: s.convolution_share for s in shares(layers)}
    assert share["int8"] == pytest.approx(made.share)
    assert sum(s or 0 for s in share.values()) == pytest.approx(1)


@pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
def test_what_onnxruntime_quantized(activations: str, tmp_path: Path) -> None:
    model = onnx.load(quantize_statically(tmp_path / "m.onnx", activations=activations, keep=("d",)))
    layers = {layer.name: layer for layer in onnx_layers(model, (32, 32))}
    assert {name: layer.precision for name, layer in layers.items()} == {
        "a": "int8", "b": "int8", "c": "int8", "d": "fp32", "e": "int8"
    }  # fmt: skip
    macs = {"a": 8 * 32**2 * 27, "b": 8 * 16**2 * 72, "c": 8 * 16**2 * 144, "d": 8 * 32**2 * 72, "e": 5 * 32**2 * 4}
    assert {name: layer.flops for name, layer in layers.items()} == {name: 2 * m for name, m in macs.items()}
    share = {s.precision: s.convolution_share for s in shares(list(layers.values()))}
    assert share["fp32"] == pytest.approx(macs["d"] / sum(macs.values()))


def test_a_half_island_between_casts() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["xh"], to=HALF), convolution("xh")]
    nodes[1].output[0] = "yh"
    nodes.append(helper.make_node("Cast", ["yh"], ["y"], to=FLOAT))
    assert only(graph(nodes, [weight("float16")])).precision == "fp16"


def test_a_product_of_two_activations_has_no_weights() -> None:
    made = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        "graph",
        [
            helper.make_tensor_value_info("a", FLOAT, [1, 5, 7]),
            helper.make_tensor_value_info("b", FLOAT, [1, 7, 3]),
        ],
        [helper.make_tensor_value_info("y", FLOAT, [1, 5, 3])],
    )
    layer = only(helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)]))
    assert (layer.precision, layer.parameters, layer.flops) == ("fp32", 0, 2 * 5 * 7 * 3)


def test_shares_add_up_and_the_largest_comes_first() -> None:
    layers = [
        Layer(name="a", kind="Conv", precision="fp32", parameters=10, flops=100),
        Layer(name="b", kind="Conv", precision="fp16", parameters=30, flops=300),
        Layer(name="c", kind="Conv", precision="fp16", parameters=40, flops=600),
    ]
    half, full = shares(layers)
    assert (half.precision, half.layers, half.parameters) == ("fp16", 2, 70)
    assert half.flop_share == pytest.approx(0.9)
    assert half.convolution_share == pytest.approx(0.9)
    assert full.parameter_share == pytest.approx(1 / 8)


def test_matrix_products_are_no_convolutions() -> None:
    layers = [
        Layer(name="a", kind="Conv", precision="int8", parameters=10, flops=100),
        Layer(name="b", kind="MatMul", precision="fp16", parameters=0, flops=300),
    ]
    half, int8 = shares(layers)
    assert (half.precision, half.flop_share, half.convolution_share) == ("fp16", 0.75, 0.0)
    assert (int8.precision, int8.flop_share, int8.convolution_share) == ("int8", 0.25, 1.0)


def test_shares_are_unknown_where_a_layer_is() -> None:
    layers = [
        Layer(name="a", kind="Conv", precision="fp32", parameters=10, flops=None),
        Layer(name="b", kind="Conv", precision="fp16", parameters=30, flops=300),
    ]
    assert [s.flop_share for s in shares(layers)] == [None, None]
    assert [s.parameter_share for s in shares(layers)] == [0.75, 0.25]
