"""The tiny YOLO of `tiny_models` with quantized convolutions, as Q/DQ pairs around what OpenVINO gets wrong.

A convolution with SiLU gives `silu(c)` and `silu(-c)` of each colour, so that half of the quantized values are
negative; their difference is `c` again. A Split, a MaxPool and a Concat move them to the convolution that takes the
mean of each cell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.tiny_models import CELL, tiny_yolo

Kind = Literal["int8", "fp8"]
_LARGEST = {"int8": 127, "fp8": 448}
_TYPES = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}


def tiny_quantized(path: Path, kind: Kind, **options: Any) -> Path:
    """Write `tiny_yolo(path, **options)` with quantized convolutions, and return the path."""
    model = onnx.version_converter.convert_version(onnx.load(tiny_yolo(path, **options)), 19)
    graph = model.graph
    (pooling,) = (node for node in graph.node if node.op_type == "AveragePool")
    others = [node for node in graph.node if node is not pooling]
    nodes = [*_body(), *others]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(_constants(kind))
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def _body() -> list[onnx.NodeProto]:
    """`images` [N, 3, H, W] to `grid` [N, 3, H / CELL, W / CELL]."""
    return [
        *_pair("images"),
        _weights("signs"),
        helper.make_node("Conv", ["images_d", "signs"], ["linear"], "signs", kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["linear"], ["gate"]),
        helper.make_node("Mul", ["linear", "gate"], ["signed"]),
        *_pair("signed"),
        helper.make_node("Split", ["signed_d"], ["plus", "minus"], axis=1, num_outputs=2),
        helper.make_node("MaxPool", ["minus"], ["pooled"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["plus", "minus", "pooled"], ["all"], axis=1),
        _weights("mean"),
        helper.make_node("Conv", ["all", "mean"], ["grid"], "mean", kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
    ]


def _pair(tensor: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [tensor, "scale", "zero_q"], [f"{tensor}_q"]),
        helper.make_node("DequantizeLinear", [f"{tensor}_q", "scale", "zero_q"], [f"{tensor}_d"]),
    ]


def _weights(name: str) -> onnx.NodeProto:
    return helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_scale", f"{name}_zero"], [name], axis=0)


def _constants(kind: Kind) -> list[onnx.TensorProto]:
    eye = np.eye(3, dtype=np.float32)
    signs = np.concatenate([eye, -eye])[:, :, None, None]
    # The mean of silu(c) - silu(-c), where the latter is half its own and half the largest value around it.
    cell = np.ones((1, 1, CELL, CELL), np.float32) / CELL**2
    mean = np.concatenate([eye, -eye / 2, -eye / 2], axis=1)[:, :, None, None] * cell
    found = [
        numpy_helper.from_array(np.array(1 / _LARGEST[kind], np.float32), "scale"),
        _quantized(kind, np.zeros(()), "zero_q"),
    ]
    for name, weights in (("signs", signs), ("mean", mean)):
        scale = np.abs(weights).max(axis=(1, 2, 3)) / _LARGEST[kind]
        found += [
            _quantized(kind, weights / scale[:, None, None, None], f"{name}_q"),
            numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"),
            _quantized(kind, np.zeros(len(scale)), f"{name}_zero"),
        ]
    return found


def _quantized(kind: Kind, values: np.ndarray[Any, Any], name: str) -> onnx.TensorProto:
    return helper.make_tensor(name, _TYPES[kind], values.shape, np.round(values).ravel().tolist())
