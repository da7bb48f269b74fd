"""What was counted up to one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Pixels: TypeAlias = tuple[float, float]
"""x, y in pixels of the source picture."""

ByClass: TypeAlias = Mapping[str, int]
"""Objects by class name; classes without any are left out."""


@dataclass(frozen=True, kw_only=True)
class LineCount:
    """Crossings of one line. Seen from `start` to `end`, `entered` went from the right to the left."""

    name: str
    start: Pixels
    end: Pixels
    entered: ByClass
    left: ByClass


@dataclass(frozen=True, kw_only=True)
class ZoneCount:
    """Visits to one zone: the objects `inside` in this frame, and those that were seen to enter and to leave."""

    name: str
    corners: tuple[Pixels, ...]
    inside: ByClass
    entered: ByClass
    left: ByClass


@dataclass(frozen=True, kw_only=True)
class Counts:
    """All lines and zones of one stream, in the order they were given."""

    lines: tuple[LineCount, ...] = ()
    zones: tuple[ZoneCount, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: `{"lines": {NAME: {"in", "out"}}, "zones": {NAME: {"inside", "in", "out"}}}`, each by class."""
        return {
            "lines": {line.name: {"in": dict(line.entered), "out": dict(line.left)} for line in self.lines},
            "zones": {
                zone.name: {"inside": dict(zone.inside), "in": dict(zone.entered), "out": dict(zone.left)}
                for zone in self.zones
            },
        }
