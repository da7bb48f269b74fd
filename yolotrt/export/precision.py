"""FP16: which nodes of a YOLO graph may compute in it, so that no box moves.

FP16 has 11 significant bits and ends at 65504. Almost every layer of a detector is at ease with that. Kept in FP32 are:

- `box decode`: everything behind the last convolutions that ends in pixel coordinates or picks boxes. Above 512 the
  step of FP16 is 0.5 px, and a choice among equal scores would change.
- `last convolution`: the pointwise convolutions that give class scores and box distributions, a hundredth of the
  arithmetic. Scores that FP16 makes tie let another of two overlapping boxes win (`scripts/fp16_emulation.py`).
- `range`: nodes whose values, on real pictures, come within a factor of 8 of 65504, or are all so small that FP16
  would lose their digits.
- `weights`: nodes whose constants FP16 cannot hold.
- `asked`: what the caller wants in FP32.
- `operator`: operators that are not known to be safe in FP16 (sums, powers, exponentials, sampling positions).

Inputs and outputs of the graph stay float32 on purpose: every consumer (Triton, DeepStream, Ultralytics, yolotrt) feeds
and reads the same file, and one cast at either end costs less than a megabyte of traffic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.export.fp16_rewrite import TYPELESS, normalise, rewrite, tensor_types
from yolotrt.export.ranges import measure_ranges
from yolotrt.types import Batch

if TYPE_CHECKING:
    import onnx

_FP16_MAX = 65504.0

LARGEST = _FP16_MAX / 8
"""Largest absolute value seen on the calibration pictures that still leaves room for other pictures."""

SMALLEST = 2.0**-13
"""A tensor below this everywhere has, in FP16, fewer digits than the 11 that it would have elsewhere."""

_WEIGHT_ERROR = 2.0**-9  # relative error of a rounded weight tensor; ordinary ones have 2**-12

# Where the multiplying is done. The box decode is what follows the last of these, and FP16 pays only around them.
_COMPUTE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Softmax", "LayerNormalization"})
# Operators that only move or select values: exact in any precision.
_MOVES = frozenset({
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
_SAFE = _COMPUTE | _MOVES | frozenset({
    "Add", "AveragePool", "BatchNormalization", "Clip", "Div", "Elu", "Erf", "Gelu", "GlobalAveragePool",
    "GlobalMaxPool", "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Relu",
    "Resize", "Sigmoid", "Softplus", "Sub", "Tanh", "Where",
})  # fmt: skip
# Operators that read positions from an input: (op type, slot). What computes those positions is box decoding as well.
_POSITIONS = {"GridSample": 1}


@dataclass(frozen=True, kw_only=True)
class Fp16Result:
    """An FP16 graph and what was decided for it.

    Attributes:
        model: the graph; float32 inputs and outputs.
        fp16_nodes, nodes: how many compute in FP16, of how many that handle floats at all.
        kept: nodes kept in FP32, by reason.
        pictures: used for the calibration.
    """

    model: onnx.ModelProto = field(repr=False)
    fp16_nodes: int
    nodes: int
    kept: Mapping[str, int]
    pictures: int


@dataclass(frozen=True, kw_only=True)
class Fp16Choice:
    """Which nodes of a graph may compute in FP16.

    Attributes:
        model: the float32 graph, normalised: what the names refer to.
        fp16: those nodes, by their first output.
        nodes: how many handle floats at all.
        kept: nodes to keep in FP32, by reason.
        pictures: used for the calibration.
    """

    model: onnx.ModelProto = field(repr=False)
    fp16: Sequence[str] = field(repr=False)
    nodes: int
    kept: Mapping[str, int]
    pictures: int


def to_fp16(
    model: onnx.ModelProto, batches: Iterable[Batch], *, keep: Callable[[onnx.NodeProto], bool] | None = None
) -> Fp16Result:
    """Rewrite a float32 graph to FP16.

    Args:
        model: a float32 detection graph, simplified.
        batches: real pictures as its input; the ranges of the activations come from them.
        keep: further nodes to keep in FP32.

    Raises:
        ExportError: a graph that cannot be rewritten, or values that are not finite.
    """
    choice = choose_fp16(model, batches, keep=keep)
    return Fp16Result(
        model=rewrite(choice.model, choice.fp16),
        fp16_nodes=len(choice.fp16),
        nodes=choice.nodes,
        kept=choice.kept,
        pictures=choice.pictures,
    )


def choose_fp16(
    model: onnx.ModelProto, batches: Iterable[Batch], *, keep: Callable[[onnx.NodeProto], bool] | None = None
) -> Fp16Choice:
    """Decide what `to_fp16` rewrites, with the same arguments and errors."""
    graph = _Graph(normalise(model))
    reasons = graph.unsafe_operators() | graph.unsafe_weights() | graph.box_decode()
    if keep is not None:
        reasons |= {key: "asked" for key in graph.float_nodes if keep(graph.nodes[key])}
    pictures = 0

    def counted() -> Iterable[Batch]:
        nonlocal pictures
        for batch in batches:
            pictures += len(batch.images)
            yield batch

    candidates = [n for n in graph.float_nodes if n not in reasons]
    ranges = measure_ranges(graph.model, graph.activations_of(candidates), counted())
    reasons |= {n: "range" for n in candidates if not graph.in_range(n, ranges)}
    reasons = graph.without_islands(graph.with_moves(reasons))
    return Fp16Choice(
        model=graph.model,
        fp16=[n for n in graph.float_nodes if n not in reasons],
        nodes=len(graph.float_nodes),
        kept=dict(Counter(reasons[n] for n in graph.float_nodes if n in reasons)),
        pictures=pictures,
    )


class _Graph:
    """A normalised graph with what the decisions need. Nodes are named by their first output."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import TensorProto, numpy_helper

        self.model = model
        types = tensor_types(model)
        self._is_float = {name for name, t in types.items() if t == TensorProto.FLOAT}
        self.nodes = {n.output[0]: n for n in model.graph.node}
        self.producer = {o: key for key, n in self.nodes.items() for o in n.output if o}
        self.weights = {
            i.name: numpy_helper.to_array(i) for i in model.graph.initializer if i.data_type == TensorProto.FLOAT
        }
        self.float_nodes = [
            key
            for key, n in self.nodes.items()
            if n.op_type not in TYPELESS and any(t in self._is_float for t in (*n.input, *n.output))
        ]

    def activations_of(self, keys: Iterable[str]) -> list[str]:
        """Float tensors that these nodes read or give, without the constants."""
        names = dict.fromkeys(t for key in keys for t in (*self.nodes[key].input, *self.nodes[key].output))
        return [t for t in names if t in self._is_float and t not in self.weights]

    def unsafe_operators(self) -> dict[str, str]:
        return {key: "operator" for key in self.float_nodes if self.nodes[key].op_type not in _SAFE}

    def unsafe_weights(self) -> dict[str, str]:
        bad = {name for name, w in self.weights.items() if not _fits_fp16(w)}
        return {key: "weights" for key in self.float_nodes if bad.intersection(self.nodes[key].input)}

    def box_decode(self) -> dict[str, str]:
        """Nodes between the last computing nodes and the outputs of the graph, or an input that holds positions."""
        pending = [v.name for v in self.model.graph.output]
        pending += [n.input[_POSITIONS[n.op_type]] for n in self.nodes.values() if n.op_type in _POSITIONS]
        tail: dict[str, str] = {}
        while pending:
            key = self.producer.get(pending.pop())
            if key is None or key in tail:
                continue
            if self._computes(key):
                if self._is_pointwise(key):
                    tail[key] = "last convolution"
                continue
            tail[key] = "box decode"
            pending += [t for t in self.nodes[key].input if t in self._is_float]
        return {key: why for key, why in tail.items() if key in set(self.float_nodes)}

    def _computes(self, key: str) -> bool:
        """Whether the box decode begins behind this node. A softmax in it and the DFL's expectation belong to it."""
        node = self.nodes[key]
        return node.op_type in _COMPUTE and node.op_type != "Softmax" and not self._is_expectation(node)

    def _is_pointwise(self, key: str) -> bool:
        node = self.nodes[key]
        weights = self.weights.get(node.input[1]) if node.op_type == "Conv" else None
        return weights is not None and all(side == 1 for side in weights.shape[2:])

    def _is_expectation(self, node: onnx.NodeProto) -> bool:
        """A convolution with the weights 0, 1, 2, ...: the mean of a distribution over bins, as DFL takes it.

        In FP16 a mean of 8 bins and more has a step of 1/128, a quarter of a pixel at stride 32.
        """
        weights = self.weights.get(node.input[1]) if node.op_type == "Conv" else None
        return weights is not None and bool(np.array_equal(weights.ravel(), np.arange(weights.size)))

    def in_range(self, key: str, ranges: Mapping[str, float]) -> bool:
        values = [ranges[t] for t in self.activations_of([key])]
        return all(v <= LARGEST and (v >= SMALLEST or v == 0) for v in values)

    def with_moves(self, reasons: Mapping[str, str]) -> dict[str, str]:
        """Nodes at a border that only move FP16 values go to the FP16 side: the same values, half the traffic."""
        kept = dict(reasons)
        for key in self.float_nodes:  # in the order of computation, so chains of moves follow one another
            node = self.nodes[key]
            if kept.get(key) != "box decode" or node.op_type not in _MOVES:
                continue
            sources = [t for t in node.input if t in self._is_float]
            if sources and all(t in self.producer and self.producer[t] not in kept for t in sources):
                del kept[key]
        return kept

    def without_islands(self, reasons: Mapping[str, str]) -> dict[str, str]:
        """FP16 regions that compute nothing would only add casts, so they stay in FP32."""
        kept, seen = dict(reasons), set[str]()
        neighbours = self._neighbours(kept)
        for start in neighbours:
            if start in seen:
                continue
            region, pending = set[str](), [start]
            while pending:
                key = pending.pop()
                if key not in region:
                    region.add(key)
                    pending += neighbours[key]
            seen |= region
            if not any(self.nodes[key].op_type in _COMPUTE for key in region):
                kept |= dict.fromkeys(region, "island")
        return kept

    def _neighbours(self, kept: Mapping[str, str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {key: [] for key in self.float_nodes if key not in kept}
        for key, mine in found.items():
            for tensor in self.nodes[key].input:
                other = self.producer.get(tensor)
                if tensor in self._is_float and other in found:
                    mine.append(other)
                    found[other].append(key)
        return found


def _fits_fp16(weights: npt.NDArray[Any]) -> bool:
    exact = weights.astype(np.float64)
    if not np.isfinite(exact).all() or np.abs(exact).max(initial=0.0) > _FP16_MAX:
        return False
    size = float(np.linalg.norm(exact))
    return size == 0 or float(np.linalg.norm(exact - exact.astype(np.float16))) <= _WEIGHT_ERROR * size
