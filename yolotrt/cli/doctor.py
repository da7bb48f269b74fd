"""`yolotrt doctor`: check this machine."""

from __future__ import annotations

import json

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(as_json: bool) -> int:
    """Check this machine: GPUs, drivers, back-ends, codecs, and what is missing with the command that installs it.

    Each back-end runs a small model whose answer is known. The exit code is 0 only where the main job can run:
    pictures can be read, and a back-end runs models.
    """
    from yolotrt.cli import interrupts
    from yolotrt.diagnosis.diagnose import diagnose

    found = diagnose()
    interrupts.check()  # one that came while a package was imported looks as if that were broken
    if as_json:
        click.echo(json.dumps(found.to_dict()))
    else:
        from yolotrt.diagnosis.view import show

        show(found)
    return 0 if found.can_run else 1
