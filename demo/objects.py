"""The class table: name, recipe, and where such an object belongs.

To add a class, write a recipe (`dice, phase, view` in, a `Sketch` out), add a row here and name it in the settings of
`scene`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from demo import living, things, vehicles
from demo.numeric import Dice
from demo.shapes import Sketch

Recipe = Callable[[Dice, float, str], Sketch]


@dataclass(frozen=True, slots=True)
class Kind:
    """One class: `on_road` keeps it on the carriageway, `biggest` is its largest share of the picture's height,
    `mirror` allows drawing it the other way round (not for what carries letters)."""

    name: str
    draw: Recipe
    on_road: bool = False
    biggest: float = 0.62
    mirror: bool = True


KINDS: tuple[Kind, ...] = (
    Kind("person", living.person, biggest=0.85),
    Kind("bicycle", vehicles.bicycle, biggest=0.6),
    Kind("car", vehicles.car, on_road=True, biggest=0.55),
    Kind("bus", vehicles.bus, on_road=True, biggest=0.6),
    Kind("truck", vehicles.truck, on_road=True, biggest=0.6),
    Kind("traffic light", things.traffic_light, biggest=0.8),
    Kind("stop sign", things.stop_sign, biggest=0.9, mirror=False),
    Kind("bird", living.bird, biggest=0.16),
    Kind("dog", living.dog, biggest=0.5),
    Kind("sports ball", things.sports_ball, biggest=0.3),
    Kind("chair", things.chair, biggest=0.6),
    Kind("potted plant", things.potted_plant, biggest=0.6),
)
NAMES: tuple[str, ...] = tuple(kind.name for kind in KINDS)
