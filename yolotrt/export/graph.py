"""The stages that make the ONNX graph, one function each. `yolotrt.export.pipeline` holds their order."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from yolotrt.export.compare import (
    GOOD_IOU,
    GOOD_SHARE,
    LOWER_PRECISION,
    SAME_PRECISION,
    Comparison,
    compare,
)
from yolotrt.export.origin import Origin, checked
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.export.samples import batches
from yolotrt.export.stages import RunningStage
from yolotrt.model_spec import ModelSpec, Precision
from yolotrt.model_spec_infer import METADATA_KEY, read_onnx_spec
from yolotrt.types import RawOutputs

if TYPE_CHECKING:
    import onnx

MAX_COMPARED = 8
"""Pictures that are run through every version of the model; the FP16 calibration may use more."""

Run = Callable[["npt.NDArray[Any]"], "npt.NDArray[Any]"]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An ONNX graph on its way through the stages.

    Attributes:
        model: the graph.
        spec: what it is.
        checks: results so far, by stage, JSON-ready.
    """

    model: onnx.ModelProto = field(repr=False)
    spec: ModelSpec
    checks: dict[str, Any] = field(default_factory=dict)

    def serialized(self) -> bytes:
        """The file's content, with the `ModelSpec` in its metadata."""
        import onnx

        metadata = {p.key: p.value for p in self.model.metadata_props}
        metadata[METADATA_KEY] = json.dumps(self.spec.to_dict())
        onnx.helper.set_model_props(self.model, metadata)
        return self.model.SerializeToString(deterministic=True)


def make_onnx(origin: Origin, stage: RunningStage) -> onnx.ModelProto:
    """The graph as traced or read."""
    model = origin.to_onnx()
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    stage.result = f"opset {opset}, {len(model.graph.node)} nodes, {model.ByteSize() / 2**20:.1f} MiB"
    return model


def check(model: onnx.ModelProto, stage: RunningStage) -> None:
    """ONNX's own checker. Raises ExportError."""
    checked(model)
    stage.result = "valid"


def simplify(model: onnx.ModelProto, origin: Origin, stage: RunningStage) -> Graph:
    """The graph after onnxsim. Only now are all shapes known (RT-DETR's are not before), so only now is it described.

    Raises:
        ExportError: onnxsim failed.
        ModelError: not a YOLO detection model.
    """
    from yolotrt.export import simplify as onnxsim

    simpler = onnxsim.simplify(model)
    checked(simpler)
    stage.result = f"{len(model.graph.node)} nodes became {len(simpler.graph.node)}"
    spec = read_onnx_spec(simpler)
    names = spec.names if origin.names is None else origin.names
    spec = dataclasses.replace(spec, imgsz=origin.imgsz, batch=origin.batch, names=names)
    return Graph(model=simpler, spec=spec)


def compare_with_origin(graph: Graph, origin: Origin, pictures: Sequence[Path], stage: RunningStage) -> Graph:
    """Raise ExportError where the graph's outputs are not those of the source itself."""
    runner = OnnxRunner(graph.model, what="the ONNX graph")
    found = _compare(origin.run, lambda x: runner(x)[0], graph.spec, pictures, stage)
    found.check(
        SAME_PRECISION,
        what=f"the ONNX graph computes something else than {origin.title}",
        remedy="Choose another operator set (opset), or report the model.",
    )
    stage.details = found.to_dict()
    stage.result = f"as {origin.title}: {found.summary(SAME_PRECISION.iou)}"
    return dataclasses.replace(graph, checks=graph.checks | {"comparison": stage.details})


def lower_precision(
    graph: Graph, origin: Origin, precision: Precision, pictures: Sequence[Path], stage: RunningStage
) -> Graph:
    """The graph in `precision`, compared with the source itself. Raises ExportError where boxes are lost."""
    if precision == "fp32":
        stage.result = "FP32, as it is"
        return graph
    if graph.spec.precision == "fp16":
        stage.result = "the graph is FP16 already"
        return graph
    from yolotrt.export.precision import to_fp16

    stage.say("measuring the ranges of activations")
    made = to_fp16(graph.model, batches(pictures, graph.spec))
    checked(made.model)
    runner = OnnxRunner(made.model, what="the FP16 graph")
    found = _compare(origin.run, lambda x: runner(x)[0], graph.spec, pictures, stage)
    found.check(
        LOWER_PRECISION,
        what="FP16 changes what the model finds",
        remedy="Use --precision fp32, or give more fitting pictures with --images.",
    )
    kept = ", ".join(f"{count} {reason}" for reason, count in sorted(made.kept.items(), key=lambda x: -x[1]))
    stage.details = {
        **found.to_dict(), "fp16_nodes": made.fp16_nodes, "nodes": made.nodes, "kept_fp32": dict(made.kept),
        "calibration_pictures": made.pictures,
    }  # fmt: skip
    stage.result = f"FP16 in {made.fp16_nodes} of {made.nodes} nodes (FP32: {kept}); {found.summary(GOOD_IOU)}"
    if not found.reaches(GOOD_IOU, GOOD_SHARE):
        stage.result += f"; that is less than the usual {GOOD_SHARE:.0%}, check it on your own data"
    metadata = list(graph.model.metadata_props)
    del made.model.metadata_props[:]
    made.model.metadata_props.extend(metadata)
    spec = dataclasses.replace(graph.spec, precision="fp16")
    return Graph(model=made.model, spec=spec, checks=graph.checks | {"precision": stage.details})


def _compare(a: Run, b: Run, spec: ModelSpec, pictures: Sequence[Path], stage: RunningStage) -> Comparison:
    name = spec.outputs[0].name
    reference, other, geometries = [], [], []
    count = min(len(pictures), MAX_COMPARED)
    for batch in batches(pictures[:count], spec):
        reference.append(RawOutputs(arrays={name: a(batch.images)}, spec=spec))
        other.append(RawOutputs(arrays={name: b(batch.images)}, spec=spec))
        geometries.append(batch.geometries)
        stage.say(f"comparing, {len(reference)} of {-(-count // spec.batch.min)}")
    return compare(reference, other, geometries)
