"""Anchor-free heads as Ultralytics' exporter writes them, behind one convolution per output; real graphs, and tiny."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yolotrt.export.graph import Graph
from yolotrt.export.head_surgery import cut_head
from yolotrt.model_spec import RawHead, RawLevel
from yolotrt.model_spec_infer import read_onnx_spec


@dataclass(frozen=True, kw_only=True)
class TinyHead:
    """What to make.

    Attributes:
        nc, reg_max, strides: of the head.
        imgsz: input (height, width).
        batch: fixed batch size; None makes it dynamic.
        dynamic_size: height and width are dynamic.
        joined: boxes and scores of a level are joined and split again, as exporters before 2025 do.
        half: everything behind the input is FP16.
        scores_first: the convolutions of the scores come before those of the boxes.
        branch: channels of two more convolutions before those of the boxes, each with SiLU behind it; 0 for none.
        seed: of the weights.
    """

    nc: int = 3
    reg_max: int = 4
    strides: tuple[int, ...] = (8, 16)
    imgsz: tuple[int, int] = (64, 96)
    batch: int | None = 1
    dynamic_size: bool = False
    joined: bool = False
    half: bool = False
    scores_first: bool = False
    branch: int = 0
    seed: int = 0

    @property
    def raw(self) -> RawHead:
        levels = (RawLevel(stride=s, boxes=f"boxes_{s}", scores=f"scores_{s}") for s in self.strides)
        return RawHead(reg_max=self.reg_max, levels=tuple(levels))

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Rows and columns of each level."""
        return [(self.imgsz[0] // s, self.imgsz[1] // s) for s in self.strides]


def tiny_head(head: TinyHead) -> onnx.ModelProto:
    """A whole model: a convolution, the mean of each cell, a convolution per output, the head."""
    rng = np.random.default_rng(head.seed)
    nodes, constants, pairs = [], [], []
    kind = TensorProto.FLOAT16 if head.half else TensorProto.FLOAT
    image = "images"
    if head.half:
        nodes.append(helper.make_node("Cast", ["images"], ["picture"], to=kind))
        image = "picture"
    stem = rng.normal(0, 0.3, (3, 3, 3, 3)).astype(np.float16 if head.half else np.float32)
    constants.append(numpy_helper.from_array(stem, "stem_w"))
    nodes.append(helper.make_node("Conv", [image, "stem_w"], ["stem"], pads=[1, 1, 1, 1]))
    for stride in head.strides:
        cell = f"cell_{stride}"
        nodes.append(helper.make_node("AveragePool", ["stem"], [cell], kernel_shape=[stride] * 2, strides=[stride] * 2))
        pair = {"box": 4 * head.reg_max, "class": head.nc}
        for what in sorted(pair, reverse=head.scores_first):
            name = f"{what}_conv_{stride}"
            if what == "box" and head.branch:
                more, values = _branch(head, rng, cell, name)
                nodes += more
                constants += values
                continue
            weights = rng.normal(0, 4, (pair[what], 3, 1, 1)).astype(np.float16 if head.half else np.float32)
            constants.append(numpy_helper.from_array(weights, f"{name}_w"))
            nodes.append(helper.make_node("Conv", [cell, f"{name}_w"], [name]))
        pairs.append((f"box_conv_{stride}", f"class_conv_{stride}"))
    more, values = _tail(head, pairs)
    n: Any = "batch" if head.batch is None else head.batch
    sides: list[Any] = ["height", "width"] if head.dynamic_size else list(head.imgsz)
    anchors: Any = "anchors" if head.dynamic_size else sum(h * w for h, w in head.sizes)
    graph = helper.make_graph(
        [*nodes, *more],
        "tiny_head",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [n, 3, *sides])],
        [helper.make_tensor_value_info("output0", kind, [n, 4 + head.nc, anchors])],
        [*constants, *values],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    names = str({i: f"class{i}" for i in range(head.nc)})
    entries = {"task": "detect", "stride": "32", "batch": "1", "imgsz": str(list(head.imgsz)), "names": names}
    helper.set_model_props(model, entries)
    onnx.checker.check_model(model, full_check=True)
    return model


def _branch(
    head: TinyHead, rng: np.random.Generator, cell: str, name: str
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """What Ultralytics' heads work out boxes with: 3x3 convolution, SiLU, 3x3 convolution, SiLU, 1x1 convolution."""
    dtype = np.float16 if head.half else np.float32
    sizes = [(3, head.branch, 3), (head.branch, head.branch, 3), (head.branch, 4 * head.reg_max, 1)]
    nodes, values = [], []
    source = cell
    for i, (before, after, side) in enumerate(sizes):
        made = name if i == 2 else f"{name}_{i}"
        for what, shape in (("w", (after, before, side, side)), ("b", (after,))):
            values.append(numpy_helper.from_array(rng.normal(0, 0.7, shape).astype(dtype), f"{made}_{what}"))
        nodes.append(helper.make_node("Conv", [source, f"{made}_w", f"{made}_b"], [made], pads=[side // 2] * 4))
        if i < 2:
            nodes.append(helper.make_node("Sigmoid", [made], [f"{made}_gate"]))
            nodes.append(helper.make_node("Mul", [made, f"{made}_gate"], [f"{made}_silu"]))
            source = f"{made}_silu"
    return nodes, values


def tail_alone(head: TinyHead) -> onnx.ModelProto:
    """The head without the model: its inputs are the outputs of the `raw` form, of one picture."""
    inputs, pairs = [], []
    for level, (height, width) in zip(head.raw.levels, head.sizes, strict=True):
        for name, channels in ((level.boxes, 4 * head.reg_max), (level.scores, head.nc)):
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, height, width]))
        pairs.append((level.boxes, level.scores))
    nodes, constants = _tail(head, pairs)
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "tail", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _tail(head: TinyHead, pairs: Sequence[tuple[str, str]]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    dtype = np.float16 if head.half else np.float32
    values: dict[str, Any] = {
        "flat_box": np.array([0, 4 * head.reg_max, -1], np.int64),
        "flat_class": np.array([0, head.nc, -1], np.int64),
        "flat_both": np.array([0, 4 * head.reg_max + head.nc, -1], np.int64),
        "parts": np.array([4 * head.reg_max, head.nc], np.int64),
        "bins_shape": np.array([0, 4, head.reg_max, -1], np.int64),
        "sides_shape": np.array([0, 4, -1], np.int64),
        "halves": np.array([2, 2], np.int64),
        "two": dtype(2),
        "expectation": np.arange(head.reg_max, dtype=dtype).reshape(1, -1, 1, 1),
    }
    nodes = _joined(pairs) if head.joined else _apart(pairs)
    sides = "all_boxes"
    if head.reg_max > 1:
        sides = "sides"
        nodes += [
            helper.make_node("Reshape", ["all_boxes", "bins_shape"], ["bins"]),
            helper.make_node("Transpose", ["bins"], ["turned"], perm=[0, 2, 1, 3]),
            helper.make_node("Softmax", ["turned"], ["weights"], axis=1),
            helper.make_node("Conv", ["weights", "expectation"], ["means"]),
            helper.make_node("Reshape", ["means", "sides_shape"], ["sides"]),
        ]
    if head.dynamic_size:
        more, anchors = _dynamic_anchors(head, [boxes for boxes, _ in pairs])
        nodes += more
        values |= anchors
    else:
        values |= {"middles": _middles(head).astype(dtype), "strides": _strides(head).astype(dtype)}
    nodes += [
        helper.make_node("Split", [sides, "halves"], ["lt", "rb"], axis=1),
        helper.make_node("Sub", ["middles", "lt"], ["low"]),
        helper.make_node("Add", ["middles", "rb"], ["high"]),
        helper.make_node("Add", ["low", "high"], ["both"]),
        helper.make_node("Div", ["both", "two"], ["centre"]),
        helper.make_node("Sub", ["high", "low"], ["extent"]),
        helper.make_node("Concat", ["centre", "extent"], ["cells"], axis=1),
        helper.make_node("Mul", ["cells", "strides"], ["pixels"]),
        helper.make_node("Sigmoid", ["all_classes"], ["scores"]),
        helper.make_node("Concat", ["pixels", "scores"], ["output0"], axis=1),
    ]
    used = {name for node in nodes for name in node.input}
    return nodes, [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items() if k in used]


def _apart(pairs: Sequence[tuple[str, str]]) -> list[onnx.NodeProto]:
    nodes = []
    for kind, chosen in (("box", [boxes for boxes, _ in pairs]), ("class", [scores for _, scores in pairs])):
        nodes += [helper.make_node("Reshape", [name, f"flat_{kind}"], [f"{name}_flat"]) for name in chosen]
        joined = "all_boxes" if kind == "box" else "all_classes"
        nodes.append(helper.make_node("Concat", [f"{name}_flat" for name in chosen], [joined], axis=2))
    return nodes


def _joined(pairs: Sequence[tuple[str, str]]) -> list[onnx.NodeProto]:
    nodes = []
    for i, pair in enumerate(pairs):
        nodes += [
            helper.make_node("Concat", list(pair), [f"level_{i}"], axis=1),
            helper.make_node("Reshape", [f"level_{i}", "flat_both"], [f"flat_{i}"]),
        ]
    return [
        *nodes,
        helper.make_node("Concat", [f"flat_{i}" for i in range(len(pairs))], ["all_levels"], axis=2),
        helper.make_node("Split", ["all_levels", "parts"], ["all_boxes", "all_classes"], axis=1),
    ]


def _middles(head: TinyHead) -> Any:
    parts = []
    for height, width in head.sizes:
        ys, xs = np.mgrid[0:height, 0:width]
        parts.append(np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5]))
    return np.concatenate(parts, axis=1)[None]


def _strides(head: TinyHead) -> Any:
    counts = [h * w for h, w in head.sizes]
    return np.repeat(np.array(head.strides), counts)[None]


def _dynamic_anchors(head: TinyHead, boxes: Sequence[str]) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """Middles and strides that follow from the shapes of the levels."""
    values: dict[str, Any] = {
        "one": np.array([1.0], np.float32),
        "half": np.float32(0.5),
        "axis2": np.int64(2),
        "axis3": np.int64(3),
        "one_channel": np.array([0, 1], np.int64),
        "from2": np.array([2], np.int64),
        "to4": np.array([4], np.int64),
        "ones11": np.array([1, 1], np.int64),
        "flat_middle": np.array([1, 2, -1], np.int64),
        "flat_stride": np.array([1, 1, -1], np.int64),
    }
    nodes = []
    for stride, name in zip(head.strides, boxes, strict=True):
        values[f"stride_{stride}"] = np.float32(stride)
        nodes += [
            helper.make_node("Shape", [name], [f"shape_{stride}"]),
            helper.make_node("Slice", [f"shape_{stride}", "from2", "to4"], [f"sides_{stride}"]),
            helper.make_node("Concat", ["ones11", f"sides_{stride}"], [f"grid_{stride}"], axis=0),
            helper.make_node("Expand", ["one", f"grid_{stride}"], [f"ones_{stride}"]),
            helper.make_node("CumSum", [f"ones_{stride}", "axis3"], [f"x_{stride}"]),
            helper.make_node("CumSum", [f"ones_{stride}", "axis2"], [f"y_{stride}"]),
            helper.make_node("Concat", [f"x_{stride}", f"y_{stride}"], [f"xy_{stride}"], axis=1),
            helper.make_node("Sub", [f"xy_{stride}", "half"], [f"middle_{stride}"]),
            helper.make_node("Reshape", [f"middle_{stride}", "flat_middle"], [f"middles_{stride}"]),
            helper.make_node("Mul", [f"ones_{stride}", f"stride_{stride}"], [f"wide_{stride}"]),
            helper.make_node("Reshape", [f"wide_{stride}", "flat_stride"], [f"strides_{stride}"]),
        ]
    for what in ("middles", "strides"):
        nodes.append(helper.make_node("Concat", [f"{what}_{s}" for s in head.strides], [what], axis=2))
    return nodes, values


def reorder(model: onnx.ModelProto, strides: Sequence[int]) -> None:
    """Let the last level of a raw model come first among its nodes."""
    stem, *nodes = model.graph.node
    by_level = [[n for n in nodes if str(stride) in n.output[0].split("_")] for stride in reversed(strides)]
    assert sum(map(len, by_level)) == len(nodes)
    del model.graph.node[:]
    model.graph.node.extend([stem, *(node for level in by_level for node in level)])
    onnx.checker.check_model(model)


def save_raw(head: TinyHead, path: Path) -> Path:
    """Write the whole model without its head, as `yolotrt export --head raw` does, and return the path."""
    model = tiny_head(head)
    cut = cut_head(model, read_onnx_spec(model))
    path.write_bytes(Graph(model=cut.model, spec=cut.spec).serialized())
    return path
