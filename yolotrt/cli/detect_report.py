"""What `yolotrt detect` shows while it runs and at its end."""

from __future__ import annotations

import abc
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import TextColumn
from rich.table import Table

from yolotrt.cli import interrupts, progress_bar
from yolotrt.cli.stderr_console import StderrConsole
from yolotrt.counting import Counts, CountStep
from yolotrt.errors import SourceError
from yolotrt.pipeline import Stream, StreamState, StreamStatus
from yolotrt.pipeline.statistics import STAGES, RunStatistics
from yolotrt.pipeline.stream import StreamOptions
from yolotrt.sources.base import SeveralSources, Source
from yolotrt.types import FrameResult

if TYPE_CHECKING:
    from typing_extensions import Self


Statuses = Callable[[], Sequence[StreamStatus]]


class Display(abc.ABC):
    """What a run shows while it goes on, on standard error; a context manager."""

    @abc.abstractmethod
    def follow(self, statuses: Statuses) -> None:
        """Take what gives the state of the streams."""

    @abc.abstractmethod
    def on_result(self, result: FrameResult) -> None:
        """A frame is through. Raises KeyboardInterrupt where one was asked for and got lost."""

    @abc.abstractmethod
    def on_problem(self, problem: SourceError) -> None:
        """Something is damaged, and the run goes on."""

    @abc.abstractmethod
    def on_state(self, status: StreamStatus, error: str) -> None:
        """The state of a stream has changed; `error` says why, if it is no good news."""

    def __enter__(self) -> Self:
        return self

    @abc.abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def display(streams: Sequence[Stream]) -> Display:
    """A bar for files that are read one after the other; a table of streams for several, or cameras."""
    if len(streams) == 1 and not streams[0].source.info.live:
        return _Bar(streams[0])
    return _StreamTable(streams)


def expected_frames(source: Source, options: StreamOptions) -> int | None:
    """How many frames of a file will be used; None where it does not say. What is damaged may give fewer."""
    if isinstance(source, SeveralSources):
        counts = [expected_frames(part, options) for part in source.parts if isinstance(part, Source)]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None
    info = source.info
    if info.frames is None or not info.moving:
        return info.frames
    count = math.ceil(info.frames / options.stride)
    if options.fps is None or not info.fps:
        return count
    return min(count, math.ceil(info.frames / info.fps * Fraction(options.fps)))


