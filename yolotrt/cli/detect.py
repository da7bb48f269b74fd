"""`yolotrt detect`: find objects in pictures and videos."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from yolotrt.errors import UsageError

if TYPE_CHECKING:
    from yolotrt.cli.detect_config import DetectConfig
    from yolotrt.detector import Detector
    from yolotrt.pipeline import RunStatistics
    from yolotrt.sinks import Sink
    from yolotrt.sources import Source


@click.command()
@click.argument("source", nargs=-1, required=True)
@click.option(
    "--model",
    metavar="MODEL",
    help="Plan, ONNX file, bundle or weights.  [default: the bundle exported last in this folder, else the demo model]",
)
@click.option("--conf", type=float, help="Drop boxes with a confidence of at most this.  [default: 0.25]")
@click.option("--iou", type=float, help="Overlap above which the weaker box is dropped.  [default: 0.7]")
@click.option("--max-det", type=int, help="At most this many boxes per picture.  [default: 300]")
@click.option("--classes", metavar="LIST", help="Class names or ids to keep, comma separated.")
@click.option("--agnostic", is_flag=True, default=None, help="Let boxes suppress boxes of other classes too.")
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: auto]")
@click.option("--backend", help="auto, tensorrt, openvino or onnxruntime.  [default: auto]")
@click.option("--strict", is_flag=True, default=None, help="Fail rather than fall back to a slower back-end.")
@click.option("--save", metavar="DIR", help="Write annotated copies there.")
@click.option("--jsonl", metavar="FILE|-", help="Write one JSON object per frame; - is standard output.")
@click.option("--json", is_flag=True, default=None, help="Print the summary as one JSON object and nothing else.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Read these options from a YAML file.")
@click.option("--trust", is_flag=True, default=None, help="Allow weights to run code of their own when loaded.")
@click.pass_context
def command(ctx: click.Context, /, source: tuple[str, ...], config: Path | None, **given: Any) -> None:
    """Find objects in SOURCE: pictures, folders, globs and video files.

    Ends with 0 if all went well, 1 if something could not be read or run, 2 if the call is wrong.
    """
    from yolotrt.cli import detect_config

    options = detect_config.load(config, given)
    thresholds = options.thresholds  # what is out of range is said before anything is loaded
    from yolotrt.detector import Detector
    from yolotrt.sources import open_source

    with open_source(source) as frames:
        model, why = _model(options.model)
        if model.endswith(".pt"):
            click.echo(f"{model}: weights are exported to ONNX, once; the result is kept in the cache.", err=True)
        detector = Detector(
            model,
            backend=cast("Any", options.backend),  # checked there
            device=options.device,
            options=thresholds,
            classes=options.classes,
            strict=options.strict,
            trust=options.trust,
        )
        with detector:
            click.echo(f"Model: {model}{why}, in {detector.info}", err=True)
            statistics = _run(detector, frames, options, model)
    if statistics.problems:
        ctx.exit(1)


def _model(named: str | None) -> tuple[str, str]:
    """The model to run, and why it is this one where the user named none."""
    if named is not None:
        return named, ""
    from yolotrt.export.bundle import latest_bundle

    bundle = latest_bundle(Path.cwd())
    if bundle is not None:
        return str(bundle), " (exported last in this folder)"
    from yolotrt.assets import demo_model

    return str(demo_model()), " (the demo model; choose another with --model)"


def _run(detector: Detector, source: Source, options: DetectConfig, model: str) -> RunStatistics:
    from yolotrt.cli.detect_report import print_summary, progress
    from yolotrt.pipeline import Pipeline

    sinks = _sinks(source, options)
    interrupt: KeyboardInterrupt | None = None
    with progress(source.info) as (on_result, on_problem):
        pipeline = Pipeline(detector, source, sinks, on_result=on_result, on_problem=on_problem)
        try:
            pipeline.run()
        except KeyboardInterrupt as e:
            interrupt = e  # the summary of what was done comes first
    outputs = [path for sink in sinks for path in sink.outputs]
    if options.json:
        record = {
            "model": model,
            "backend": dataclasses.asdict(detector.info),
            "source": source.info.name,
            **pipeline.statistics.to_dict(),
            "outputs": [str(path) for path in outputs],
        }
        click.echo(json.dumps(record, indent=2))
    else:
        print_summary(pipeline.statistics, outputs, to_stderr=options.jsonl == "-")
    if interrupt is not None:
        raise interrupt
    return pipeline.statistics


def _sinks(source: Source, options: DetectConfig) -> list[Sink]:
    from yolotrt.sinks import AnnotatedSink, JsonLinesSink

    sinks: list[Sink] = []
    if options.save is not None:
        sinks.append(AnnotatedSink(options.save, source))
    if options.jsonl == "-":
        sinks.append(JsonLinesSink(None))
    elif options.jsonl is not None:
        target = Path(options.jsonl)
        if target.resolve() in {path.resolve() for path in source.paths}:
            raise UsageError(f"--jsonl {target} is the source itself", expected="another file")
        sinks.append(JsonLinesSink(target))
    return sinks
