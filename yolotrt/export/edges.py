"""The edges of a graph, brought to what the runtime's own kernels read and write; only where that is asked for.

Other programs expect a whole head and pictures in float32, so the graph keeps both unless told otherwise.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from yolotrt.export.compare import GOOD_IOU, SAME_PRECISION, Comparison, compare
from yolotrt.export.graph import Graph, Reference
from yolotrt.export.head_surgery import cut_head
from yolotrt.export.origin import checked
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.export.samples import batches
from yolotrt.export.stages import RunningStage
from yolotrt.model_spec import ModelSpec
from yolotrt.options import ExportOptions
from yolotrt.types import RawOutputs

if TYPE_CHECKING:
    import onnx


def check_edges(graph: Graph, options: ExportOptions) -> None:
    """Raise HeadError where a raw head is asked for that the model cannot have, before anything takes long."""
    if options.head == "raw":
        cut_head(graph.model, graph.spec)


def trim_edges(graph: Graph, options: ExportOptions, reference: Reference, stage: RunningStage) -> Graph:
    """The graph with the edges that are asked for, whose boxes are compared with those of the graph as it was.

    Raises:
        HeadError: a raw head that the model cannot have.
        ExportError: the trimmed graph computes something else.
    """
    model, spec, said = graph.model, graph.spec, []
    if options.head == "raw":
        cut = cut_head(model, spec)
        said.append(f"head cut: {len(model.graph.node) - len(cut.model.graph.node)} nodes less")
        model, spec = cut.model, cut.spec
    if options.fp16_input:
        trimmed, why = half_input(model, spec)
        said.append(why or "input in FP16")
        model, spec = trimmed
    checked(model)
    found = _compare(graph, model, spec, reference)
    found.check(SAME_PRECISION, what="the graph with other edges finds something else", remedy="Report the model.")
    stage.details = found.to_dict()
    stage.result = f"{', '.join(said)}; {found.boxes_summary(GOOD_IOU)}"
    return Graph(model=model, spec=spec, checks={**graph.checks, "edges": stage.details})


def half_input(model: onnx.ModelProto, spec: ModelSpec) -> tuple[tuple[onnx.ModelProto, ModelSpec], str]:
    """A copy of a model that takes pictures in FP16, if that is what it makes of them at once.

    The values are the same: whoever writes the picture rounds it instead.

    Returns:
        The model with its description, and why it is as it was; empty where it is not.
    """
    import onnx

    name, half = spec.input.name, onnx.TensorProto.FLOAT16
    readers = [node for node in model.graph.node if name in node.input]
    others = {node.op_type for node in readers if node.op_type != "Cast" or node.attribute[0].i != half}
    if spec.input.dtype != "float32" or others or not readers:
        what = " and ".join(sorted(others)) or "nothing"
        return (model, spec), f"input left in {spec.input.dtype.upper()}: {what} reads it as it is"
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    next(v for v in graph.input if v.name == name).type.tensor_type.elem_type = half
    casts = [node for node in graph.node if name in node.input]
    made = {cast.output[0] for cast in casts}
    for cast in casts:
        graph.node.remove(cast)
    for node in graph.node:
        for i, read in enumerate(node.input):
            if read in made:
                node.input[i] = name
    for value in [v for v in graph.value_info if v.name in made]:
        graph.value_info.remove(value)
    return (changed, dataclasses.replace(spec, input=dataclasses.replace(spec.input, dtype="float16"))), ""


def _compare(graph: Graph, model: onnx.ModelProto, spec: ModelSpec, reference: Reference) -> Comparison:
    """The graph as it was, and as it is: on the same pictures."""
    before: list[RawOutputs] = []
    after: list[RawOutputs] = []
    geometries = []
    runners = [OnnxRunner(m, what="the ONNX graph") for m in (graph.model, model)]
    for batch in batches(reference.pictures, graph.spec):
        images = batch.images.astype(spec.input.dtype)  # both see the same numbers
        for runner, described, outputs in zip(runners, (graph.spec, spec), (before, after), strict=True):
            found = runner(images.astype(described.input.dtype))
            arrays = dict(zip(runner.output_names, found, strict=True))
            outputs.append(RawOutputs(arrays=arrays, spec=described))
        geometries.append(batch.geometries)
    return compare(before, after, geometries)
