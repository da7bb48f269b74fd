"""`yolotrt detect`: find objects in pictures, videos and streams."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from yolotrt.cli.filled_in import Command

if TYPE_CHECKING:
    from yolotrt.cli.detect_config import DetectConfig
    from yolotrt.detector import Detector
    from yolotrt.pipeline import Pipeline, RunStatistics, Stream
    from yolotrt.pipeline.stream_state import StreamStatus
    from yolotrt.sinks import Outputs, Sink
    from yolotrt.sources import Source
    from yolotrt.sources.decoders import DecoderChoice, Decoders


@click.command(cls=Command)
@click.argument("source", nargs=-1)
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
@click.option(
    "--graphs/--no-graphs", default=None, help="Run a TensorRT plan as CUDA graphs.  [default: where it can be]"
)
@click.option(
    "--decoder", metavar="auto|nvdec|pyav", help="Of videos.  [default: auto, NVDEC with CUDA graphs, else PyAV]"
)
@click.option(
    "--decode-processes", type=int, help="That decode many streams by NVDEC, 0 for none.  [default: as many as pay]"
)
@click.option("--strict", is_flag=True, default=None, help="Fail rather than fall back to a slower back-end.")
@click.option("--save", metavar="DIR", help="Write annotated copies there.")
@click.option("--jsonl", metavar="FILE|-", help="Write one JSON object per frame; - is standard output.")
@click.option("--append", is_flag=True, default=None, help="Keep the lines that the file of --jsonl holds.")
@click.option("--jsonl-rotate", metavar="10m|1h|500MB", help="Begin another file of lines after a time or at a size.")
@click.option("--coco", metavar="FILE", help="Write COCO results, and FILE.images.json with the ids of the pictures.")
@click.option("--coco-like", metavar="FILE", help="Take the ids for --coco from these COCO annotations.")
@click.option("--crops", metavar="DIR", help="Write each box as a picture there, in a folder per class.")
@click.option("--split", metavar="10m|1h|500MB", help="Begin another recording of a stream so often.  [default: 1h]")
@click.option("--encoder", metavar="auto|nvenc|x264", help="Of annotated videos.  [default: auto, NVENC first]")
@click.option("--show", is_flag=True, default=None, help="Show the annotated streams in windows; q ends the run.")
@click.option("--restream", metavar="URL", help="Serve them at http://[HOST]:PORT, or publish them to rtsp://...")
@click.option("--metrics", metavar="[HOST:]PORT", help="Serve metrics for Prometheus, to this machine if no HOST.")
@click.option("--track", metavar="bytetrack", help="Give objects numbers that stay from frame to frame.")
@click.option("--json", is_flag=True, default=None, help="Print the summary as one JSON object and nothing else.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Read these options from a YAML file.")
@click.option("--fps", type=float, help="Use at most so many frames per second of each stream.  [default: all]")
@click.option("--stride", type=int, help="Use every n-th frame of videos and streams.  [default: 1]")
@click.option("--max-latency", type=float, metavar="SECONDS", help="Drop live pictures that wait longer.  [default: 1]")
@click.option("--retries", type=int, help="Failed connections in a row before a stream is given up.  [default: no end]")
@click.option("--connect-timeout", type=float, metavar="SECONDS", help="For a connection to a camera.  [default: 10]")
@click.option(
    "--read-timeout", type=float, metavar="SECONDS", help="Connect anew after so long a silence.  [default: 5]"
)
@click.option("--rtsp-transport", metavar="auto|tcp|udp", help="udp falls back to TCP.  [default: auto, TCP first]")
@click.option("--trust", is_flag=True, default=None, help="Allow weights to run code of their own when loaded.")
@click.pass_context
def command(ctx: click.Context, /, source: tuple[str, ...], config: Path | None, **given: Any) -> None:
    """Find objects in SOURCE: pictures, folders, globs, video files, cameras.

    A camera is an address (rtsp://user:password@host/path, http://...) or a webcam's number. A text file names a source
    per line. Cameras are read side by side, each until it ends or Ctrl-C.

    Ends with 0 if all went well, 1 if something could not be read or run, 2 if the call is wrong, 130 after Ctrl-C.
    """
    from yolotrt.cli import detect_config

    options = detect_config.load(config, given)
    thresholds = options.thresholds  # what is out of range is said before anything is loaded
    outputs = options.outputs
    from yolotrt.cli import detect_files, detect_streams
    from yolotrt.cli.own_stdout import own_stdout
    from yolotrt.detector import Detector
    from yolotrt.sinks import Outputs

    detect_files.refuse_shared(options)
    with contextlib.ExitStack() as stack:
        opened = detect_streams.open_all(source, options, stack)
        model, why = _model(options.model)
        detect_files.refuse_inputs(
            options, model=model, named=source, sources=[o.source for o in opened], config=config
        )
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
            graphs=options.graphs,
        )
        stack.enter_context(detector)
        click.echo(f"Model: {model}{why}, in {detector.info}", err=True)
        if _choose_decoders(detector, options, [o.source for o in opened]).nvdec is not None:
            stack.enter_context(own_stdout())  # PyNvVideoCodec writes there
        running = _Running()
        _serve_metrics(options, running, stack)  # before outputs, which empty older files: its port may be taken
        made = stack.enter_context(Outputs(outputs, {o.name: o.source for o in opened}))
        running.streams = detect_streams.make_streams(opened, detector, options, made)
        statistics = _run(detector, running, made, options, model)
    if statistics.problems:
        ctx.exit(1)


def _model(named: str | None) -> tuple[str, str]:
    """The model to run, and why it is this one where the user named none."""
    if named is not None:
        return named, ""
    from yolotrt.export.bundle import bundles_in, first_whole

    bundles = bundles_in(Path())
    bundle = first_whole(bundles)
    # What was exported last is not passed over in silence.
    passed = "".join(f"; {path} misses {missing}" for path, missing in bundles[:1] if missing is not None)
    if bundle is not None:
        return str(bundle), f" (exported last in this folder{passed})"
    from yolotrt.assets import demo_model

    return str(demo_model()), f" (the demo model; choose another with --model{passed})"


def _choose_decoders(detector: Detector, options: DetectConfig, sources: list[Source]) -> Decoders:
    """Let the sources use the decoders that are best for the detector, and say which where that is a question."""
    decoders = detector.decoders(cast("DecoderChoice", options.decoder), processes=options.decode_processes)
    for source in sources:
        source.decoders = decoders
    if str(decoders) and any(source.info.kind != "pictures" for source in sources):
        click.echo(f"Videos: decoded by {decoders}", err=True)
    return decoders


@dataclasses.dataclass
class _Running:
    """What there is to see of a run so far."""

    streams: list[Stream] = dataclasses.field(default_factory=list)
    pipeline: Pipeline | None = None

    def status(self) -> Sequence[StreamStatus]:
        return () if self.pipeline is None else self.pipeline.status()


def _run(detector: Detector, running: _Running, made: Outputs, options: DetectConfig, model: str) -> RunStatistics:
    from yolotrt.cli import interrupts
    from yolotrt.cli.detect_report import display
    from yolotrt.cli.short_pauses import short_pauses
    from yolotrt.pipeline import Pipeline

    interrupt: KeyboardInterrupt | None = None
    streams = running.streams
    with display(streams) as shown:
        shared = made.shared(lambda: pipeline.stop())  # noqa: PLW0108 (there is none yet)
        running.pipeline = pipeline = Pipeline(
            detector,
            streams,
            shared,
            on_result=shown.on_result,
            on_problem=shown.on_problem,
            on_state=shown.on_state,
        )
        shown.follow(pipeline.status)
        for address in made.addresses:
            click.echo(f"Streams: {address}", err=True)
        try:
            pipeline.get_ready()
            is_live = any(stream.source.info.live for stream in streams)
            with interrupts.handed_to(pipeline.interrupt), short_pauses() if is_live else contextlib.nullcontext():
                pipeline.run()
        except KeyboardInterrupt as e:
            interrupt = e  # the summary of what was done comes first
    _tell(pipeline, streams, shared, options, model, detector)
    if interrupt is not None:
        raise interrupt
    return pipeline.statistics


def _tell(
    pipeline: Pipeline, streams: list[Stream], shared: list[Sink], options: DetectConfig, model: str, detector: Detector
) -> None:
    """Print what a run has done."""
    from yolotrt.cli.detect_report import counts_of, print_summary

    sinks = [sink for own in (*(s.sinks for s in streams), shared) for sink in own]
    outputs = list(dict.fromkeys(path for sink in sinks for path in sink.outputs))  # crops share their folders
    statuses = pipeline.status()
    if options.json:
        record = {
            "model": model,
            "backend": dataclasses.asdict(detector.info),
            "source": ", ".join(stream.name for stream in streams),
            **pipeline.statistics.to_dict(),
            "streams": [status.to_dict() for status in statuses],
            "counts": {name: counts.to_dict() for name, counts in counts_of(streams).items()},
            "outputs": [str(path) for path in outputs],
        }
        click.echo(json.dumps(record, indent=2))
    else:
        several = statuses if len(streams) > 1 or streams[0].source.info.live else ()
        print_summary(
            pipeline.statistics,
            outputs,
            several,
            counts_of(streams),
            decoders=[name for status in statuses for name in status.decoders],
            to_stderr=options.lines_to_stdout,
        )


def _serve_metrics(options: DetectConfig, running: _Running, stack: contextlib.ExitStack) -> None:
    """Serve metrics until `stack` ends, if they are asked for."""
    if options.metrics is None:
        return
    from yolotrt.cli.detect_report import counts_of
    from yolotrt.metrics import MetricsServer, parse_address

    address = parse_address(options.metrics, option="metrics")
    server = stack.enter_context(MetricsServer(address, running.status, counts=lambda: counts_of(running.streams)))
    click.echo(f"Metrics: {server.url}", err=True)
