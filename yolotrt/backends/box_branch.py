"""The box branch of an anchor-free head, cut off its graph: what gives the boxes, apart from what gives the scores.

A sixth of the multiplications of a YOLOv8n or YOLO11n give boxes, of 8,400 anchors in a picture of 640 by 640, and
what scores below the threshold needs none. Per level a branch is, from the feature of the neck on: a 3x3 convolution,
SiLU, another one, SiLU, and a 1x1 convolution to four distributions.

A graph is cut into `trunk`, picture to scores and features, and `boxes`, features to the boxes of all anchors. Both
together are the graph. `Kernel` holds the weights, for who computes some anchors alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.backends.widened import widened
from yolotrt.model_spec import ModelSpec

if TYPE_CHECKING:
    import onnx

Float32Array = npt.NDArray[np.float32]

SIDES = 4
_REACH = [1, 1, 1, 1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel:
    """A convolution as a matrix product.

    Attributes:
        matrix: `[k * k * I, O]`: of each cell that it reads, row by row, all channels.
        bias: `[O]`.
    """

    matrix: Float32Array = field(repr=False)
    bias: Float32Array = field(repr=False)

    @property
    def size(self) -> int:
        """Multiplications per cell."""
        return int(self.matrix.size)


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchLevel:
    """The branch of one level.

    Attributes:
        feature: the tensor `[N, C, h, w]` that it reads.
        values: the tensor `[N, 4 * reg_max, h, w]` that it gives: `RawLevel.boxes`.
        first, second, last: its convolutions, 3x3, 3x3 and 1x1. Behind the first two there is SiLU.
    """

    feature: str
    values: str
    first: Kernel
    second: Kernel
    last: Kernel


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxBranch:
    """A graph, cut.

    Attributes:
        trunk: gives `scores` and the features.
        boxes: of the features, gives `outputs`.
        scores: of an `anchor_free` head the one tensor `[N, nc, A]`; of a `raw` one `RawLevel.scores` of each level.
        outputs: of an `anchor_free` head the one tensor `[N, 4, A]` of cx, cy, w, h in input pixels; of a `raw` one
            `RawLevel.boxes` of each level.
        levels: in the order of the anchors; of a `raw` head in that of `outputs`.
    """

    trunk: onnx.ModelProto = field(repr=False)
    boxes: onnx.ModelProto = field(repr=False)
    scores: Sequence[str]
    outputs: Sequence[str]
    levels: Sequence[BranchLevel]

    @property
    def features(self) -> list[str]:
        return [level.feature for level in self.levels]

    @property
    def reg_max(self) -> int:
        return len(self.levels[0].last.bias) // SIDES


def cut_boxes(model: onnx.ModelProto, spec: ModelSpec) -> BoxBranch | None:
    """Cut a graph in two; None where its head is none of those that this module is about.

    Args:
        model: as `onnxsim` leaves it, in FP32 or FP16; it stays as it is. Its parts are FP32.
        spec: of it.
    """
    if spec.task != "detect" or spec.precision not in ("fp32", "fp16") or spec.head not in ("anchor_free", "raw"):
        return None
    wide = widened(model)
    return None if wide is None else _cut(wide, spec)


def _cut(model: onnx.ModelProto, spec: ModelSpec) -> BoxBranch | None:
    graph = _Graph(model)
    ends = _raw_ends(spec) if spec.head == "raw" else _anchor_free_ends(graph, spec)
    if ends is None:
        return None
    scores, outputs = ends
    levels = _levels(graph, outputs, raw=spec.head == "raw")
    if not levels:
        return None
    features = [level.feature for level in levels]
    trunk, boxes = graph.behind([*scores, *features], ()), graph.behind(outputs, features)
    entries = {v.name for v in model.graph.input}
    if trunk & {level.values for level in levels} or boxes & entries or set(scores) & boxes:
        return None
    inputs = graph.typed(features)
    if inputs is None:
        return None
    return BoxBranch(
        trunk=_part(model, trunk, list(model.graph.input), [*scores, *features]),
        boxes=_part(model, boxes, inputs, outputs),
        scores=scores,
        outputs=outputs,
        levels=levels,
    )


class _Graph:
    """Who gives and who reads a tensor, and the constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.maker = {o: node for node in model.graph.node for o in node.output}
        self.constants = {i.name: i for i in model.graph.initializer}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def behind(self, names: Iterable[str], ends: Collection[str]) -> set[str]:
        """All tensors that some follow from, themselves counted in, but not what lies behind the ends."""
        pending, found = list(names), set[str]()
        while pending:
            name = pending.pop()
            if name in found or name in ends or not name:
                continue
            found.add(name)
            node = self.maker.get(name)
            if node is not None:
                pending += node.input
        return found

    def typed(self, names: Sequence[str]) -> list[onnx.ValueInfoProto] | None:
        """Type and shape of float32 tensors; None where one is unknown."""
        import onnx

        found = {v.name: v for v in onnx.shape_inference.infer_shapes(self.model).graph.value_info}
        values = [found[name] for name in names if name in found]
        kinds = {v.type.tensor_type.elem_type for v in values}
        return values if len(values) == len(names) and kinds == {onnx.TensorProto.FLOAT} else None

    def array(self, name: str) -> npt.NDArray[Any] | None:
        """A constant; None where a tensor is computed. Of equal ones an exporter keeps one, under an Identity each."""
        from onnx import numpy_helper

        while (node := self.maker.get(name)) is not None and node.op_type == "Identity":
            name = node.input[0]
        found = self.constants.get(name)
        return None if found is None else numpy_helper.to_array(found)


