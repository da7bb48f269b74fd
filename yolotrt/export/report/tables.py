"""Tables for people: headings with a scope, numbers to the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from yolotrt.export.report.markup import Child, Node, add, node
from yolotrt.export.report.style import NUMBER, TABLE, TEXT


def table(headings: Sequence[str], rows: Iterable[Node], *, caption: str) -> Node:
    """A table of data.

    Args:
        headings: of the columns; all but the first hold numbers.
        rows: from `row`.
        caption: what the table is; for screen readers, as a heading stands above it.
    """
    cells = [node("th", heading, scope="col", style=NUMBER if i else TEXT) for i, heading in enumerate(headings)]
    head, body = node("thead", node("tr", *cells)), node("tbody", *rows)
    return node("table", head, body, class_="data", style=TABLE, aria_label=caption)


def row(name: Sequence[Child], *numbers: Child) -> Node:
    """A row: what it is about, then its numbers."""
    cells = (node("td", number, style=NUMBER) for number in numbers)
    return node("tr", node("th", *name, scope="row", style=TEXT), *cells)


def facts(pairs: Iterable[tuple[str, Child]], *, caption: str) -> Node:
    """A table of two columns: what, and its value. Pairs without a value are left out."""
    body = node("tbody")
    for name, value in pairs:
        if value is not None:
            add(
                body,
                node("tr", node("th", name, scope="row", style=f"{TEXT};width:34%"), node("td", value, style=TEXT)),
            )
    return node("table", body, class_="data", style=TABLE, aria_label=caption)


def folded(summary: str, *content: Node) -> Node:
    """Content that opens on a click; mail programs that do not know it show all of it."""
    return node("details", node("summary", summary), *content)
