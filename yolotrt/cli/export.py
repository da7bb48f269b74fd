"""`yolotrt export`: make a deployable bundle from weights."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yolotrt.cli import interrupts
from yolotrt.cli.filled_in import Command
from yolotrt.errors import AccuracyError, UsageError

if TYPE_CHECKING:
    from yolotrt.export.pipeline import ExportResult
    from yolotrt.export.stages import OnStage, StageReport

_PLAN_FLAGS = {
    "workspace": "workspace_mib",
    "opt_level": "optimization_level",
    "timing_cache": "timing_cache",
    "version_compatible": "version_compatible",
    "hardware_compatible": "hardware_compatible",
    "compute_capability": "compute_capability",
    "refittable": "refittable",
    "strip": "strip",
}


@click.command("export", cls=Command)
@click.argument("model")
@click.option("--imgsz", metavar="N|HxW", help="Input size in pixels: 640, or 384x640.  [default: the model's own]")
@click.option("--batch", metavar="N", help="Fixed batch size.  [default: 1]")
@click.option("--batch-range", metavar="MIN,OPT,MAX", help="Dynamic batch; a plan is tuned for OPT.")
@click.option(
    "--precision",
    metavar="fp32|fp16|fp8|int8|auto",
    help="auto: the fastest that keeps the accuracy.  [default: fp16 for a plan, else fp32]",
)
@click.option("--fp16", is_flag=True, help="Short for --precision fp16.")
@click.option("--fp8", is_flag=True, help="Short for --precision fp8.")
@click.option("--int8", is_flag=True, help="Short for --precision int8.")
@click.option("--data", metavar="FILE", help="Labelled data set (data.yaml, COCO .json): measures the accuracy.")
@click.option(
    "--max-drop", type=float, metavar="SHARE", help="Accuracy that may be lost, relative.  [0.005; fp8: 0.002]"
)
@click.option(
    "--calib", metavar="PATH", help="Pictures or a video to calibrate on.  [default: the train split of --data]"
)
@click.option("--calib-pictures", metavar="N", help="Calibrate on at most so many.  [default: 512]")
@click.option("--calib-few", is_flag=True, default=None, help="Allow a calibration on fewer than 64.")
@click.option("--target", metavar="auto|onnx|tensorrt|tensorrt-rtx|openvino", help="What to build.  [default: auto]")
@click.option("--names", metavar="LIST|FILE", help="Class names in place of the model's own.")
@click.option("--output", metavar="DIR", help="Folder of the bundle.  [default: NAME-PRECISION]")
@click.option("--images", metavar="PATH", help="Pictures for the checks and for FP16.  [default: samples of yolotrt]")
@click.option("--opset", metavar="N", help="ONNX operator set.")
@click.option("--head", metavar="whole|raw", help="raw: yolotrt decodes the boxes, not the graph.  [default: whole]")
@click.option("--fp16-input", is_flag=True, default=None, help="Take pictures in FP16.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Read these options from a YAML file.")
@click.option("--workspace", metavar="MIB", help="TensorRT: limit for scratch memory while building.")
@click.option("--opt-level", metavar="0..5", help="TensorRT: optimization level.")
@click.option("--timing-cache", metavar="FILE", help="TensorRT: kernel timings, read and written back.")
@click.option("--version-compatible", is_flag=True, default=None, help="TensorRT: the plan loads in later versions.")
@click.option("--hardware-compatible", is_flag=True, default=None, help="TensorRT: the plan runs on other GPUs.")
@click.option("--compute-capability", metavar="LIST", help="TensorRT-RTX: GPUs to build for, as 8.6,8.9.")
@click.option("--refittable", is_flag=True, default=None, help="TensorRT: weights can be replaced later.")
@click.option("--strip", is_flag=True, default=None, help="TensorRT: leave the weights out of the plan.")
@click.option("--trust", is_flag=True, default=None, help="Allow weights to run code of their own when loaded.")
@click.option("--force", is_flag=True, default=None, help="Make everything again, even what is unchanged.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object and nothing else.")
def command(model: str, config: Path | None, as_json: bool, **given: Any) -> None:
    """Make a bundle from MODEL: an ONNX file in its precision, a TensorRT plan where one can be built, a manifest.

    MODEL is a .pt or .onnx file, or the name of an Ultralytics model (yolov8n), which Ultralytics downloads.
    """
    from yolotrt.cli import export_config

    plan = {field: given.pop(flag) for flag, field in _PLAN_FLAGS.items()}
    given["precision"] = _precision(given)
    given["batch"] = _batch(given)
    options = export_config.load(config, given, plan)
    from yolotrt.export.pipeline import export_model

    with _progress(silent=as_json) as on_stage:
        try:
            result = export_model(model, options=options, on_stage=on_stage)
        except AccuracyError as e:
            if as_json:
                click.echo(json.dumps(e.result.to_dict()))
            raise
    if as_json:
        click.echo(json.dumps(result.to_dict()))
    else:
        _conclude(result)


def _precision(given: dict[str, Any]) -> str | None:
    """The one that is named, by --precision or a flag of its own."""
    flags = [name for name in ("fp16", "fp8", "int8") if given.pop(name)]
    asked = dict.fromkeys([f"--{name}" for name in flags])
    precision: str | None = given["precision"]
    if precision is not None and [precision.lower()] != flags:
        asked[f"--precision {precision}"] = None
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} contradict each other")
    return flags[0] if flags else precision


def _batch(given: dict[str, Any]) -> Any:
    batch, batch_range = given["batch"], given.pop("batch_range")
    if batch_range is None:
        if batch is not None and "," in batch:
            raise UsageError("option batch is one number", got=batch, remedy="Use --batch-range for a range.")
        return batch
    if batch is not None:
        raise UsageError("--batch and --batch-range contradict each other")
    if batch_range.count(",") != 2:
        raise UsageError("option batch-range is no range", got=batch_range, expected="MIN,OPT,MAX as 1,4,16")
    return batch_range


@contextlib.contextmanager
def _progress(*, silent: bool) -> Iterator[OnStage]:
    """One line for each stage when it ends; on a terminal, also what it is doing meanwhile."""
    if silent:
        yield lambda _: interrupts.check()
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    with console.status("") if console.is_terminal else contextlib.nullcontext() as status:

        def on_stage(report: StageReport) -> None:
            interrupts.check()
            if report.state != "running":
                # Through the console, which lifts the line above what it is showing.
                console.print(_line(report), markup=False)
            elif status is not None:
                status.update(f"{report.name} {report.result}")

        yield on_stage


def _line(report: StageReport) -> str:
    time = f"{report.seconds:6.1f} s" if report.state == "done" else f"{report.state:>8}"
    return f"{report.name:<11}{time}  {report.result}"


def _conclude(result: ExportResult) -> None:
    made = "Nothing to do, unchanged:" if result.unchanged else "Made"
    size = "x".join(map(str, result.manifest.spec.imgsz))
    what = f"{result.manifest.spec.precision.upper()}, input {size}"
    click.echo(f"{made} {result.plan or result.onnx} ({what})")
    if result.report is not None:
        click.echo(f"Accuracy: {result.report}")
    click.echo(f"Run it: yolotrt detect --model {shlex.quote(str(result.manifest_path))} PICTURE")
    sys.stdout.flush()
