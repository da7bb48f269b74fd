"""The range of every activation of a graph on real pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from yolotrt.errors import ExportError
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.types import Batch

if TYPE_CHECKING:
    import onnx


def measure_ranges(model: onnx.ModelProto, tensors: Sequence[str], batches: Iterable[Batch]) -> Mapping[str, float]:
    """Largest absolute value of each tensor over all batches.

    The graph itself reduces each tensor to its minimum and maximum, so that activations are freed as soon as they are
    reduced: memory stays that of an ordinary run, whatever the model and the number of pictures.

    Args:
        model: a float32 graph.
        tensors: names of float32 tensors in it; none twice.
        batches: its input, one batch at a time.

    Raises:
        ExportError: a value is NaN or infinite, or ONNX Runtime cannot run the graph.
    """
    names = list(tensors)
    if not names:
        return {}
    runner = OnnxRunner(_with_reductions(model, names), what="the graph with its calibration outputs")
    largest = np.zeros(len(names))
    for batch in batches:
        values = np.array([float(v) for v in runner(batch.images)])
        found = np.abs(values.reshape(len(names), 2)).max(axis=1)
        # `maximum` carries NaN over, `max` might not.
        largest = np.maximum(largest, found)
    for name, value in zip(names, largest, strict=True):
        if not np.isfinite(value):
            raise ExportError(
                f"the activation {name} is {value} in FP32 already", remedy="The weights are damaged or diverged."
            )
    return dict(zip(names, largest.tolist(), strict=True))


def _with_reductions(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    import onnx
    from onnx import TensorProto, helper

    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.output[:]
    for i, name in enumerate(names):
        for op, letter in (("ReduceMin", "min"), ("ReduceMax", "max")):
            output = f"yolotrt_{letter}_{i}"
            graph.node.append(helper.make_node(op, [name], [output], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
