"""The export, from weights to a bundle. `export_model` holds the order of the stages."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotrt import files
from yolotrt._version import __version__
from yolotrt.errors import AccuracyError, UsageError
from yolotrt.export import edges
from yolotrt.export.bundle import BundlePaths, commit, is_intact, read_older, staging
from yolotrt.export.digests import Digests, compute_digests
from yolotrt.export.goal import Goal, choose_goal
from yolotrt.export.graph import (
    Graph,
    Reference,
    check,
    compare_with_origin,
    lower_precision,
    make_onnx,
    simplify,
)
from yolotrt.export.origin import load_origin
from yolotrt.export.samples import find_pictures
from yolotrt.export.source import Source, find_source
from yolotrt.export.stages import OnStage, StageLog, StageReport
from yolotrt.manifest import FileRecord, Manifest, PlanRecord
from yolotrt.model_spec import ModelSpec
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import ExportOptions

if TYPE_CHECKING:
    from yolotrt.export.gate.evidence import Evidence
    from yolotrt.export.gate.stage import ProvenGraph


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export made.

    Attributes:
        manifest: of the bundle.
        manifest_path: the manifest's file; `Detector` takes it as a model.
        onnx: the ONNX file.
        plan: the TensorRT plan, where one was built.
        report: the page on the accuracy, where it was measured.
        unchanged: nothing had to be made: an earlier export was the same.
        note: why there is no plan and how to get one; empty where there is one.
        stages: what each stage did.
    """

    manifest: Manifest
    manifest_path: Path
    onnx: Path
    plan: Path | None
    report: Path | None
    unchanged: bool
    note: str
    stages: tuple[StageReport, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: what `yolotrt export --json` prints."""
        spec = self.manifest.spec
        return {
            "manifest": str(self.manifest_path),
            "onnx": str(self.onnx),
            "plan": str(self.plan) if self.plan else None,
            "precision": spec.precision,
            "imgsz": list(spec.imgsz),
            "batch": dataclasses.asdict(spec.batch),
            "names": list(spec.names),
            "unchanged": self.unchanged,
            "accepted": self.manifest.accepted,
            "report": str(self.report) if self.report else None,
            "accuracy": self.manifest.checks.get("accuracy"),
            "note": self.note,
            "stages": [dataclasses.asdict(s) for s in self.stages],
        }


def export_model(
    model: str | Path,
    *,
    options: ExportOptions | None = None,
    on_stage: OnStage | None = None,
    **overrides: Any,
) -> ExportResult:
    """Make a bundle from weights: the ONNX file in its precision, maybe a TensorRT plan, and the manifest.

    Args:
        model: a `.pt` or `.onnx` file, or the name of an Ultralytics model, which Ultralytics downloads.
        options: what to make.
        on_stage: told what happens; see `yolotrt.export.stages.StageReport`.
        overrides: single fields of `ExportOptions`, in place of those of `options`: `precision="fp16"`.

    Raises:
        ModelError: no such file, or not a YOLO detection model; UntrustedModelError: it could run code when loaded.
        UsageError: options that the model or the target does not take.
        MissingExtraError: a package of an extra is not installed.
        DatasetError: labels that are missing or cannot be right.
        ExportError: a stage failed, or its check did not hold; AccuracyError: the precision loses more than it may.
        SinkError: the output folder cannot be written. Whatever is raised, an older bundle stays as it was.
    """
    options = dataclasses.replace(options or ExportOptions(), **overrides)
    log = StageLog(on_stage)
    source = _find(model, log)
    given = read_onnx_spec(source.path) if source.kind == "onnx" else None
    goal = choose_goal(options, source, given)
    with _gather(options, goal) as evidence:
        return _export(source, options, goal, evidence, log)


def _export(
    source: Source, options: ExportOptions, goal: Goal, evidence: Evidence | None, log: StageLog
) -> ExportResult:
    """The export, once it is known what is to be made of what."""
    pictures = find_pictures(options.images)
    paths = _paths(source, goal, options)
    digests = compute_digests(
        source,
        options,
        precision=goal.precision,
        pictures=pictures,
        flavour=goal.flavour,
        evidence=evidence.digest() if evidence else None,
    )
    for place in (paths, paths.rejected) if evidence else (paths,):
        older = read_older(place)
        if older is not None and not options.force and all(_reusable(older, place, digests, goal)):
            return _accepted(_unchanged(older, place, goal, log))
    older = read_older(paths)
    has_onnx = older is not None and not options.force and _reusable(older, paths, digests, goal)[0]

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(staging(paths))
        if older is not None and has_onnx:
            log.reused("onnx", f"{paths.onnx} is unchanged")
            made = _Made.of(older, paths)
        else:
            graph, proven = _make_graph(source, options, goal, pictures, evidence, log)
            if proven is not None and not proven.proof.met:
                paths = paths.rejected
                older, folder = read_older(paths), stack.enter_context(staging(paths))
            made = _write_graph(graph, proven, source, folder, paths, log)
        if options.target == "openvino":
            made.checks["openvino"] = _check_openvino(made.onnx, made.spec, pictures, log)
        plan = _build_plan(made.onnx, folder / paths.plan.name, made.spec, goal, options, log)
        manifest = Manifest(
            name=paths.name,
            created=_now(),
            yolotrt=__version__,
            spec=made.spec,
            source=FileRecord(file=source.path.name, sha256=source.sha256),
            precision_asked=options.precision or goal.precision,
            inputs_digest=str(digests),
            onnx=FileRecord(file=made.onnx.name, sha256=files.sha256_of(made.onnx)),
            plan=plan,
            checks=made.checks,
            report=made.report,
            accepted=made.accepted,
        )
        commit(folder, paths, manifest, older)
    return _accepted(_result(manifest, paths, goal, log, unchanged=False))


@dataclass(frozen=True, kw_only=True)
class _Made:
    """The ONNX part of a bundle: where its file lies now, and what its manifest says of it."""

    onnx: Path
    spec: ModelSpec
    checks: dict[str, Any]
    report: FileRecord | None
    accepted: bool

    @classmethod
    def of(cls, older: Manifest, paths: BundlePaths) -> _Made:
        """That of an earlier export."""
        return cls(
            onnx=paths.onnx,
            spec=older.spec,
            checks=dict(older.checks),
            report=older.report,
            accepted=older.accepted,
        )


def _write_graph(
    graph: Graph, proven: ProvenGraph | None, source: Source, folder: Path, paths: BundlePaths, log: StageLog
) -> _Made:
    """Write the ONNX file and, where its precision was proven, the report."""
    path = folder / paths.onnx.name
    files.write_bytes(path, graph.serialized())
    return _Made(
        onnx=path,
        spec=graph.spec,
        checks=graph.checks,
        report=_write_report(proven, source, folder, paths, log) if proven else None,
        accepted=proven is None or proven.proof.met,
    )


def _now() -> str:
    return dt.datetime.now(dt.timezone.utc).isoformat()


def _gather(options: ExportOptions, goal: Goal) -> contextlib.AbstractContextManager[Evidence | None]:
    """What the precision is proven with; None where that is not asked for."""
    if options.data is None and options.calib is None:
        return contextlib.nullcontext()  # without importing what it takes to measure accuracy
    from yolotrt.export.gate.evidence import gather

    return gather(options, goal)


def _make_graph(
    source: Source,
    options: ExportOptions,
    goal: Goal,
    pictures: Sequence[Path],
    evidence: Evidence | None,
    log: StageLog,
) -> tuple[Graph, ProvenGraph | None]:
    """Weights to the ONNX graph in its precision, and the proof of it where there are pictures for one."""
    with log.stage("load") as stage:
        origin = load_origin(source, options)
        stage.result = origin.summary
    with log.stage("onnx") as stage:
        traced = make_onnx(origin, stage)
    with log.stage("checker") as stage:
        check(traced, stage)
    with log.stage("onnxsim") as stage:
        graph = simplify(traced, origin, stage)
        edges.check_edges(graph, options)
    with log.stage("comparison") as stage:
        reference = Reference.of(origin, graph.spec, pictures, stage)
        graph = compare_with_origin(graph, reference, stage)
    with log.stage("precision") as stage:
        lowered = lower_precision(graph, reference, goal.precision, pictures, stage)
    if evidence is None:
        return _trim(lowered, options, reference, log), None
    from yolotrt.export.gate.stage import prove_precision

    proven = prove_precision(graph, lowered, goal, options, evidence, log)
    return _trim(proven.graph, options, reference, log), proven


def _trim(graph: Graph, options: ExportOptions, reference: Reference, log: StageLog) -> Graph:
    if options.head == "whole" and not options.fp16_input:
        return graph
    with log.stage("edges") as stage:
        return edges.trim_edges(graph, options, reference, stage)


def _write_report(proven: ProvenGraph, source: Source, folder: Path, paths: BundlePaths, log: StageLog) -> FileRecord:
    from yolotrt.export.report import make_report, write_report

    with log.stage("report") as stage:
        report = make_report(
            proven.proof,
            name=paths.name,
            source=source.path.name,
            spec=proven.graph.spec,
            parity=proven.parity,
            created=_now(),
            yolotrt_version=__version__,
        )
        written = write_report(report, folder, paths.name)
        stage.result = str(paths.report)
    return FileRecord(file=paths.report.name, sha256=files.sha256_of(written[0]))


def _accepted(result: ExportResult) -> ExportResult:
    """The result itself. Raises AccuracyError where it does not keep the accuracy."""
    if result.manifest.accepted:
        return result
    proof = result.manifest.checks["accuracy"]
    chosen = next(v for v in proof["versions"] if v["chosen"])
    error = AccuracyError(
        f"{chosen['name']} keeps {chosen['relative']:.2%} of FP32's {proof['measure']}",
        got=f"a drop of {1 - chosen['relative']:.2%}",
        expected=f"at most {proof['max_drop']:.2%} (--max-drop)",
        remedy=f"The best version found is kept as {result.manifest_path}. "
        "More or more fitting calibration pictures may help, or --fp16.",
    )
    error.result = result
    raise error


def _find(model: str | Path, log: StageLog) -> Source:
    if Path(model).exists():
        return find_source(model)
    with log.stage("download") as stage:
        source = find_source(model)
        stage.result = str(source.path)
    return source


def _paths(source: Source, goal: Goal, options: ExportOptions) -> BundlePaths:
    name = f"{source.stem}-{goal.precision}"
    paths = BundlePaths(folder=options.output or Path(name), name=name)
    if paths.onnx.exists() and paths.onnx.samefile(source.path):
        raise UsageError(
            f"{source.path}: the export would overwrite its own source", remedy="Choose another folder with --output."
        )
    return paths


def _reusable(older: Manifest, paths: BundlePaths, digests: Digests, goal: Goal) -> tuple[bool, bool]:
    """Whether the ONNX file and the plan of an earlier export are what this one would make."""
    onnx_digest, _, plan_digest = older.inputs_digest.partition("-")
    has_onnx = onnx_digest == digests.onnx and is_intact(paths, older.onnx)
    has_plan = has_onnx and plan_digest == digests.plan
    if goal.flavour is not None:
        has_plan = has_plan and is_intact(paths, older.plan)
    if older.report is not None:
        has_onnx = has_onnx and is_intact(paths, older.report)
    return has_onnx, has_plan


def _unchanged(older: Manifest, paths: BundlePaths, goal: Goal, log: StageLog) -> ExportResult:
    log.reused("onnx", f"{paths.onnx} is unchanged")
    if older.plan is not None:
        log.reused("plan", f"{paths.plan} is unchanged")
    with contextlib.suppress(OSError):
        os.utime(paths.manifest)  # it is the one exported last
    return _result(older, paths, goal, log, unchanged=True)


def _check_openvino(path: Path, spec: ModelSpec, pictures: Sequence[Path], log: StageLog) -> dict[str, Any]:
    from yolotrt.export.openvino_check import check_openvino

    with log.stage("openvino") as stage:
        return check_openvino(path, spec, pictures, stage)


def _build_plan(
    onnx_path: Path, plan_path: Path, spec: ModelSpec, goal: Goal, options: ExportOptions, log: StageLog
) -> PlanRecord | None:
    if goal.flavour is None:
        log.skipped("plan", goal.note)
        return None
    from yolotrt.export.plan import build_plan

    with log.stage("plan") as stage:
        built = build_plan(onnx_path, flavour=goal.flavour, spec=spec, options=options.plan, on_progress=stage.say)
        files.write_bytes(plan_path, built.data)
        stage.result = f"{goal.flavour.title}, {len(built.data) / 2**20:.1f} MiB"
        stage.details = {"warnings": list(built.warnings)}
    return PlanRecord(
        file=plan_path.name,
        sha256=files.sha256_of(plan_path),
        flavour=built.flavour,
        version=built.version,
        compute_capabilities=built.compute_capabilities,
        options=built.options,
    )


def _result(manifest: Manifest, paths: BundlePaths, goal: Goal, log: StageLog, *, unchanged: bool) -> ExportResult:
    return ExportResult(
        manifest=manifest,
        manifest_path=paths.manifest,
        onnx=paths.onnx,
        plan=paths.plan if manifest.plan else None,
        report=paths.report if manifest.report else None,
        unchanged=unchanged,
        note=goal.note,
        stages=tuple(log.reports),
    )
