"""A small convolutional network that ONNX Runtime's own quantizer made INT8, in its Q/DQ format."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32


def quantize_statically(path: Path, *, activations: str = "QInt8", keep: Sequence[str] = ()) -> Path:
    """Write the network to `path`: convolutions behind a MaxPool, a Concat, a Resize and a Split.

    Args:
        path: the ONNX file to write.
        activations: `QInt8` or `QUInt8`.
        keep: convolutions that stay in FP32.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = [np.random.default_rng(i).random((1, 3, SIDE, SIDE), np.float32) for i in range(4)]

        def get_next(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] | None:
            return {"images": self._left.pop()} if self._left else None

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends a preprocessing that this graph has no use for
    try:
        quantize_static(
            network(),
            path,
            Pictures(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType[activations],
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=list(keep),
        )
    finally:
        logging.disable(before)
    return path


def network() -> onnx.ModelProto:
    """In FP32. The convolutions are named a, b, c, d and e; e is the one that gives the result."""
    nodes = [
        *_conv("images", "a"),
        helper.make_node("MaxPool", ["a"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        *_conv("pooled", "b"),
        helper.make_node("Concat", ["pooled", "b"], ["both"], axis=1),
        *_conv("both", "c"),
        helper.make_node("Resize", ["c", "", "scales"], ["large"], mode="nearest"),
        *_conv("large", "d"),
        helper.make_node("Split", ["d"], ["left", "right"], axis=1, num_outputs=2),
        helper.make_node("Conv", ["right", "e_weight"], ["y"], "e"),
    ]
    shapes = {"a": (8, 3, 3, 3), "b": (8, 8, 3, 3), "c": (8, 16, 3, 3), "d": (8, 8, 3, 3), "e": (5, 4, 1, 1)}
    rng = np.random.default_rng(0)
    weights = {f"{n}_weight": rng.standard_normal(s) / np.sqrt(np.prod(s[1:])) for n, s in shapes.items()}
    biases = {f"{n}_bias": rng.standard_normal(8) / 10 for n in "abcd"}
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in (weights | biases).items()]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, SIDE, SIDE])],
        [*constants, numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def _conv(x: str, y: str) -> list[onnx.NodeProto]:
    """A 3x3 convolution with SiLU."""
    return [
        helper.make_node("Conv", [x, f"{y}_weight", f"{y}_bias"], [f"{y}_linear"], y, pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", [f"{y}_linear"], [f"{y}_gate"]),
        helper.make_node("Mul", [f"{y}_linear", f"{y}_gate"], [y]),
    ]
