"""`yolotrt inspect`: say what a model file is and what can run it here."""

from __future__ import annotations

import json
from pathlib import Path

import click

from yolotrt.cli.filled_in import Command


@click.command("inspect", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--layers", is_flag=True, help="Show each layer with its precision.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(file: Path, layers: bool, as_json: bool) -> None:
    """Say what FILE is and what can run it here.

    FILE is a TensorRT plan, an ONNX file, or a bundle: its folder or its manifest. Each back-end is tried with one
    inference.
    """
    from yolotrt.inspection.inspect import inspect_model

    found = inspect_model(file)
    if as_json:
        click.echo(json.dumps(found.to_dict(layers=layers)))
        return
    from rich.console import Console

    from yolotrt.inspection.view import show

    show(found, Console(highlight=False), layers=layers)
