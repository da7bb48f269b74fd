"""Where the Q/DQ pairs go, so that TensorRT fuses them into INT8 or FP8 kernels.

The rules, and why:

- A convolution is quantized by a pair on its data input and one on its weights. Its bias stays in floating point.
- Operators that only move values (`MOVES`) are looked through: the pair stands before them, at the tensor that
  something computed (a *root*), so that they move bytes. What they give needs no pair of its own.
- Tensors that meet in a Concat share one scale, since only then can the Concat run on the quantized values.
- No pair stands between a convolution and its activation, nor inside a SiLU: they are one kernel, which quantizes what
  it gives.
- Of the two inputs of a residual Add, the one that is not the fresh result of a convolution is read quantized: the Add
  becomes the last step of that convolution's kernel, which reads the residual as bytes.
- The convolutions whose result leaves the network (the last ones of each head) and the expectation over the bins of a
  box side (DFL) stay in floating point: their errors are errors of boxes and scores.
- So does a convolution whose data comes through the same Split or Reshape as that of a MatMul: the positional one of an
  attention. A pair before it would round the queries, keys and values as well, in a range chosen for it alone.
- In FP8, so does the convolution that reads the picture. FP8 has eight levels between half and full brightness, and
  what is lost there no layer brings back: on the demo model a third of all error, for 1 % of the arithmetic.
- In FP8, so do narrow ones: 16 channels or fewer on a side, each group for itself (depthwise ones, too), and kernels of
  more than 32 taps. NVIDIA's ModelOpt leaves these out, since TensorRT has no FP8 kernel for them or a slower one. And
  pointwise ones that multiply each value they move 32 times or less: memory limits them, not arithmetic, and on the
  demo model they are a tenth of the error for 2 % of the multiplications.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.export.quantize.formats import Kind

if TYPE_CHECKING:
    import onnx

Slot = tuple[str, int]
"""An input of a node: the node's first output, and the position."""

