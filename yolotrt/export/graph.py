"""The stages that make the ONNX graph, one function each. `yolotrt.export.pipeline` holds their order."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
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
from yolotrt.options import PrecisionChoice
from yolotrt.types import Batch, RawOutputs

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

    def with_model(self, model: onnx.ModelProto, precision: Precision, checks: Mapping[str, Any]) -> Graph:
        """The same with another graph in it, which gets the metadata of this one, and with further checks."""
        metadata = list(self.model.metadata_props)
        del model.metadata_props[:]
        model.metadata_props.extend(metadata)
        spec = dataclasses.replace(self.spec, precision=precision)
        return Graph(model=model, spec=spec, checks={**self.checks, **checks})

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


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the source itself says of some pictures: the yardstick of every later stage."""

    title: str
    pictures: Sequence[Path]
    outputs: list[RawOutputs] = field(repr=False)

    @classmethod
    def of(cls, origin: Origin, spec: ModelSpec, pictures: Sequence[Path], stage: RunningStage) -> Reference:
        """Run the source on at most `MAX_COMPARED` pictures."""
        chosen = pictures[:MAX_COMPARED]
        stage.say(f"running {origin.title}")
        outputs = [_outputs(origin.run, b, spec) for b in batches(chosen, spec)]
        return cls(title=origin.title, pictures=chosen, outputs=outputs)

    def compare(self, model: onnx.ModelProto, spec: ModelSpec, stage: RunningStage) -> Comparison:
        """Run a graph on the same pictures and compare."""
        stage.say("running the graph")
        runner = OnnxRunner(model, what="the ONNX graph")
        others, geometries = [], []
        for batch in batches(self.pictures, spec):
            others.append(_outputs(lambda x: runner(x)[0], batch, spec))
            geometries.append(batch.geometries)
        return compare(self.outputs, others, geometries)


def compare_with_origin(graph: Graph, reference: Reference, stage: RunningStage) -> Graph:
    """Raise ExportError where the graph's outputs are not those of the source itself."""
    found = reference.compare(graph.model, graph.spec, stage)
    found.check(
        SAME_PRECISION,
        what=f"the ONNX graph computes something else than {reference.title}",
        remedy="Choose another operator set (opset), or report the model.",
    )
    stage.details = found.to_dict()
    stage.result = f"as {reference.title}: {found.summary(SAME_PRECISION.iou)}"
    return dataclasses.replace(graph, checks=graph.checks | {"comparison": stage.details})


def lower_precision(
    graph: Graph, reference: Reference, precision: PrecisionChoice, pictures: Sequence[Path], stage: RunningStage
) -> Graph:
    """The graph in FP16 unless `precision` is fp32, compared with the source itself.

    Raises ExportError where boxes are lost.
    """
    if graph.spec.precision != "fp32":
        stage.result = f"the graph is {graph.spec.precision.upper()} already"
        return graph
    if precision == "fp32":
        stage.result = "FP32, as it is"
        return graph
    from yolotrt.export.precision import to_fp16

    stage.say("measuring the ranges of activations")
    made = to_fp16(graph.model, batches(pictures, graph.spec))
    checked(made.model)
    found = reference.compare(made.model, graph.spec, stage)
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
    stage.result = f"FP16 in {made.fp16_nodes} of {made.nodes} nodes (FP32: {kept}); {found.boxes_summary(GOOD_IOU)}"
    if not found.reaches(GOOD_IOU, GOOD_SHARE):
        stage.result += f"; that is less than the usual {GOOD_SHARE:.0%}, check it on your own data"
    return graph.with_model(made.model, "fp16", {"precision": stage.details})


def _outputs(run: Run, batch: Batch, spec: ModelSpec) -> RawOutputs:
    return RawOutputs(arrays={spec.outputs[0].name: run(batch.images)}, spec=spec)
