"""Put an inspection together: which kind of file, its tensors and precisions, what runs it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolotrt import files as file_tools
from yolotrt.backends.flavours import readers
from yolotrt.errors import ModelError
from yolotrt.inspection.onnx_layers import CONVOLUTIONS, onnx_layers
from yolotrt.inspection.plan_layers import plan_layers
from yolotrt.inspection.report import FileFacts, Inspection, Kind, Layer, PlanFacts, PrecisionShare
from yolotrt.inspection.runners import try_backends
from yolotrt.manifest import FileRecord, Manifest, PlanRecord
from yolotrt.model_files import ModelFiles, find_model_files
from yolotrt.model_spec import ModelSpec
from yolotrt.model_spec_infer import METADATA_KEY, load_onnx, read_onnx_spec, tensor_spec
from yolotrt.plan_file import PlanFile, read_plan_file

_DEFAULT_SIZE = (640, 640)


def inspect_model(path: str | Path) -> Inspection:
    """Say what a plan, an ONNX file, a manifest or a bundle's folder is, and what can run it here.

    A sound ONNX file or plan that is no YOLO is described too; `spec_problem` then says why yolotrt cannot run it.

    Raises:
        ModelError: missing, damaged, or not a model file.
    """
    path = Path(path)
    if path.suffix == ".pt":
        raise ModelError(
            f"{path}: weights, not an exported model",
            expected="a plan, an ONNX file, a manifest or a bundle's folder",
            remedy=f"Export them first with: yolotrt export {shlex.quote(str(path))}",
        )
    files = find_model_files(path)
    plan = read_plan_file(files.plan) if files.plan is not None else None
    manifest = files.manifest or (plan.manifest if plan is not None else None)
    if files.onnx is not None:
        found = _inspect_onnx(files.onnx, asked=path)
        if plan is not None:
            found = dataclasses.replace(found, plan=_plan_facts(plan))
    else:
        assert plan is not None
        found = _inspect_plan(plan, asked=path)
    if manifest is not None:
        found = dataclasses.replace(found, spec=manifest.spec, spec_problem="", source=manifest.source)
    found = dataclasses.replace(found, kind=_kind(path, plan), files=_file_facts(files, manifest))
    if found.spec is None and plan is None:
        return found  # an ONNX file of something else
    runners, spec = try_backends(files)
    if found.spec is None and spec is not None:
        found = dataclasses.replace(found, spec=spec, spec_problem="", inputs=(spec.input,), outputs=spec.outputs)
    return dataclasses.replace(found, runners=runners)


def _inspect_onnx(path: Path, *, asked: Path) -> Inspection:
    model = load_onnx(path)
    spec: ModelSpec | None = None
    problem = ""
    try:
        spec = read_onnx_spec(model, where=str(path))
    except ModelError as e:
        problem = str(e)
    constants = {i.name for i in model.graph.initializer}
    layers = onnx_layers(model, spec.imgsz if spec is not None else _DEFAULT_SIZE)
    return Inspection(
        asked=asked,
        kind="onnx",
        files=(),
        spec=spec,
        spec_problem=problem,
        inputs=tuple(tensor_spec(v) for v in model.graph.input if v.name not in constants),
        outputs=tuple(tensor_spec(v) for v in model.graph.output),
        precision_source="graph" if layers else "",
        precisions=shares(layers),
        layers=layers,
        # yolotrt's own entry is shown as what it means: `spec`.
        metadata={p.key: p.value for p in model.metadata_props if p.key != METADATA_KEY},
        opset={o.domain or "ai.onnx": o.version for o in model.opset_import},
    )


def _inspect_plan(plan: PlanFile, *, asked: Path) -> Inspection:
    layers = plan_layers(plan)
    # Built without layer details, a plan names its layers and nothing more.
    detailed = any(layer.precision != "unknown" for layer in layers)
    found = Inspection(
        asked=asked,
        kind="plan",
        files=(),
        spec=None,
        precision_source="engine inspector" if detailed else "",
        precisions=shares(layers) if detailed else (),
        layers=layers,
        metadata=plan.ultralytics_metadata or {},
        plan=_plan_facts(plan),
    )
    try:
        spec = plan.spec()
    except ModelError as e:
        return dataclasses.replace(found, spec_problem=str(e))
    if not detailed:
        whole = (PrecisionShare(precision=spec.precision, layers=0),)
        found = dataclasses.replace(found, precision_source="manifest", precisions=whole)
    return dataclasses.replace(found, spec=spec, inputs=(spec.input,), outputs=spec.outputs)


def _plan_facts(plan: PlanFile) -> PlanFacts:
    record = plan.manifest.plan if plan.manifest is not None else None
    return PlanFacts(
        flavour=readers(plan.header.magic)[0].title,
        version=plan.version,
        compute_capabilities=plan.compute_capabilities,
        options=dict(record.options) if record is not None else {},
    )


def _kind(path: Path, plan: PlanFile | None) -> Kind:
    if path.is_dir():
        return "bundle"
    if path.suffix == ".json":
        return "manifest"
    if path.suffix == ".onnx":
        return "onnx"
    return "plan" if plan is None or plan.ultralytics_metadata is None else "plan with Ultralytics' header"


def _file_facts(files: ModelFiles, manifest: Manifest | None) -> list[FileFacts]:
    named: dict[str, Any] = {"onnx": files.onnx, "plan": files.plan}
    records: dict[str, FileRecord | PlanRecord | None] = (
        {"onnx": manifest.onnx, "plan": manifest.plan} if manifest is not None else {}
    )
    facts = []
    for role, path in named.items():
        if path is None:
            continue
        digest = file_tools.sha256_of(path)
        record = records.get(role)
        facts.append(
            FileFacts(
                role="onnx" if role == "onnx" else "plan",
                path=path,
                bytes=path.stat().st_size,
                sha256=digest,
                changed=record is not None and record.sha256 != digest,
            )
        )
    return facts


def shares(layers: Sequence[Layer]) -> list[PrecisionShare]:
    """How much of the layers is in which precision: by operations, else by weights, else by number, largest first."""
    parameters, flops = _total([layer.parameters for layer in layers]), _total([layer.flops for layer in layers])
    convolution_flops = _convolution_flops(layers)
    found = []
    for precision in dict.fromkeys(layer.precision for layer in layers):
        own = [layer for layer in layers if layer.precision == precision]
        own_parameters = _total([layer.parameters for layer in own])
        own_flops = _total([layer.flops for layer in own])
        found.append(
            PrecisionShare(
                precision=precision,
                layers=len(own),
                parameters=own_parameters if parameters is not None else None,
                parameter_share=own_parameters / parameters if parameters and own_parameters is not None else None,
                flop_share=own_flops / flops if flops and own_flops is not None else None,
                convolution_share=(_convolution_flops(own) or 0) / convolution_flops if convolution_flops else None,
            )
        )
    return sorted(found, key=lambda s: (s.flop_share or 0, s.parameter_share or 0, s.layers), reverse=True)


def _convolution_flops(layers: Sequence[Layer]) -> int | None:
    return _total([layer.flops for layer in layers if layer.kind in CONVOLUTIONS])


def _total(values: Sequence[int | None]) -> int | None:
    """The sum; None where a value is unknown."""
    known = [v for v in values if v is not None]
    return sum(known) if known and len(known) == len(values) else None
