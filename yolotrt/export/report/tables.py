"""Tables for people: headings with a scope, numbers to the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from yolotrt.export.report.markup import Child, Node, add, node
from yolotrt.export.report.style import NUMBER, TABLE, TEXT


def table(headings: Sequence[str], rows: Iterable[Node], *, caption: str, text_columns: int = 1) -> Node:
    """A table of data.

    Args:
        headings: of the columns.
        rows: from `row`.
        caption: what the table is; for screen readers, as a heading stands above it.
        text_columns: so many columns from the left hold text.
    """
    cells = [
        node("th", h, scope="col", style=TEXT if i < text_columns else NUMBER) for i, h in enumerate(headings)
    ]  # fmt: skip
    return node(
        "table", node("thead", node("tr", *cells)), node("tbody", *rows), class_="data", style=TABLE, aria_label=caption
    )


def row(name: Sequence[Child], *numbers: Child | Sequence[Child], class_: str = "") -> Node:
    """A row: what it is about, then its numbers."""
    cells = [node("td", *([n] if isinstance(n, str | Node) or n is None else n), style=NUMBER) for n in numbers]
    made = node("tr", node("th", *name, scope="row", style=TEXT), *cells)
    if class_:
        made.set("class", class_)
    return made


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
