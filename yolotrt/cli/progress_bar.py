"""The progress bar and the warnings of commands that go through many pictures, both on standard error."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from yolotrt.cli.stderr_console import StderrConsole


def bar(*columns: ProgressColumn, hidden: bool = False) -> Progress:
    """A bar that goes when it is done, shown only on a terminal; `columns` come between the count and the time left."""
    console = StderrConsole()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    )


def warn(progress: Progress, problem: Exception) -> None:
    """One line for a problem that did not end the run; through the bar's console, which lifts it above the bar."""
    progress.console.print(f"Warning: {problem}", markup=False, highlight=False, soft_wrap=True)
