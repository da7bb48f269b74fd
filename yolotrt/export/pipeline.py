"""The export, from weights to a bundle. `export_model` holds the order of the stages."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolotrt import files
from yolotrt._version import __version__
from yolotrt.errors import UsageError
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


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export made.

    Attributes:
        manifest: of the bundle.
        manifest_path: the manifest's file; `Detector` takes it as a model.
        onnx: the ONNX file.
        plan: the TensorRT plan, where one was built.
        unchanged: nothing had to be made: an earlier export was the same.
        note: why there is no plan and how to get one; empty where there is one.
        stages: what each stage did.
    """

    manifest: Manifest
    manifest_path: Path
    onnx: Path
    plan: Path | None
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
        ExportError: a stage failed, or its check did not hold.
        SinkError: the output folder cannot be written. Whatever is raised, an older bundle stays as it was.
    """
    options = dataclasses.replace(options or ExportOptions(), **overrides)
    log = StageLog(on_stage)
    source = _find(model, log)
    given = read_onnx_spec(source.path) if source.kind == "onnx" else None
    goal = choose_goal(options, source, given)
    pictures = find_pictures(options.images)
    paths = _paths(source, goal, options)
    digests = compute_digests(source, options, precision=goal.precision, pictures=pictures, flavour=goal.flavour)
    older = read_older(paths)
    has_onnx, has_plan = (False, False) if older is None or options.force else _reusable(older, paths, digests, goal)
    if older is not None and has_onnx and has_plan:
        return _unchanged(older, paths, goal, log)

    with staging(paths) as folder:
        if older is not None and has_onnx:
            log.reused("onnx", f"{paths.onnx} is unchanged")
            spec, checks, onnx_path = older.spec, dict(older.checks), paths.onnx
        else:
            graph = _make_graph(source, options, goal, pictures, log)
            spec, checks, onnx_path = graph.spec, graph.checks, folder / paths.onnx.name
            files.write_bytes(onnx_path, graph.serialized())
        if options.target == "openvino":
            checks["openvino"] = _check_openvino(onnx_path, spec, pictures, log)
        plan = _build_plan(onnx_path, folder / paths.plan.name, spec, goal, options, log)
        manifest = Manifest(
            name=paths.name,
            created=dt.datetime.now(dt.timezone.utc).isoformat(),
            yolotrt=__version__,
            spec=spec,
            source=FileRecord(file=source.path.name, sha256=source.sha256),
            precision_asked=options.precision or goal.precision,
            inputs_digest=str(digests),
            onnx=FileRecord(file=onnx_path.name, sha256=files.sha256_of(onnx_path)),
            plan=plan,
            checks=checks,
        )
        commit(folder, paths, manifest, older)
    return _result(manifest, paths, goal, log, unchanged=False)


def _make_graph(source: Source, options: ExportOptions, goal: Goal, pictures: Sequence[Path], log: StageLog) -> Graph:
    """Weights to the ONNX graph in its precision."""
    with log.stage("load") as stage:
        origin = load_origin(source, options)
        stage.result = origin.summary
    with log.stage("onnx") as stage:
        traced = make_onnx(origin, stage)
    with log.stage("checker") as stage:
        check(traced, stage)
    with log.stage("onnxsim") as stage:
        graph = simplify(traced, origin, stage)
    with log.stage("comparison") as stage:
        reference = Reference.of(origin, graph.spec, pictures, stage)
        graph = compare_with_origin(graph, reference, stage)
    with log.stage("precision") as stage:
        return lower_precision(graph, reference, goal.precision, pictures, stage)


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
        unchanged=unchanged,
        note=goal.note,
        stages=tuple(log.reports),
    )
