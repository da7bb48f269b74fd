"""HTML as a tree of the standard library: whatever text goes in is escaped, and every tag is closed."""

from __future__ import annotations

import re
from typing import TypeAlias
from xml.etree import ElementTree as ET

Node: TypeAlias = ET.Element
Child: TypeAlias = "Node | str | None"

_LINES = frozenset({
    "caption", "details", "div", "figure", "h1", "h2", "head", "li", "meta", "p", "section", "style", "summary",
    "table", "tbody", "thead", "title", "tr", "ul", "ol", "img", "svg", "g", "line", "text",
})  # fmt: skip
_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def node(tag: str, /, *children: Child, **attributes: str) -> Node:
    """An element. None among the children is left out; a trailing underscore of a name falls, others become hyphens."""
    made = ET.Element(tag, {k.rstrip("_").replace("_", "-"): clean(v) for k, v in attributes.items()})
    add(made, *children)
    return made


def add(parent: Node, *children: Child) -> None:
    """Append elements and text to an element."""
    for child in children:
        if isinstance(child, str):
            if len(parent):
                parent[-1].tail = (parent[-1].tail or "") + clean(child)
            else:
                parent.text = (parent.text or "") + clean(child)
        elif child is not None:
            parent.append(child)


def clean(text: str) -> str:
    """Without what HTML cannot hold: control characters, and the halves of characters that odd file names have."""
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


def render(root: Node) -> str:
    """The page as text, with a line per block, so that it can be read and compared."""
    for element in root.iter():
        if element.tag in _LINES and not element.tail:
            element.tail = "\n"
    return "<!doctype html>\n" + ET.tostring(root, encoding="unicode", method="html")
