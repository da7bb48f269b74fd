"""The same INT8 graph with unsigned activations, for OpenVINO's CPU plug-in.

OpenVINO 2026.4 gives wrong values where signed INT8 data passes a Split, MaxPool or Concat on its way to a convolution:
negative ones are cut off. `q - 128` as an unsigned number with the zero point 128 is the same number, and is computed
right. TensorRT, on the other hand, reads nothing but signed data without a zero point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def unsigned_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model whose QuantizeLinear nodes give uint8 with the zero point 128; the arithmetic is the same.

    A model without signed INT8 activations is returned as it is.

    Args:
        model: as `quantize` gives it, with or without FP16.
    """
    import onnx
    from onnx import TensorProto, helper

    types = {i.name: (i.data_type, list(i.dims)) for i in model.graph.initializer}
    signed = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
        and len(node.input) > 2
        and types.get(node.input[2]) == (TensorProto.INT8, [])
    }
    if not signed:
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)} | types.keys()
    middle = "quantized_middle"
    while middle in taken:
        middle += "_"
    changed.graph.initializer.append(helper.make_tensor(middle, TensorProto.UINT8, [], bytes([128]), raw=True))
    for node in changed.graph.node:
        if node.output[0] in signed or (node.op_type == "DequantizeLinear" and node.input[0] in signed):
            node.input[2] = middle
    kept = [v for v in changed.graph.value_info if v.name not in signed]
    del changed.graph.value_info[:]
    changed.graph.value_info.extend(kept)
    return changed
