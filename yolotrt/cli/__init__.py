"""The command line. One module per command, imported only when that command runs, so that `--help` is fast.

Adding a command: a module here with a click command `command`, and a row in `_COMMANDS`.
"""

from __future__ import annotations

import difflib
import importlib
import sys

import click

from yolotrt._version import __version__
from yolotrt.cli import interrupts

# name -> its line in `yolotrt --help`
_COMMANDS = {
    "export": "Make a deployable bundle from weights: ONNX, precision, plan.",
    "detect": "Find objects in pictures and videos.",
    "val": "Measure a model on a labelled data set: COCO's mean average precision.",
    "verify": "Compare the boxes of two models, for example before and after an export.",
    "bench": "Measure how fast a model runs here.",
    "profile": "Say where the time of an inference goes, layer by layer.",
    "inspect": "Say what a model file is and what can run it here.",
    "doctor": "Check this machine: GPUs, drivers, back-ends, what is missing.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature, and below)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            near = difflib.get_close_matches(name, _COMMANDS)
            if near:
                ctx.fail(f"No such command '{name}'. (Did you mean '{near[0]}'?)")
            return None
        command: click.Command = importlib.import_module(f"yolotrt.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="yolotrt")
def cli() -> None:
    """From trained YOLO weights to boxes on a production GPU."""


def main() -> None:
    """Run the command line. Every error is one line on standard error: exit 2 for a wrong call, 1 for a failure."""
    interrupts.install()
    try:
        code = cli(prog_name="yolotrt", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as e:  # plain `yolotrt`
        e.show()
        code = e.exit_code
    except click.ClickException as e:
        click.echo(f"Error: {_one_line(e)}", err=True)
        code = e.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = 130
    except BrokenPipeError:  # the reader of `--jsonl -` went away
        sys.stderr.close()
        code = 1
    except OSError as e:  # of files, each is caught where it is written
        where = e.filename or "cannot write to standard output"
        click.echo(f"Error: {where}: {e.strerror or e}", err=True)
        sys.stderr.close()  # or the interpreter says it once more when it flushes the rest
        code = 1
    except Exception as e:
        from yolotrt.errors import YolotrtError

        if not isinstance(e, YolotrtError):
            raise
        click.echo(f"Error: {e}", err=True)
        code = e.exit_code
    sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text} Try: {context.command_path} --help" if context is not None else text
