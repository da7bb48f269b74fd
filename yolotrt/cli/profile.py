"""`yolotrt profile`: where the time of an inference goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from yolotrt.cli.filled_in import Command


@click.command("profile", cls=Command)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(min=1), default=15, show_default=True, help="Show so many of the layers.")
@click.option("--inferences", type=int, default=30, show_default=True, help="Inferences to record.")
@click.option("--threads", type=int, default=0, metavar="N", help="Of a CPU back-end.  [default: one per core]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--backend", default="auto", show_default=True, help="auto, tensorrt, openvino or onnxruntime.")
@click.option("--trust", is_flag=True, help="Allow weights to run code of their own when loaded.")
@click.option(
    "--trace", type=click.Path(path_type=Path), metavar="FILE", help="Write a trace for Perfetto and chrome://tracing."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(**given: Any) -> None:
    """Say where the time of an inference of MODEL goes, layer by layer.

    By the runtime's own profiler. Names of layers are traced back to the nodes of the ONNX graph as far as the runtime
    tells what it fused.
    """
    from yolotrt import files
    from yolotrt.bench.profile.profile import ProfileOptions, profile
    from yolotrt.model_files import paths_read

    top, trace, as_json = (given.pop(name) for name in ("top", "trace", "as_json"))
    options = ProfileOptions(**given)
    if trace is not None:
        files.refuse_input(trace, f"--trace {trace}", ((path, "the model") for path in paths_read(options.model)))
    found = profile(options)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        from rich.console import Console

        from yolotrt.bench.profile.view import show

        show(found, Console(highlight=False), top=top)
    if trace is not None:
        from yolotrt.bench.profile.trace import write_trace

        write_trace(found, trace)
