"""The box distribution of a YOLO head (DFL) in the order in which OpenVINO's convolutions leave their results.

OpenVINO keeps pictures with the channels last. Exporters write DFL with the positions last, which makes the plug-in
turn all box channels around: in a YOLOv8n that takes 1.4 ms of one core, as long as two of its large convolutions in
INT8. Here the mean of each distribution is two sums over neighbouring channels instead, which one matrix product gives:

    sum(k * exp(x[k])) / sum(exp(x[k]))    for the bins k of a side

The values are the same but for rounding. `exp` sees at most 80, so that no sum overflows; a trained head stays far
below that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

_LARGEST_EXPONENT = 80.0
_SIDES = 4
_MIN_OPSET = 13  # the first whose Softmax is over one axis, and whose Split takes its sizes as an input


def fold_dfl(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model whose DFL is computed with the channels last; the model itself where it has none.

    Args:
        model: as `onnxsim` leaves it. A DFL of any other form than Ultralytics', or not in float32, stays.
    """
    import onnx

    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _MIN_OPSET or not any(n.op_type == "Softmax" for n in model.graph.node):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    view = _View(changed)
    found = [d for n in changed.graph.node if n.op_type == "Conv" and (d := _distribution(view, n)) is not None]
    for distribution in found:
        _replace(changed.graph, distribution)
    return changed if found else model


@dataclass(frozen=True, kw_only=True)
class _Distribution:
    """One DFL: the box channels of each level `[N, 4 * bins, h, w]`, and the sides `[N, 4, positions]` it gives."""

    levels: Sequence[str]
    bins: int
    result: str
    nodes: Sequence[onnx.NodeProto] = field(repr=False)


class _View:
    """Who gives and who reads a tensor, its shape where it is known, and the constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx

        self.maker = {o: n for n in model.graph.node for o in n.output}
        self.constants = {i.name: i for i in model.graph.initializer}
        self.readers: dict[str, list[onnx.NodeProto]] = {v.name: [] for v in model.graph.output}
        self._outputs = set(self.readers)
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.shapes = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (*inferred.input, *inferred.value_info, *inferred.output)
            if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        }

    def only_for_reader(self, name: str) -> bool:
        """Whether exactly one node reads a tensor."""
        return name not in self._outputs and len(self.readers.get(name, ())) == 1

    def before(self, node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        """The node that gives the first input, if it is of that kind and nobody else reads it."""
        source = self.maker.get(node.input[0])
        return source if source and source.op_type == kind and self.only_for_reader(source.output[0]) else None


def _distribution(view: _View, expectation: onnx.NodeProto) -> _Distribution | None:
    """What a convolution with the weights 0, 1, 2, ... takes the mean of, if it is DFL as Ultralytics writes it."""
    bins = _bins(view, expectation)
    chain = [expectation]
    for kind in ("Softmax", "Transpose", "Reshape", "Concat"):
        source = view.before(chain[-1], kind)
        if not bins or source is None:
            return None
        chain.append(source)
    _, softmax, transpose, split, concat = chain
    reshapes = [view.maker.get(name) for name in concat.input]
    last = view.readers[expectation.output[0]]
    fits = (
        _number(softmax, "axis", -1) == 1
        and _numbers(transpose, "perm") == [0, 2, 1, 3]
        and _number(concat, "axis", 0) in (2, -1)
        and view.shapes.get(split.output[0], [])[1:3] == [_SIDES, bins]
        and view.only_for_reader(expectation.output[0])
        and last[0].op_type == "Reshape"
        and view.shapes.get(last[0].output[0], [])[1:2] == [_SIDES]
        and all(n is not None and _is_level(view, n, bins) for n in reshapes)
    )
    if not fits:
        return None
    levels = [n for n in reshapes if n is not None]
    return _Distribution(
        levels=[n.input[0] for n in levels],
        bins=bins,
        result=last[0].output[0],
        nodes=[*chain, *levels, last[0]],
    )


def _bins(view: _View, node: onnx.NodeProto) -> int:
    """How many bins a convolution takes the mean of; 0 where it is no such convolution."""
    from onnx import TensorProto, numpy_helper

    weights = view.constants.get(node.input[1])
    if weights is None or len(node.input) > 2 or weights.data_type != TensorProto.FLOAT:
        return 0
    values = numpy_helper.to_array(weights)
    return values.size if np.array_equal(values, np.arange(values.size).reshape(1, -1, 1, 1)) else 0


def _is_level(view: _View, node: onnx.NodeProto, bins: int) -> bool:
    """Whether a node lays out the box channels of one level in a row."""
    source, result = (view.shapes.get(name, []) for name in (node.input[0], node.output[0]))
    return (
        node.op_type == "Reshape"
        and view.only_for_reader(node.output[0])
        and len(source) == 4
        and len(result) == 3
        and source[1] == result[1] == _SIDES * bins
    )


def _replace(graph: onnx.GraphProto, distribution: _Distribution) -> None:
    from onnx import helper, numpy_helper

    base, bins = f"{distribution.result}_rows", distribution.bins
    # A column for each side's weighted sum, then one for each side's plain sum.
    sides = np.kron(np.eye(_SIDES), np.ones((bins, 1)))
    sums = np.concatenate([sides * np.tile(np.arange(bins), _SIDES)[:, None], sides], axis=1)
    constants: dict[str, npt.NDArray[Any]] = {
        "shape": np.array([0, -1, _SIDES * bins], np.int64),
        "low": np.array(-_LARGEST_EXPONENT, np.float32),
        "high": np.array(_LARGEST_EXPONENT, np.float32),
        "sums": sums.astype(np.float32),
        "halves": np.array([_SIDES, _SIDES], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(v, f"{base}_{k}") for k, v in constants.items())
    nodes = []
    for i, level in enumerate(distribution.levels):
        nodes += [
            helper.make_node("Transpose", [level], [f"{base}_last{i}"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [f"{base}_last{i}", f"{base}_shape"], [f"{base}_{i}"]),
        ]
    nodes += [
        helper.make_node("Concat", [f"{base}_{i}" for i in range(len(distribution.levels))], [base], axis=1),
        helper.make_node("Clip", [base, f"{base}_low", f"{base}_high"], [f"{base}_clipped"]),
        helper.make_node("Exp", [f"{base}_clipped"], [f"{base}_exp"]),
        helper.make_node("MatMul", [f"{base}_exp", f"{base}_sums"], [f"{base}_summed"]),
        helper.make_node("Transpose", [f"{base}_summed"], [f"{base}_turned"], perm=[0, 2, 1]),
        helper.make_node("Split", [f"{base}_turned", f"{base}_halves"], [f"{base}_means", f"{base}_totals"], axis=1),
        helper.make_node("Div", [f"{base}_means", f"{base}_totals"], [distribution.result]),
    ]
    gone = {node.output[0] for node in distribution.nodes}
    kept = [node for node in graph.node if node.output[0] not in gone]
    # Behind the last level; what reads the result stands behind that in any case.
    place = 1 + max(i for i, node in enumerate(kept) if set(node.output) & set(distribution.levels))
    ordered = [*kept[:place], *nodes, *kept[place:]]
    copies = [helper.make_node("Identity", ["x"], ["y"]) for _ in ordered]
    for copy, node in zip(copies, ordered, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)
    kept_values = [v for v in graph.value_info if v.name not in gone]
    del graph.value_info[:]
    graph.value_info.extend(kept_values)


def _number(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _numbers(node: onnx.NodeProto, name: str) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == name), [])
