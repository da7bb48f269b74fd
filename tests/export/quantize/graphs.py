"""Small hand-made graphs, and what the tests ask of quantized ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from yolotrt.export.fp16_rewrite import normalise
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import Batch

SIDE = 16

WIDE = 20
"""Channels that FP8 takes."""


def graph(
    body: Sequence[onnx.NodeProto], constants: Mapping[str, Any] | None = None, *, channels: int = 4
) -> onnx.ModelProto:
    """A small network: `stem` makes `x` [1, 4, 16, 16] of the picture, `body` makes `t` of it, `y` is the head."""
    nodes = [conv("image", "stem_conv", w="stem_weight"), *silu("stem_conv", "x"), *body, conv("t", "y")]
    values = {
        "stem_weight": weights(0, channels=channels)[:, :3],
        "w": weights(channels=channels),
        "b": np.linspace(-0.1, 0.1, channels, dtype=np.float32),
        **(constants or {}),
    }
    used = {name for node in nodes for name in node.input}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items() if k in used],
        ),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=10,
    )
    return normalise(model)


def conv(x: str, y: str, *, w: str = "w") -> onnx.NodeProto:
    """A 3x3 convolution with a bias, named as its output."""
    return helper.make_node("Conv", [x, w, "b"], [y], name=y, pads=[1, 1, 1, 1])


def silu(x: str, y: str) -> list[onnx.NodeProto]:
    """x * sigmoid(x)."""
    return [helper.make_node("Sigmoid", [x], [f"{y}_gate"]), helper.make_node("Mul", [x, f"{y}_gate"], [y])]


def conv_silu(x: str, y: str) -> list[onnx.NodeProto]:
    """A convolution `y_conv` with its activation `y`."""
    return [conv(x, f"{y}_conv"), *silu(f"{y}_conv", y)]


def weights(seed: int = 1, scale: float = 0.2, *, channels: int = 4) -> npt.NDArray[np.float32]:
    """Weights `[4, 4, 3, 3]`, or with other numbers of channels."""
    return (np.random.default_rng(seed).standard_normal((channels, channels, 3, 3)) * scale).astype(np.float32)


def pictures(count: int = 4) -> list[Batch]:
    """Batches of one random picture, always the same ones."""
    place = LetterboxGeometry(
        source_size=(SIDE, SIDE), input_size=(SIDE, SIDE), resized_size=(SIDE, SIDE), pad_top=0, pad_left=0
    )
    return [
        Batch(images=np.random.default_rng(seed).random((1, 3, SIDE, SIDE)).astype(np.float32), geometries=(place,))
        for seed in range(count)
    ]


def source(model: onnx.ModelProto, tensor: str) -> str:
    """The tensor that an input reads through a Q/DQ pair; itself where there is no pair."""
    producer = {o: n for n in model.graph.node for o in n.output}
    node = producer.get(tensor)
    if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in producer:
        return tensor
    return str(producer[node.input[0]].input[0])


def node_of(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    """The node that gives a tensor."""
    return next(n for n in model.graph.node if output in n.output)


def constant(model: onnx.ModelProto, name: str) -> npt.NDArray[Any]:
    """The value of an initializer."""
    return np.asarray(numpy_helper.to_array(next(i for i in model.graph.initializer if i.name == name)))
