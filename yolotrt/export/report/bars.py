"""Bars as tables: cells with a width and a colour, which every mail program shows.

A bar never stands alone: its number is beside it as text, so it is hidden from screen readers.
"""

from __future__ import annotations

from collections.abc import Iterable

from yolotrt.export.gate.proof import Version
from yolotrt.export.report.markup import Node, node
from yolotrt.export.report.style import COLOURS
from yolotrt.export.report.words import by_size

_SMALLEST = 0.6
"""Per cent of the width: what is there is seen."""


def bar(parts: Iterable[tuple[float, str]], *, height: int = 10) -> Node:
    """Parts from the left, as (share 0..1, colour); what they leave is the track."""
    cells = [_cell(max(share * 100, _SMALLEST), height, colour) for share, colour in parts if share > 0]
    rest = 100 - sum(width for _, width in cells)
    row = node("tr", *(cell for cell, _ in cells), _cell(rest, height, None)[0] if rest > 0.05 else None)
    style = "border-collapse:collapse;width:100%;table-layout:fixed"
    return node("table", node("tbody", row), role="presentation", aria_hidden="true", style=style)


def shares_bar(version: Version, *, height: int = 10) -> Node:
    """How much of a version's arithmetic is in each precision."""
    return bar(((share, COLOURS[precision]) for precision, share in by_size(version.shares)), height=height)


def swatch(colour: str) -> Node:
    """A small square of a colour, for legends."""
    style = f"display:inline-block;width:11px;height:11px;margin-right:6px;background-color:{colour}"
    return node("span", style=style, aria_hidden="true")


def _cell(width: float, height: int, colour: str | None) -> tuple[Node, float]:
    style = f"width:{width:.2f}%;height:{height}px;padding:0;font-size:0;line-height:0"
    if colour:
        return node("td", style=f"{style};background-color:{colour}"), width
    return node("td", style=style, class_="track"), width
