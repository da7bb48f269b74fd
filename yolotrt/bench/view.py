"""A measurement as tables: for a terminal, or as markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from yolotrt.bench.report import BenchResult
from yolotrt.bench.stages import ENGINE, ENGINE_ON_DEVICE, STREAM
from yolotrt.bench.start import Start
from yolotrt.bench.timing import Summary
from yolotrt.bench.versus import Race

_HEADING = 10  # letters of a heading before it is broken


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One table: the first column is text, the others are figures. `said` stands below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    said: Sequence[str] = ()


def grids(found: BenchResult) -> list[Grid]:
    """All tables of a measurement."""
    tables = []
    if found.parts:
        tables.append(_parts(found))
    if found.starts:
        tables.append(_starts(found.starts, found.first_starts))
    if found.peak_mib is not None or found.device_mib is not None:
        tables.append(_memory(found))
    tables += [race_grid(race) for race in found.races]
    if found.scenarios:
        tables.append(_scenarios(found))
    return tables


def facts(found: BenchResult) -> Iterator[str]:
    """Lines above the tables."""
    threads = f", {found.threads} threads" if found.threads else ""
    yield f"{found.model} in {found.info}{threads}"
    yield str(found.machine)
    yield f"Load while it was measured: {found.load}"


def warnings(found: BenchResult) -> Iterator[str]:
    """What spoils the figures."""
    if found.load.busy:
        yield f"the machine was busy ({found.load}): the figures are too slow, and noisy"


def remarks(found: BenchResult) -> Iterator[str]:
    """Lines below the tables."""
    if found.roof is not None:
        yield f"Roofline: {found.roof}"
    if found.around_engine_ms is not None:
        yield f"Around the engine: {found.around_engine_ms:.3f} ms (medians: host to boxes minus the engine alone)"
    for note in found.notes:
        yield f"Note: {note}"


def show(found: BenchResult, console: Console) -> None:
    """Print a measurement."""

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for text in facts(found):
        line(text)
    for grid in grids(found):
        show_grid(grid, console)
        for text in grid.said:
            line(text)
    for text in remarks(found):
        line(text)


def show_grid(grid: Grid, console: Console) -> None:
    """Print one table."""
    table = Table(box=SIMPLE, pad_edge=False, title=escape(grid.title), title_justify="left", title_style="bold")
    table.add_column(grid.columns[0], overflow="fold")
    for i, name in enumerate(grid.columns[1:], start=1):
        # Where the terminal is narrow the names are broken, never the figures.
        width = max((len(row[i]) for row in grid.rows), default=0)
        heading = "\n".join(textwrap.wrap(name, max(width, _HEADING)))
        table.add_column(heading, justify="right", no_wrap=True, min_width=width)
    for row in grid.rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def markdown(found: BenchResult) -> str:
    """A measurement as markdown."""
    parts = ["\n\n".join(facts(found)), *(f"**Warning:** {text}" for text in warnings(found))]
    for grid in grids(found):
        parts += [
            f"### {grid.title}",
            markdown_grid(grid),
            *(["\n".join(f"- {s}" for s in grid.said)] * bool(grid.said)),
        ]
    parts += list(remarks(found))
    return "\n\n".join(parts) + "\n"


def markdown_grid(grid: Grid) -> str:
    """One table as markdown."""
    rows = [grid.columns, ["---"] * len(grid.columns), *grid.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def race_grid(race: Race) -> Grid:
    """A comparison: medians in milliseconds, and the ratios below."""
    said = [f"{what}: {ratio}" for what, ratio in race.ratios().items()]
    found = {name: race.milliseconds(name) for name in race.rows}
    if race.case.stream:
        return Grid(
            title=f"{race.case.title} (ms per picture, files to boxes, reading ahead)",
            columns=("", "per picture", "10 to 90 % of the passes"),
            rows=[(name, _ms(ms["whole call"]), f"{ms['p10']:.1f} to {ms['p90']:.1f}") for name, ms in found.items()],
            said=said,
        )
    parts = ("before", "inference", "after", "whole call", "around the inference")
    return Grid(
        title=f"{race.case.title} (ms, medians)",
        columns=("", *parts, "10 to 90 % of whole calls"),
        rows=[
            (name, *(_ms(ms[part]) for part in parts), f"{ms['p10']:.1f} to {ms['p90']:.1f}")
            for name, ms in found.items()
        ],
        said=said,
    )


def _parts(found: BenchResult) -> Grid:
    rows = []
    for name, summary in found.parts.items():
        pictures = found.batch if name in (ENGINE, ENGINE_ON_DEVICE) else 1
        batched = name in (ENGINE, ENGINE_ON_DEVICE, STREAM) and found.batch > 1
        sized = f", batch {found.batch}" if batched else ""
        rate = f"{1e3 * pictures / summary.p50:,.1f}" if ": " not in name else ""
        of = ", per picture" if name == STREAM else ""
        rows.append((_indented(name) + sized + of, *_cells(summary), rate))
    sizes = ", ".join(f"{width} x {height}" for height, width in found.picture)
    return Grid(
        title=f"Time (ms), pictures of {sizes}",
        columns=("", "p50", "p90", "p99", "spread of p50", "calls", "pictures/s"),
        rows=rows,
    )


def _indented(name: str) -> str:
    _, within, part = name.partition(": ")
    return f"  {part}" if within else name


def _cells(summary: Summary) -> tuple[str, ...]:
    p99 = "-" if summary.p99 is None else _ms(summary.p99)
    spread = f"{_ms(summary.rounds[0])} to {_ms(summary.rounds[1])}"
    return _ms(summary.p50), _ms(summary.p90), p99, spread, f"{summary.runs:,}"


def _starts(starts: Sequence[Start], first: Sequence[Start]) -> Grid:
    rows = []
    names = ("whole", "python", "imports", "load", "first", "warm")
    titles = (
        "warm start: process to first boxes" if first else "process to first boxes",
        "  until Python runs",
        "  import of the detector",
        "  load",
        "  first picture to boxes",
        "a second detector of it, to boxes",
    )
    for name, title in zip(names, titles, strict=True):
        values = sorted(getattr(start, name) for start in starts)
        rows.append((title, *_spread(values)))
    if first:
        title = "cold start: the same with nothing kept on disk"
        rows.append((title, *_spread(sorted(start.whole for start in first))))
    return Grid(
        title=f"Start (s), {len(starts)} fresh processes", columns=("", "median", "lowest to highest"), rows=rows
    )


def _spread(values: Sequence[float]) -> tuple[str, str]:
    return f"{values[len(values) // 2]:.3f}", f"{values[0]:.3f} to {values[-1]:.3f}"


def _memory(found: BenchResult) -> Grid:
    rows = []
    if found.peak_mib is not None:
        rows.append(("of the process, until its first boxes", f"{found.peak_mib:,.0f}"))
    if found.device_mib is not None:
        rows.append(("of the GPU", f"{found.device_mib:,.0f}"))
    return Grid(title="Memory (MiB)", columns=("", "median"), rows=rows)


def _scenarios(found: BenchResult) -> Grid:
    rows = [(s.scenario, "yes" if s.valid else "NO", f"{s.figure:,.2f}", s.unit) for s in found.scenarios]
    said = [
        f"{s.scenario} is not valid: {'; '.join(s.reasons) or 'see its summary'}"
        for s in found.scenarios
        if not s.valid
    ]
    return Grid(
        title="MLPerf LoadGen",
        columns=("scenario", "valid", "result", "unit"),
        rows=rows,
        said=[*said, *(f"{s.scenario}: {s.files[0]}" for s in found.scenarios if s.files)],
    )


def _ms(value: float) -> str:
    """Three to four digits."""
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
