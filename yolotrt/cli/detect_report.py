"""What `yolotrt detect` shows while it runs and at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import TextColumn
from rich.table import Table

from yolotrt.cli import interrupts, progress_bar
from yolotrt.errors import SourceError
from yolotrt.pipeline.statistics import STAGES, RunStatistics
from yolotrt.sources.base import SourceInfo
from yolotrt.types import FrameResult


@contextlib.contextmanager
def progress(info: SourceInfo) -> Iterator[tuple[Callable[[FrameResult], None], Callable[[SourceError], None]]]:
    """A bar on standard error, if that is a terminal. Yields what to call per frame, and per problem to warn of."""
    bar = progress_bar.bar(TextColumn("{task.fields[rate]}"), hidden=info.frames == 1)
    task = bar.add_task(escape(info.name), total=info.frames, rate="")

    def on_result(_result: FrameResult) -> None:
        interrupts.check()
        speed = bar.tasks[0].speed
        bar.update(task, advance=1, rate=f"{speed:,.0f} frames/s" if speed else "")

    with bar:
        yield on_result, partial(progress_bar.warn, bar)


def print_summary(statistics: RunStatistics, outputs: list[Path], *, to_stderr: bool) -> None:
    """The table of one run, what was found, and what was written."""
    table = Table(box=SIMPLE, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("frames", f"{statistics.frames:,}")
    table.add_row("boxes", f"{statistics.boxes:,}")
    table.add_row("frames/s", f"{statistics.frames_per_s:,.1f}", end_section=True)
    for stage in STAGES:
        table.add_row("draw, write" if stage == "write" else stage, f"{statistics.ms_per_frame(stage):,.2f} ms/frame")
    console = Console(stderr=to_stderr)
    console.print(table)

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if statistics.classes:
        line("Found: " + ", ".join(f"{count:,} {name}" for name, count in statistics.classes.most_common()))
    if 0 < len(outputs) <= 3:
        line("Written: " + ", ".join(map(str, outputs)))
    elif outputs:
        folders = sorted({str(path.parent) for path in outputs})
        line(f"Written: {len(outputs):,} files in {', '.join(folders)}")
    if statistics.problems:
        line(f"Not read in full: {len(statistics.problems):,} (see the warnings)")