MOVES = frozenset({
    "Concat", "DepthToSpace", "Flatten", "Identity", "MaxPool", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split",
    "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip
"""Operators whose output holds only values of their input. A Resize is one only if it takes the nearest value."""

FP8_NARROW = 16
"""Channels of a convolution on its narrower side that FP8 does not pay for."""

FP8_MOST_TAPS = 32

FP8_LEAST_REUSE = 32
"""Multiplications per value moved that a pointwise convolution must exceed."""

_COMPUTE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution that is to be quantized.

    Attributes:
        key: its output, which is its name here.
        data, weight: its inputs; the weights are an initializer `[out, in / groups, kh, kw]`.
        bias: its third input, or None.
        root_group: index in `Placement.groups` of the tensors that its data comes from.
    """

    key: str
    data: str
    weight: str
    bias: str | None
    root_group: int


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where pairs go in one graph.

    Attributes:
        convolutions: quantized, in the order of computation.
        groups: the tensors that get a pair; those of one group share a scale.
        reads: the inputs that read the quantized version of such a tensor. All others read the tensor itself.
        kept: reason why a convolution stays in floating point, by its key: `head`, `expectation`, `weights`,
            `attention`, `input`, `narrow`, `asked`.
    """

    convolutions: tuple[Convolution, ...]
    groups: tuple[tuple[str, ...], ...]
    reads: frozenset[Slot]
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def tensors(self) -> list[str]:
        """Every tensor that gets a pair."""
        return [t for group in self.groups for t in group]


def place(
    model: onnx.ModelProto, *, kind: Kind = "int8", keep: Callable[[onnx.NodeProto], bool] | None = None
) -> Placement:
    """Choose the places.

    Args:
        model: a float32 graph as `fp16_rewrite.normalise` gives it.
        kind: the number format; INT8 may be used in more places than FP8.
        keep: further convolutions to leave in floating point.
    """
    graph = GraphView(model)
    kept = _kept(graph, kind, keep)
    walk = _Walk(graph)
    quantized = [n for n in graph.nodes.values() if n.op_type == "Conv" and n.output[0] not in kept]
    for node in quantized:
        walk.read((node.output[0], 0))
    walk.read_residuals({n.output[0] for n in quantized})
    groups = walk.groups()
    group_of = {tensor: i for i, group in enumerate(groups) for tensor in group}
    return Placement(
        convolutions=tuple(
            Convolution(
                key=n.output[0],
                data=n.input[0],
                weight=n.input[1],
                bias=n.input[2] if len(n.input) > 2 and n.input[2] else None,
                root_group=group_of[walk.roots(n.input[0])[0]],
            )
            for n in quantized
        ),
        groups=groups,
        reads=frozenset(walk.reads),
        kept=kept,
    )


class GraphView:
    """A normalised graph by tensor: who gives it, who reads it, what is constant. Nodes go by their first output."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = {n.output[0]: n for n in model.graph.node}
        self.producer = {o: n for n in model.graph.node for o in n.output if o}
        self.constants = {i.name: i for i in model.graph.initializer}
        self.outputs = [v.name for v in model.graph.output]
        self.readers: dict[str, list[Slot]] = {}
        for node in model.graph.node:
            for slot, tensor in enumerate(node.input):
                self.readers.setdefault(tensor, []).append((node.output[0], slot))

    def name(self, key: str) -> str:
        """A node's name, for people; where it has none, its output's."""
        return self.nodes[key].name or key

    def constant(self, name: str) -> npt.NDArray[Any]:
        """The value of an initializer."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def moved(self, tensor: str) -> list[str]:
        """The tensors whose values `tensor` consists of; none where something computed it."""
        node = self.producer.get(tensor)
        if node is None or node.op_type not in MOVES:
            return []
        if node.op_type == "Resize" and _text(node, "mode", "nearest") != "nearest":
            return []
        sources = list(node.input) if node.op_type == "Concat" else [node.input[0]]
        # A constant cannot be given the scale of the others.
        return [] if any(s in self.constants for s in sources) else sources

    def is_expectation(self, node: onnx.NodeProto) -> bool:
        """A convolution with the weights 0, 1, 2, ...: the mean of a distribution over bins, as DFL takes it."""
        weights = self.constant(node.input[1])
        return bool(np.array_equal(weights.ravel(), np.arange(weights.size)))

    def moves_before(self, tensor: str) -> set[str]:
        """The moves between a tensor and its roots, by key."""
        found, pending = set[str](), [tensor]
        while pending:
            here = pending.pop()
            if (sources := self.moved(here)) and (key := self.producer[here].output[0]) not in found:
                found.add(key)
                pending += sources
        return found

    def moves_of_matmuls(self) -> set[str]:
        """The moves that the data of some MatMul passes, by key."""
        found = set[str]()
        for node in self.nodes.values():
            if node.op_type == "MatMul":
                for tensor in node.input:
                    found |= self.moves_before(tensor)
        return found

    def last_convolutions(self) -> set[str]:
        """Those with nothing but box decoding behind them."""
        pending, seen, found = list(self.outputs), set[str](), set[str]()
        while pending:
            node = self.producer.get(pending.pop())
            if node is None or node.output[0] in seen:
                continue
            seen.add(node.output[0])
            is_expectation = node.op_type == "Conv" and node.input[1] in self.constants and self.is_expectation(node)
            if node.op_type in _COMPUTE and not is_expectation:
                found.add(node.output[0])
            else:
                pending += node.input
        return {key for key in found if self.nodes[key].op_type == "Conv"}


def _kept(graph: GraphView, kind: Kind, keep: Callable[[onnx.NodeProto], bool] | None) -> dict[str, str]:
    last, attended, kept = graph.last_convolutions(), graph.moves_of_matmuls(), dict[str, str]()
    for key, node in graph.nodes.items():
        if node.op_type != "Conv":
            continue
        if node.input[1] not in graph.constants:
            kept[key] = "weights"
        elif graph.is_expectation(node):
            kept[key] = "expectation"
        elif key in last:
            kept[key] = "head"
        elif not attended.isdisjoint(graph.moves_before(node.input[0])):
            kept[key] = "attention"
        elif kind == "fp8" and (reason := _unfit_for_fp8(graph, node)):
            kept[key] = reason
        elif keep is not None and keep(node):
            kept[key] = "asked"
    return kept


def _unfit_for_fp8(graph: GraphView, node: onnx.NodeProto) -> str | None:
    if node.input[0] in (v.name for v in graph.model.graph.input):
        return "input"
    out_channels, in_channels, *kernel = graph.constants[node.input[1]].dims
    taps = int(np.prod(kernel))
    is_narrow = min(out_channels, in_channels) <= FP8_NARROW or taps > FP8_MOST_TAPS
    reuse = taps * out_channels * in_channels / (out_channels + in_channels)
    return "narrow" if is_narrow or (taps == 1 and reuse <= FP8_LEAST_REUSE) else None


class _Walk:
    """Collects the roots of what is read quantized, and which of them share a scale."""

    def __init__(self, graph: GraphView) -> None:
        self.graph = graph
        self.reads: set[Slot] = set()
        self._parent: dict[str, str] = {}  # union-find over roots
        self._roots: dict[str, tuple[str, ...]] = {}

    def read(self, slot: Slot) -> None:
        """Let an input be read quantized, and every move between it and its roots move quantized values."""
        pending = [slot]
        while pending:
            here = pending.pop()
            if here in self.reads:
                continue
            self.reads.add(here)
            tensor = self.graph.nodes[here[0]].input[here[1]]
            sources = self.graph.moved(tensor)
            move = self.graph.producer[tensor].output[0] if sources else ""
            pending += [(move, i) for i in range(len(sources))]
            self._join(self.roots(tensor))
        # An input that is fed by a move reads what the move gives; only those that read a root itself are rewired.

    def roots(self, tensor: str) -> tuple[str, ...]:
        """The computed tensors whose values `tensor` consists of."""
        if tensor not in self._roots:
            sources = self.graph.moved(tensor)
            found = dict.fromkeys(root for s in sources for root in self.roots(s)) if sources else {tensor: None}
            self._roots[tensor] = tuple(found)
        return self._roots[tensor]

    def read_residuals(self, quantized: set[str]) -> None:
        """Let residual inputs be read quantized, of the Adds whose result is quantized as well."""
        for key, node in self.graph.nodes.items():
            if node.op_type != "Add" or key not in self._parent or any(t in self.graph.constants for t in node.input):
                continue
            fresh = [slot for slot, t in enumerate(node.input) if self._is_fresh(t, quantized)]
            if fresh:
                # One fresh input is added inside its kernel. The other is the residual, fresh or not.
                self.read((key, 1 - fresh[-1]))

    def groups(self) -> tuple[tuple[str, ...], ...]:
        found: dict[str, list[str]] = {}
        for tensor in self._parent:
            found.setdefault(self._find(tensor), []).append(tensor)
        return tuple(tuple(g) for g in found.values())

    def _is_fresh(self, tensor: str, quantized: set[str]) -> bool:
        """Whether a quantized convolution with its activation gives `tensor`, for this reader alone."""
        if len(self.graph.readers[tensor]) > 1 or tensor in self.graph.outputs:
            return False
        return tensor in quantized or self._activated(tensor) in quantized

    def _activated(self, tensor: str) -> str | None:
        """The tensor of which `tensor` is an elementwise function (Relu, SiLU as x * sigmoid(x), ...)."""
        node = self.graph.producer.get(tensor)
        if node is None or len(node.output) != 1 or node.op_type in MOVES | _COMPUTE:
            return None
        through: set[str] = set()
        for source in node.input:
            if source not in self.graph.constants:
                inner = self.graph.producer.get(source)
                is_gate = node.op_type == "Mul" and inner is not None and inner.op_type in ("Sigmoid", "HardSigmoid")
                through.add(inner.input[0] if is_gate and inner is not None else source)
        return through.pop() if len(through) == 1 else None

    def _join(self, roots: Sequence[str]) -> None:
        for root in roots:
            self._parent.setdefault(root, root)
        for root in roots[1:]:
            self._parent[self._find(root)] = self._find(roots[0])

    def _find(self, tensor: str) -> str:
        while self._parent[tensor] != tensor:
            tensor = self._parent[tensor]
        return tensor


def _text(node: onnx.NodeProto, name: str, default: str) -> str:
    return next((a.s.decode() for a in node.attribute if a.name == name), default)


def convolution_macs(model: onnx.ModelProto, input_shape: Sequence[int]) -> dict[str, int]:
    """Multiply-accumulates of each convolution for an input of that shape, by its output. DFL's expectation counts too.

    Raises:
        ExportError: the shape of a convolution's output cannot be inferred.
    """
    import onnx

    from yolotrt.errors import ExportError

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for dim, size in zip(sized.graph.input[0].type.tensor_type.shape.dim, input_shape, strict=True):
        dim.dim_value = size
    del sized.graph.value_info[:]
    sized = onnx.shape_inference.infer_shapes(sized, data_prop=True)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in _values(sized)}
    graph, macs = GraphView(sized), {}
    for key, node in graph.nodes.items():
        if node.op_type != "Conv":
            continue
        if node.input[1] in graph.constants:
            weight = list(graph.constants[node.input[1]].dims)
        else:
            weight = shapes.get(node.input[1], [])
        if not weight or not shapes.get(key) or 0 in shapes[key]:
            raise ExportError(f"the size of the convolution {node.name or key} is not known")
        macs[key] = int(np.prod(shapes[key])) * int(np.prod(weight[1:]))
    return macs


def _values(model: onnx.ModelProto) -> Iterable[onnx.ValueInfoProto]:
    return (*model.graph.value_info, *model.graph.output)
