"""A diagnosis for people: a table, or plain lines where the package that draws tables is what is missing."""

from __future__ import annotations

from yolotrt.diagnosis.report import Diagnosis

_COLOURS = {"ok": "green", "absent": "dim", "missing": "yellow", "broken": "red"}


def show(diagnosis: Diagnosis) -> None:
    """Print a diagnosis."""
    try:
        _table(diagnosis)
    except ImportError:
        for check in diagnosis.checks:
            remedy = f" -> {check.remedy}" if check.remedy else ""
            print(f"{check.section} | {check.name} | {check.status} | {check.detail}{remedy}")
        print(diagnosis.conclusion)


def _table(diagnosis: Diagnosis) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    section = ""
    for check in diagnosis.checks:
        if check.section != section:
            section = check.section
            table.add_row(f"[bold]{escape(section)}[/]")
        remedy = f"\n[cyan]-> {escape(check.remedy)}[/]" if check.remedy else ""
        colour = _COLOURS[check.status]
        table.add_row(f"  {escape(check.name)}", f"[{colour}]{check.status}[/]", escape(check.detail) + remedy)
    console.print(table)
    console.print(f"[bold {'green' if diagnosis.can_run else 'red'}]{escape(diagnosis.conclusion)}[/]")
