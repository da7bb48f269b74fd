"""`yolotrt bench`: how fast a model runs here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yolotrt.cli.filled_in import Command

if TYPE_CHECKING:
    from yolotrt.bench.options import BenchOptions
    from yolotrt.bench.report import BenchResult


@click.command("bench", cls=Command)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Picture to detect in; may be given again for other sizes.  [default: a sample of 1920 x 1080]",
)
@click.option(
    "--seconds", type=float, default=10.0, show_default=True, help="Time to measure for; ten rounds take longer."
)
@click.option("--batch", type=int, metavar="N", help="Pictures of one inference.  [default: what the model is for]")
@click.option("--threads", type=int, default=0, metavar="N", help="Of a CPU back-end.  [default: one per core]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--backend", default="auto", show_default=True, help="auto, tensorrt, openvino or onnxruntime.")
@click.option("--graphs/--no-graphs", default=None, help="Run a TensorRT plan as CUDA graphs.  [default: if it can be]")
@click.option("--starts", type=int, default=3, show_default=True, help="Fresh processes whose start is timed.")
@click.option("--trust", is_flag=True, help="Allow weights to run code of their own when loaded.")
@click.option("--compare", metavar="ultralytics", help="Race another library with the same file, turn by turn.")
@click.option(
    "--loadgen",
    "scenarios",
    multiple=True,
    metavar="SCENARIO",
    help="Let MLPerf LoadGen measure: single-stream, multi-stream, offline, server, or all. May be given again.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Folder for LoadGen's own files."
)
@click.option("--target-qps", type=float, metavar="N", help="Queries per second of LoadGen's server scenario.")
@click.option(
    "--target-latency",
    "target_latency_ms",
    type=float,
    default=100.0,
    show_default=True,
    metavar="MS",
    help="For 99 % of those.",
)
@click.option(
    "--markdown", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the tables there."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(**given: Any) -> None:
    """Measure how fast MODEL runs here, and what it takes to start it.

    Times the model alone, a picture in memory to its boxes, and many pictures in batches, in turns; then fresh
    processes from their start to the first boxes. Says how busy the machine was meanwhile.
    """
    markdown, as_json = given.pop("markdown"), given.pop("as_json")
    options = _options(given)
    if markdown is not None:
        _refuse_inputs(markdown, options)
    from yolotrt.bench import view
    from yolotrt.bench.bench import bench
    from yolotrt.cli import interrupts, progress_bar

    bar = progress_bar.bar()
    task = bar.add_task("bench", total=None)

    def on_turn(what: str) -> None:
        interrupts.check()
        bar.update(task, advance=1, description=what)

    with bar:
        found = bench(options, on_turn=on_turn)
    for text in view.warnings(found):
        click.echo(f"Warning: {text}", err=True)
    _print(found, as_json=as_json)
    if markdown is not None:
        from yolotrt import files

        files.write_text(markdown, view.markdown(found))


def _options(given: dict[str, Any]) -> BenchOptions:
    from typing import get_args

    from yolotrt.bench.options import BenchOptions, Scenario

    scenarios = given.pop("scenarios")
    return BenchOptions(
        **{**given, "images": tuple(given["images"])},
        scenarios=tuple(get_args(Scenario)) if "all" in scenarios else tuple(dict.fromkeys(scenarios)),
    )


def _refuse_inputs(markdown: Path, options: BenchOptions) -> None:
    """The tables must not take the place of what is measured: raises UsageError."""
    from yolotrt import files
    from yolotrt.model_files import paths_read

    model = [(path, "the model") for path in paths_read(options.model)]
    files.refuse_input(markdown, f"--markdown {markdown}", [*model, *((path, "a picture") for path in options.images)])


def _print(found: BenchResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    from rich.console import Console

    from yolotrt.bench import view

    view.show(found, Console(highlight=False))