Ends = tuple[list[str], list[str]]
"""The tensors of the scores, and those of the boxes."""


def _raw_ends(spec: ModelSpec) -> Ends:
    assert spec.raw is not None
    return [level.scores for level in spec.raw.levels], [level.boxes for level in spec.raw.levels]


def _anchor_free_ends(graph: _Graph, spec: ModelSpec) -> Ends | None:
    joined = graph.maker.get(spec.outputs[0].name)
    if len(spec.outputs) != 1 or joined is None or joined.op_type != "Concat" or len(joined.input) != 2:
        return None
    boxes, scores = joined.input
    # Joined along the channels, as the spec has it: four of boxes come first, if this is a head at all.
    return ([scores], [boxes]) if _ints(joined, "axis") in ([1], [-2]) else None


def _levels(graph: _Graph, outputs: Sequence[str], *, raw: bool) -> list[BranchLevel]:
    """The branches that boxes follow from, or are where the head is raw; none where they follow from anything else."""
    found: dict[str, BranchLevel] = {}
    pending, seen = list(outputs), set[str]()
    while pending:
        name = pending.pop()
        node = graph.maker.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        level = _level(graph, node)
        if level is None:
            pending += node.input
        else:
            found[name] = level
    # By their place in the graph. Whether that is the order of the anchors, running them shows.
    placed = [o for node in graph.model.graph.node for o in node.output if o in found]
    levels = [found[name] for name in (outputs if raw else placed) if name in found]
    if raw and len(levels) != len(outputs):
        return []
    channels = {len(level.last.bias) for level in levels}
    if len(channels) != 1 or channels.pop() % SIDES or len({level.feature for level in levels}) != len(levels):
        return []
    return levels


def _level(graph: _Graph, last: onnx.NodeProto) -> BranchLevel | None:
    """The branch that ends in a node, if one does."""
    kernels = [_kernel(graph, last, 1)]
    node = last
    while len(kernels) < 3 and kernels[-1] is not None:
        before = _silu(graph, node.input[0])
        if before is None:
            return None
        kernels.append(_kernel(graph, before, 3))
        node = before
    if any(kernel is None for kernel in kernels):
        return None
    third, second, first = (kernel for kernel in kernels if kernel is not None)
    return BranchLevel(feature=node.input[0], values=last.output[0], first=first, second=second, last=third)


def _silu(graph: _Graph, name: str) -> onnx.NodeProto | None:
    """The node whose SiLU a tensor is, if it is that of one: x * Sigmoid(x)."""
    product = graph.maker.get(name)
    if product is None or product.op_type != "Mul" or len(graph.readers[name]) != 1:
        return None
    for x, gate in (product.input, reversed(product.input)):
        sigmoid = graph.maker.get(gate)
        if sigmoid is not None and sigmoid.op_type == "Sigmoid" and sigmoid.input[0] == x:
            return graph.maker.get(x)
    return None


def _kernel(graph: _Graph, node: onnx.NodeProto, side: int) -> Kernel | None:
    """A plain convolution of a square of cells around each, which leaves the size as it is; None for any other."""
    if node.op_type != "Conv" or len(node.input) != 3:
        return None
    weights, bias = (graph.array(name) for name in node.input[1:])
    if weights is None or bias is None or weights.dtype != np.float32 or weights.shape[2:] != (side, side):
        return None
    padding = [0] * 4 if side == 1 else _REACH
    plain = (
        _ints(node, "pads") in (([], padding) if side == 1 else (padding,))
        and _ints(node, "strides") in ([], [1, 1])
        and _ints(node, "dilations") in ([], [1, 1])
        and _ints(node, "group") in ([], [1])
        and not any(a.name == "auto_pad" and a.s != b"NOTSET" for a in node.attribute)
    )
    if not plain:
        return None
    matrix = np.ascontiguousarray(weights.transpose(2, 3, 1, 0).reshape(-1, len(weights)))
    return Kernel(matrix=matrix, bias=bias)


def _ints(node: onnx.NodeProto, name: str) -> list[int]:
    """The numbers of an attribute; none where it is not given."""
    return next((list(a.ints) or [a.i] for a in node.attribute if a.name == name), [])


def _part(
    model: onnx.ModelProto, tensors: set[str], inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[str]
) -> onnx.ModelProto:
    """The part of a graph that some tensors make up."""
    import onnx

    graph = onnx.helper.make_graph(
        [node for node in model.graph.node if tensors.intersection(node.output)],
        model.graph.name,
        inputs,
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [i for i in model.graph.initializer if i.name in tensors],
    )
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
