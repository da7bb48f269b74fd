"""A console on standard error whose reader may go away."""

from __future__ import annotations

from rich.console import Console


class StderrConsole(Console):
    """Says no more once nobody reads it (`2>&1 | head`).

    rich itself would send standard *output* to nowhere then, with the lines of `--jsonl -`, and end the thread that
    wanted to say something.
    """

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        self.quiet = True