class _Bar(Display):
    def __init__(self, stream: Stream) -> None:
        total = expected_frames(stream.source, stream.options)
        self._bar = progress_bar.bar(TextColumn("{task.fields[rate]}"), hidden=total == 1)
        self._task = self._bar.add_task(escape(stream.name), total=total, rate="")

    def follow(self, statuses: Statuses) -> None:
        pass  # the bar shows all there is

    def on_result(self, result: FrameResult) -> None:  # noqa: ARG002
        interrupts.check()
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, advance=1, rate=f"{speed:,.0f} frames/s" if speed else "")

    def on_problem(self, problem: SourceError) -> None:
        progress_bar.warn(self._bar, problem)

    def on_state(self, status: StreamStatus, error: str) -> None:
        pass  # a file is read, or the error ends the run

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class _StreamTable(Display):
    """A table that is drawn twice a second on a terminal, and a line per change of a camera's state everywhere."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._live = {stream.name for stream in streams if stream.source.info.live}
        self._alone = len(streams) == 1
        self._console = StderrConsole()
        self._statuses: Statuses = tuple
        self._table = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
        )

    def follow(self, statuses: Statuses) -> None:
        self._statuses = statuses

    def on_result(self, result: FrameResult) -> None:  # noqa: ARG002
        interrupts.check()

    def on_problem(self, problem: SourceError) -> None:
        self._line(f"Warning: {problem}")

    def on_state(self, status: StreamStatus, error: str) -> None:
        if self._alone and status.state is StreamState.ENDED:
            return  # the error ends the run, which says so
        if error:
            self._line(f"Warning: {error}")
        elif status.state is StreamState.LIVE and status.name in self._live:
            self._line(f"{status.name}: live")

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._table.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.stop()

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _draw(self) -> Table:
        return stream_table(self._statuses(), running=True)


def stream_table(statuses: Sequence[StreamStatus], *, running: bool = False) -> Table:
    """A row per stream; `running` shows how it goes as well. Columns without any number in them are left out."""
    columns: dict[str, list[str]] = {
        "state": [_state(s, running=running) for s in statuses],
        "fps": [f"{s.frames_per_s:.1f}" if running else "" for s in statuses],
        "read": [f"{s.read:,}" for s in statuses],
        "processed": [f"{s.processed:,}" for s in statuses],
    }
    for name in ("dropped", "skipped", "failed", "corrupt", "reconnects"):
        columns[name] = [f"{getattr(s, name):,}" for s in statuses] if any(getattr(s, name) for s in statuses) else []
    columns["latency"] = [f"{s.latency_p95_s * 1e3:,.0f} ms" if s.latency_p95_s else "" for s in statuses]
    shown = {title: cells for title, cells in columns.items() if any(cells)}
    table = Table(box=SIMPLE, show_edge=False, padding=0)
    table.add_column("stream", overflow="fold", min_width=10)
    for title in shown:
        table.add_column(title, justify="left" if title == "state" else "right", no_wrap=True)
    for status, *cells in zip(statuses, *shown.values(), strict=True):
        table.add_row(escape(status.name), *cells)
    return table


def _state(status: StreamStatus, *, running: bool) -> str:
    """Of one that is over, also whether anything came of it: a refused password ends like a file does."""
    nothing = not running and not status.read and status.last_error
    return f"{status.state.value}, nothing read" if nothing else status.state.value


def counts_of(streams: Sequence[Stream]) -> dict[str, Counts]:
    """What was counted so far, by the names of those streams that count."""
    steps = ((stream.name, step) for stream in streams for step in stream.steps)
    return {name: step.totals for name, step in steps if isinstance(step, CountStep) and step.totals is not None}


def _count_lines(counts: Mapping[str, Counts]) -> Iterator[str]:
    """`gate, line entrance: in 2 car, 1 bus; out none`."""

    def listed(by_class: Mapping[str, int]) -> str:
        return ", ".join(f"{count:,} {name}" for name, count in by_class.items()) or "none"

    for stream, found in counts.items():
        for line in found.lines:
            yield f"{stream}, line {line.name}: in {listed(line.entered)}; out {listed(line.left)}"
        for zone in found.zones:
            passed = f"in {listed(zone.entered)}; out {listed(zone.left)}"
            yield f"{stream}, zone {zone.name}: {passed}; inside at the end {listed(zone.inside)}"


def _counted(names: Sequence[str]) -> str:
    """`7 x nvdec, pyav (the pictures are interlaced)`."""
    return ", ".join(f"{n:,} x {name}" if n > 1 else name for name, n in Counter(names).most_common())


def _written_lines(outputs: Sequence[Path]) -> Iterator[str]:
    """Files by their names if they are few, else by their folders; of crops only the folders are known."""
    folders = [path for path in outputs if path.is_dir()]
    files = [path for path in outputs if path not in folders]
    if 0 < len(files) <= 3:
        yield "Written: " + ", ".join(map(str, files))
    elif files:
        yield f"Written: {len(files):,} files in {_parents(files)}"
    if folders:
        classes = len({path.name for path in folders})
        yield f"Written: crops of {classes} class{'es' if classes > 1 else ''} in {_parents(folders)}"


def _parents(paths: Sequence[Path]) -> str:
    return ", ".join(sorted({str(path.parent) for path in paths}))


def print_summary(
    statistics: RunStatistics,
    outputs: list[Path],
    streams: Sequence[StreamStatus] = (),
    counts: Mapping[str, Counts] | None = None,
    *,
    decoders: Sequence[str] = (),
    to_stderr: bool,
) -> None:
    """The table of one run, of its streams, what was found, and what was written. Latency is the 95th percentile.

    `decoders` are those of all streams, as `StreamStatus` has them.
    """
    table = Table(box=SIMPLE, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("frames", f"{statistics.frames:,}")
    table.add_row("boxes", f"{statistics.boxes:,}")
    table.add_row("frames/s", f"{statistics.frames_per_s:,.1f}", end_section=True)
    for stage in STAGES:
        table.add_row("draw, write" if stage == "write" else stage, f"{statistics.ms_per_frame(stage):,.2f} ms/frame")
    console = StderrConsole() if to_stderr else Console()
    console.print(table)
    if streams:
        console.print(stream_table(streams), "")

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if any(decoder != "pyav" for decoder in decoders):
        line(f"Decoded by: {_counted(decoders)}")
    if statistics.classes:
        line("Found: " + ", ".join(f"{count:,} {name}" for name, count in statistics.classes.most_common()))
    for text in _count_lines(counts or {}):
        line(text)
    for text in _written_lines(outputs):
        line(text)
    if statistics.problems:
        line(f"Not read in full: {len(statistics.problems):,} (see the warnings)")
