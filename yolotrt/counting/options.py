"""Lines and zones as a user writes them down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from yolotrt.counting.counts import Pixels
from yolotrt.errors import ConfigError
from yolotrt.options import check_keys

Anchor = Literal["bottom", "center"]


@dataclass(frozen=True, kw_only=True)
class CountOptions:
    """What is counted.

    Points are x, y in pixels of the source picture, or in fractions of its width and height if no number of a line or
    zone is above 1.

    Attributes:
        lines: by name, two points each. Seen from the first to the second, "in" is from the right to the left: upward
            for a line that is drawn from the left to the right.
        zones: by name, three or more corners each.
        anchor: the point of a box that counts: the middle of its lower edge, where things stand on the ground, or its
            centre.
    """

    lines: Mapping[str, tuple[Pixels, ...]] = field(default_factory=dict)
    zones: Mapping[str, tuple[Pixels, ...]] = field(default_factory=dict)
    anchor: Anchor = "bottom"

    def __post_init__(self) -> None:
        if self.anchor not in get_args(Anchor):
            raise ConfigError("option anchor is unknown", got=repr(self.anchor), expected=" | ".join(get_args(Anchor)))
        if not self.lines and not self.zones:
            raise ConfigError("nothing to count", expected="lines or zones")
        object.__setattr__(self, "lines", _regions("line", self.lines))
        object.__setattr__(self, "zones", _regions("zone", self.zones))

    @classmethod
    def from_config(cls, data: Any, *, where: str) -> CountOptions:
        """From the mapping that stands under `counting` in a YAML file.

        Raises ConfigError for unknown keys, and for what is no line or zone; `where` names the file in it.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(f"{where}: counting is no mapping", got=repr(data), expected="lines, zones, anchor")
        check_keys(cls, data, where=f"{where}: counting")
        try:
            return cls(**{key: value for key, value in data.items() if value is not None})
        except ConfigError as e:
            raise ConfigError(f"{where}: counting: {e}") from e


def _regions(kind: str, regions: Any) -> dict[str, tuple[Pixels, ...]]:
    if not isinstance(regions, Mapping):
        raise ConfigError(f"{kind}s are no mapping", got=repr(regions), expected="NAME: [[x, y], ...]")
    return {str(name): _points(kind, str(name), points) for name, points in regions.items()}


def _points(kind: str, name: str, points: Any) -> tuple[Pixels, ...]:
    expected = "two points [[x, y], [x, y]]" if kind == "line" else "three or more corners [[x, y], ...]"
    if not isinstance(points, Sequence) or not all(map(_is_point, points)):
        raise ConfigError(f"{kind} {name!r} has wrong points", got=repr(points), expected=expected)
    found = tuple((float(x), float(y)) for x, y in points)
    if len(found) != 2 if kind == "line" else len(found) < 3:
        raise ConfigError(f"{kind} {name!r} has {len(found)} points", expected=expected)
    if len(set(found)) < (2 if kind == "line" else 3):
        raise ConfigError(f"{kind} {name!r} has the same point twice", got=repr(points), expected=expected)
    return found


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, Sequence)
        and len(point) == 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) and v >= 0 for v in point)
    )
