"""The mechanics of FP16: given which nodes compute in FP16, put casts at the borders and convert the constants.

Which nodes those are is decided in `yolotrt.export.precision`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from yolotrt.errors import ExportError

if TYPE_CHECKING:
    import onnx

# Inputs that stay float32 in FP16 nodes, by op type: the operator's definition ties them to that type.
_ALWAYS_FLOAT: Mapping[str, frozenset[int]] = {"Resize": frozenset({1, 2})}

TYPELESS = frozenset({"Shape", "Size"})
"""Operators to which the type of their input is nothing: they read whichever version there is."""


def normalise(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose constants are all initializers, none of them a graph input, and whose tensor types are all known.

    Raises ExportError for graphs with subgraphs (If, Loop, Scan), which no YOLO needs.
    """
    import onnx
    from onnx import numpy_helper

    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    graph, nodes = plain.graph, []
    for node in graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise ExportError(f"graphs with {node.op_type} nodes cannot be made FP16", remedy="Use --precision fp32.")
        if node.op_type == "Constant" and node.attribute[0].name in ("value", "value_float", "value_floats"):
            value = onnx.helper.get_attribute_value(node.attribute[0])
            array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.float32(value)
            graph.initializer.append(numpy_helper.from_array(np.asarray(array), node.output[0]))
        else:
            nodes.append(node)
    constants = {i.name for i in graph.initializer}
    inputs = [v for v in graph.input if v.name not in constants]
    _replace(graph.node, nodes)
    _replace(graph.input, inputs)
    return _infer_types(plain)


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor of a normalised model."""
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    return types | {i.name: i.data_type for i in graph.initializer}


def rewrite(model: onnx.ModelProto, fp16: Collection[str]) -> onnx.ModelProto:
    """A copy of `model` in which some nodes compute in FP16. Inputs and outputs of the graph keep their types.

    Args:
        model: as `normalise` gives it.
        fp16: first output name of each node to convert.
    """
    import onnx

    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    _Rewriter(rewritten, frozenset(fp16)).run()
    return _infer_types(rewritten)


class _Rewriter:
    def __init__(self, model: onnx.ModelProto, fp16: frozenset[str]) -> None:
        from onnx import TensorProto

        self.graph, self.fp16, self.types = model.graph, fp16, tensor_types(model)
        self.float_, self.half = TensorProto.FLOAT, TensorProto.FLOAT16
        self.constants = {i.name: i for i in self.graph.initializer}
        self.outputs = {v.name for v in self.graph.output}
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[tuple[str, bool], str] = {}  # (tensor, as FP16?) -> name of that version
        self.native_half: set[str] = set()  # tensors that an FP16 node gives

    def run(self) -> None:
        for node in list(self.graph.node):
            half = node.output[0] in self.fp16
            if node.op_type in TYPELESS and node.input[0] not in self.constants:
                node.input[0] = self._as(node.input[0], half=node.input[0] in self.native_half)
                self.nodes.append(node)
                continue
            for slot, name in enumerate(node.input):
                if self.types.get(name) == self.float_:
                    node.input[slot] = self._as(
                        name, half=half and slot not in _ALWAYS_FLOAT.get(node.op_type, frozenset())
                    )
            self.nodes.append(node)
            if half:
                for slot, name in enumerate(node.output):
                    if self.types.get(name) == self.float_:
                        node.output[slot] = self._give_half(name)
        _replace(self.graph.node, self.nodes)
        used = {name for node in self.nodes for name in node.input} | self.outputs
        _replace(self.graph.initializer, [i for i in self.graph.initializer if i.name in used])
        del self.graph.value_info[:]

    def _as(self, name: str, *, half: bool) -> str:
        """The name under which tensor `name` is to be had in FP16 or FP32, making that version where there is none."""
        if (name, half) not in self.made:
            if name in self.constants:
                self.made[name, half] = self._constant(name) if half else name
            elif (name in self.native_half) == half:
                self.made[name, half] = name
            else:
                self.made[name, half] = self._cast(name, self._fresh(name, half=half), half=half)
        return self.made[name, half]

    def _give_half(self, name: str) -> str:
        self.native_half.add(name)
        if name not in self.outputs:
            return name
        # An output of the graph keeps its name for the FP32 version.
        self.made[name, True] = inner = self._fresh(name, half=True)
        self.made[name, False] = self._cast(inner, name, half=False)
        return inner

    def _cast(self, source: str, target: str, *, half: bool) -> str:
        from onnx import helper

        node_name = f"{target}_cast"
        self.nodes.append(
            helper.make_node("Cast", [source], [target], name=node_name, to=self.half if half else self.float_)
        )
        return target

    def _constant(self, name: str) -> str:
        from onnx import numpy_helper

        fresh = self._fresh(name, half=True)
        with np.errstate(over="ignore"):  # infinity is a value that some graphs mask with
            array = numpy_helper.to_array(self.constants[name]).astype(np.float16)
        self.graph.initializer.append(numpy_helper.from_array(array, fresh))
        return fresh

    def _fresh(self, name: str, *, half: bool) -> str:
        fresh = f"{name}_{'fp16' if half else 'fp32'}"
        while fresh in self.types:
            fresh += "_"
        self.types[fresh] = self.half if half else self.float_
        return fresh


def _infer_types(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as e:
        raise ExportError(f"the graph's types are inconsistent ({str(e).splitlines()[0][:200]})") from e


def _replace(field: object, items: Iterable[object]) -> None:
    """Set a repeated protobuf field."""
    kept = list(items)
    del field[:]  # type: ignore[attr-defined]
    field.extend(kept)  # type: ignore[attr-defined]
