"""An FP16 graph with FP32 in its place, as OpenVINO's CPU plug-in computes it: weights are rounded, nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


def widened(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The graph in FP32; one without FP16 as it is.

    None where its inputs or outputs are FP16, which is what callers hand in and expect, or where types are unknown.
    """
    import onnx
    from onnx import TensorProto

    edges = [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)]
    if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in _constants(model)):
        return model
    if TensorProto.FLOAT16 in edges or any(_is_beyond(node) for node in model.graph.node):
        return None
    floats = _floats(model)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.value_info[:]
    for tensor in _constants(changed):
        _widen(tensor)
    for node in changed.graph.node:
        if node.op_type == "Cast" and node.attribute[0].i in (TensorProto.FLOAT, TensorProto.FLOAT16):
            if node.input[0] in floats:
                node.op_type = "Identity"
                del node.attribute[:]
            else:
                node.attribute[0].i = TensorProto.FLOAT
    _skip_identities(changed)
    return changed


def _constants(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _is_beyond(node: onnx.NodeProto) -> bool:
    """Whether it holds another graph, or names a type in a way of its own."""
    return any(a.HasField("g") or a.graphs or a.name == "dtype" for a in node.attribute)


def _floats(model: onnx.ModelProto) -> set[str]:
    """The tensors that are FP32 or FP16."""
    import onnx
    from onnx import TensorProto

    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16)
    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {v.name for v in (*graph.input, *graph.value_info) if v.type.tensor_type.elem_type in kinds}
    return found | {i.name for i in graph.initializer if i.data_type in kinds}


def _widen(tensor: onnx.TensorProto) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _skip_identities(model: onnx.ModelProto) -> None:
    """Let readers of an Identity read what it reads."""
    outputs = {v.name for v in model.graph.output}
    instead: dict[str, str] = {}
    for node in list(model.graph.node):  # in the order of their computation
        node.input[:] = [instead.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in outputs:
            instead[node.output[0]] = node.input[0]
            model.graph.node.remove(node)
