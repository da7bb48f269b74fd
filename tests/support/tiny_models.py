"""Tiny hand-made YOLO graphs for tests: real ONNX files that every back-end runs, in well under a millisecond.

The picture is cut into square cells, and each cell is one anchor. Its box is centred on the cell and grows with the
cell's brightness; its class scores follow from the cell's mean colour. So the boxes depend on the picture, always in
the same way: a cell that is much redder than it is green or blue is class 0, green class 1, blue class 2, and grey
(the letterbox padding too) is no box. More classes than three repeat the colours with falling scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CELL = 16
"""Side of a cell in input pixels."""

RED, GREEN, BLUE = (0, 0, 255), (0, 255, 0), (255, 0, 0)
"""BGR colours that are surely found, as classes 0, 1 and 2."""


def tiny_yolo(
    path: Path,
    *,
    nc: int = 3,
    imgsz: tuple[int, int] = (64, 64),
    batch: int | None = 1,
    dynamic_size: bool = False,
    names: tuple[str, ...] | None = None,
    metadata: bool = True,
    nan: bool = False,
) -> Path:
    """Write an `anchor_free` YOLO to `path` and return it.

    Args:
        path: the ONNX file to write.
        nc: number of classes.
        imgsz: input (height, width), multiples of 32.
        batch: fixed batch size; None makes it dynamic.
        dynamic_size: height and width are dynamic; `imgsz` is then only named in the metadata.
        names: class names; red, green, blue, class3, ... by default.
        metadata: write the metadata that Ultralytics' exporter writes.
        nan: make every class score NaN.
    """
    names = names or tuple(["red", "green", "blue"][:nc] + [f"class{i}" for i in range(3, nc)])
    height, width = imgsz
    n: int | str = "batch" if batch is None else batch
    anchors = (height // CELL) * (width // CELL)
    shape = [n, 3, "height", "width"] if dynamic_size else [n, 3, height, width]
    graph = helper.make_graph(
        [*_cells(), *(_dynamic_centres() if dynamic_size else _fixed_centres()), *_boxes_and_scores()],
        "tiny_yolo",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(
                "output0", TensorProto.FLOAT, [n, 4 + nc, "anchors" if dynamic_size else anchors]
            )
        ],
        [
            *_constants(nc, nan=nan, dynamic_size=dynamic_size),
            *([] if dynamic_size else [_anchor_table(height, width)]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(
            model,
            {
                "description": "tiny test model",
                "task": "detect",
                "stride": "32",
                "batch": str(batch or 1),
                "imgsz": str([height, width]),
                "names": str(dict(enumerate(names))),
            },
        )
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _cells() -> list[onnx.NodeProto]:
    return [
        helper.make_node("AveragePool", ["images"], ["grid"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Reshape", ["grid", "flat_shape"], ["cells"]),  # [N, 3, A]
        helper.make_node("ReduceMean", ["cells"], ["brightness"], axes=[1], keepdims=1),  # [N, 1, A]
    ]


def _fixed_centres() -> list[onnx.NodeProto]:
    # Zeros of the picture's own batch size carry the table to every picture of the batch.
    return [
        helper.make_node("Mul", ["brightness", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "anchor_table"], ["centres"]),  # [N, 2, A]
    ]


def _dynamic_centres() -> list[onnx.NodeProto]:
    nodes = [
        helper.make_node("ReduceMean", ["grid"], ["grid1"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["grid1", "zero"], ["grid0"]),
        helper.make_node("Add", ["grid0", "one"], ["ones"]),
    ]
    for name, axis in (("x", "axis3"), ("y", "axis2")):
        nodes += [
            helper.make_node("CumSum", ["ones", axis], [f"{name}_count"]),
            helper.make_node("Sub", [f"{name}_count", "half"], [f"{name}_middle"]),
            helper.make_node("Mul", [f"{name}_middle", "cell"], [f"{name}_grid"]),
        ]
    return [
        *nodes,
        helper.make_node("Concat", ["x_grid", "y_grid"], ["centre_grid"], axis=1),
        helper.make_node("Reshape", ["centre_grid", "flat_shape2"], ["centres"]),
    ]


def _boxes_and_scores() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Mul", ["brightness", "cell"], ["growth"]),
        helper.make_node("Add", ["growth", "cell"], ["side"]),  # 16 to 32 pixels
        helper.make_node("Concat", ["side", "side"], ["sides"], axis=1),
        helper.make_node("MatMul", ["colour_weights", "cells"], ["colour"]),  # [N, nc, A]
        helper.make_node("Add", ["colour", "class_bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Mul", ["scores", "score_factor"], ["final_scores"]),
        helper.make_node("Concat", ["centres", "sides", "final_scores"], ["output0"], axis=1),
    ]


def _constants(nc: int, *, nan: bool, dynamic_size: bool) -> list[onnx.TensorProto]:
    weights = np.full((nc, 3), -4.0, np.float32)
    for c in range(nc):
        weights[c, c % 3] = 8.0  # a pure grey gives 0, a pure colour 8
    values: dict[str, object] = {
        "flat_shape": np.array([0, 3, -1], np.int64),
        "zero": np.float32(0),
        "cell": np.float32(CELL),
        "colour_weights": weights,
        "class_bias": np.array([[-4.0 - c // 3] for c in range(nc)], np.float32),
        "score_factor": np.float32(np.nan if nan else 1),
    }
    if dynamic_size:
        values |= {
            "flat_shape2": np.array([0, 2, -1], np.int64),
            "one": np.float32(1),
            "half": np.float32(0.5),
            "axis2": np.int64(2),
            "axis3": np.int64(3),
        }
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def _anchor_table(height: int, width: int) -> onnx.TensorProto:
    ys, xs = np.mgrid[0 : height // CELL, 0 : width // CELL]
    table = np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5])[None].astype(np.float32) * CELL
    return numpy_helper.from_array(table, "anchor_table")
