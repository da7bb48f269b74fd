"""Names that are taken once."""

from __future__ import annotations


def unique(name: str, taken: set[str]) -> str:
    """The name, or with `-2`, `-3`, ... behind it where it is taken; adds it to `taken`."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free
