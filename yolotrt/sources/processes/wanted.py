"""What is to be read."""

from __future__ import annotations

from typing import NamedTuple

from yolotrt.sources.base import Source
from yolotrt.sources.selection import Selection


class Wanted(NamedTuple):
    """A source, and which of its frames."""

    source: Source
    selection: Selection
