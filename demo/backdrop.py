"""Six kinds of places to put objects in: street, crossroad, park, room, yard and beach.

A backdrop is made once for a camera `View`; it also tells `scene` where vehicles may stand and how light falls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from demo.ground import (
    Ground,
    View,
    bars,
    bricks,
    facade,
    flat,
    foliage,
    ground_of,
    mix,
    paving,
    planks,
    scaled,
    sky,
    speckle,
    strip,
    textured,
)
from demo.numeric import F32, Dice, fractal, ramp
from demo.shapes import Color, shade
from demo.sprite import Light

_GRASS: tuple[Color, ...] = ((96, 140, 60), (120, 150, 70), (76, 120, 56), (150, 156, 90))
_STONE: tuple[Color, ...] = ((176, 170, 160), (150, 148, 146), (196, 180, 156), (168, 150, 136))
_TREES: tuple[Color, ...] = ((70, 120, 54), (96, 136, 60), (54, 96, 60), (170, 130, 60))


@dataclass(frozen=True, slots=True)
class Road:
    """Where vehicles may stand: `across` runs sideways between two distances, else it runs away from the viewer."""

    across: bool
    centre: float
    half: float
    near: float
    far: float


@dataclass(frozen=True, slots=True)
class Backdrop:
    """The empty place: pixels [h, w, 3] (RGB, 0 to 255), its light, and its road, if any.

    Nothing may stand farther away than `depth` metres: there is a wall, a hedge or the sea.
    """

    pixels: F32
    light: Light
    road: Road | None
    outdoor: bool
    depth: float


def _outdoor_light(dice: Dice, haze: Color) -> Light:
    warm = dice.between(-0.05, 0.07)
    level = dice.between(0.92, 1.08)
    tint = (level * (1 + warm), level, level * (1 - warm))
    return Light(dice.pick((-1.0, 1.0)), dice.between(0.25, 1.0), tint, haze)


def _skyline(picture: F32, dice: Dice, view: View, base: int, haze: Color, fade: float) -> F32:
    """House fronts or trees standing on row `base`."""
    storey = (
        max(9.0, 3.2 * (base - view.horizon) / view.eye)
        if base > view.horizon + 4
        else dice.between(0.022, 0.058) * view.height
    )
    x = -dice.integer(0, 60)
    while x < view.width:
        wide = int(storey * dice.between(2.2, 6.0)) + 8
        tall = int(storey * (dice.integer(2, 6) + 0.2))
        top = max(0, base - tall)
        x0, x1 = max(0, x), min(view.width, x + wide)
        if x1 > x0 and base > top and dice.chance(0.86):
            front = facade(dice.child(x + 1000), tall, wide, storey)[tall - (base - top) :, x0 - x : x1 - x]
            picture[top:base, x0:x1] = front + (flat(haze) - front) * np.float32(fade)
        x += wide + (dice.integer(4, 40) if dice.chance(0.15) else 0)
    return picture


def _treeline(picture: F32, dice: Dice, view: View, base: int, height: int, fade: float, haze: Color) -> F32:
    top = max(0, base - height)
    if base - top < 8:
        return picture
    tone, opacity = foliage(dice, base - top, view.width, dice.pick(_TREES))
    tone = tone + (flat(haze) - tone) * np.float32(fade)
    picture[top:base] = mix(picture[top:base], tone, opacity)
    return picture


def _asphalt(ground: Ground, dice: Dice) -> F32:
    grey = dice.between(92, 136)
    return textured(ground, dice, (grey, grey, grey * 1.03), (grey * 0.92, grey * 0.92, grey * 0.95), 0.4)


def _verge(ground: Ground, dice: Dice) -> F32:
    if dice.chance(0.5):
        color = dice.pick(_GRASS)
        return textured(ground, dice.child(1), color, shade(color, 0.78), 0.6)
    return paving(ground, dice.child(1), dice.pick(_STONE), dice.between(0.4, 0.9))


def _street(dice: Dice, view: View) -> Backdrop:
    """A road that runs away from the viewer."""
    picture, haze = _open_sky(dice, view)
    ground = ground_of(view)
    road = Road(across=False, centre=dice.between(-2.5, 2.5), half=dice.between(3.2, 5.5), near=2.0, far=80.0)
    surface = _verge(ground, dice.child(2))
    x = ground.x - np.float32(road.centre)
    surface = mix(
        surface, paving(ground, dice.child(3), dice.pick(_STONE), 0.6), strip(x, road.half + 2.2, ground.pixel)
    )
    surface = mix(surface, (196, 194, 188), strip(x, road.half + 0.18, ground.pixel))
    surface = mix(surface, _asphalt(ground, dice.child(4)), strip(x, road.half, ground.pixel))
    dash = bars(ground.z, 4.0, 0.5, ground.pixel * ground.z * np.float32(1 / view.eye))
    line = (232, 230, 220) if dice.chance(0.7) else (226, 190, 70)
    surface = mix(surface, line, strip(x, 0.07, ground.pixel) * dash * np.float32(0.85))
    for side in (-1, 1):
        surface = mix(
            surface, (226, 226, 220), strip(x + np.float32(side * (road.half - 0.25)), 0.05, ground.pixel) * 0.7
        )
    depth = dice.between(60, 90)
    far = int(view.row_of(depth))
    if dice.chance(0.7):
        picture = _skyline(picture, dice.child(5), view, far, haze, dice.between(0.1, 0.35))
    if dice.chance(0.6):
        height = int(view.height * dice.between(0.06, 0.2))
        picture = _treeline(picture, dice.child(6), view, far, height, dice.between(0.05, 0.3), haze)
    return Backdrop(
        _lay_from(picture, ground, surface, far), _outdoor_light(dice.child(7), haze), road, outdoor=True, depth=depth
    )


def _lay_from(picture: F32, ground: Ground, surface: F32, base: int) -> F32:
    """Put the ground below the horizon, behind what stands on row `base`."""
    start = max(base, ground.top)
    picture[start:] = surface[start - ground.top :]
    return picture


def _open_sky(dice: Dice, view: View) -> tuple[F32, Color]:
    rows, haze = sky(dice.child(1), max(view.horizon + 2, 8), view.width)
    picture = np.empty((view.height, view.width, 3), np.float32)
    picture[:] = flat(haze)
    picture[: rows.shape[0]] = rows[: view.height]
    return picture, haze


def _crossroad(dice: Dice, view: View) -> Backdrop:
    """A road that runs from side to side, houses or trees behind it."""
    picture, haze = _open_sky(dice, view)
    ground = ground_of(view)
    near, wide = dice.between(3.0, 6.0), dice.between(6.0, 10.0)
    road = Road(across=True, centre=0.0, half=0.0, near=near, far=near + wide)
    surface = _verge(ground, dice.child(2))
    z = ground.z + np.zeros_like(ground.x)
    deep = ground.pixel * ground.z * np.float32(1 / view.eye)
    middle = np.float32(near + wide / 2)
    surface = mix(surface, (192, 190, 184), strip(z - middle, wide / 2 + 0.25, deep))
    surface = mix(surface, _asphalt(ground, dice.child(3)), strip(z - middle, wide / 2, deep))
    dash = bars(ground.x, 4.0, 0.55, ground.pixel)
    surface = mix(surface, (232, 230, 220), strip(z - middle, 0.08, deep) * dash * np.float32(0.85))
    if dice.chance(0.35):
        bar = bars(ground.x, 1.1, 0.5, ground.pixel)
        zebra = strip(ground.x - np.float32(dice.between(-4, 4)), 1.8, ground.pixel) * strip(
            z - middle, wide / 2 - 0.3, deep
        )
        surface = mix(surface, (230, 230, 224), zebra * bar * np.float32(0.85))
    depth = near + wide + dice.between(2.5, 6.0)
    base = int(view.row_of(depth))
    if dice.chance(0.75):
        picture = _skyline(picture, dice.child(4), view, base, haze, dice.between(0.0, 0.15))
    else:
        picture = _treeline(picture, dice.child(5), view, base, int(view.height * dice.between(0.2, 0.4)), 0.1, haze)
    return Backdrop(
        _lay_from(picture, ground, surface, base), _outdoor_light(dice.child(6), haze), road, outdoor=True, depth=depth
    )


def _park(dice: Dice, view: View) -> Backdrop:
    """Grass with a path, trees behind."""
    picture, haze = _open_sky(dice, view)
    ground = ground_of(view)
    color = dice.pick(_GRASS)
    surface = textured(ground, dice.child(2), color, shade(color, 0.78), 0.6)
    if dice.chance(0.7):
        bend, slope = dice.between(-0.012, 0.012), dice.between(-0.25, 0.25)
        x = (
            ground.x
            - np.float32(dice.between(-2, 2))
            - ground.z * np.float32(slope)
            - ground.z * ground.z * np.float32(bend)
        )
        gravel = textured(ground, dice.child(3), (206, 188, 156), (186, 166, 136), 0.5)
        surface = mix(surface, gravel, strip(x, dice.between(0.8, 1.8), ground.pixel * 2))
    depth = dice.between(25, 60)
    far = int(view.row_of(depth))
    picture = _treeline(picture, dice.child(4), view, far, int(view.height * dice.between(0.15, 0.4)), 0.25, haze)
    picture = _treeline(picture, dice.child(5), view, far, int(view.height * dice.between(0.08, 0.25)), 0.08, haze)
    return Backdrop(
        _lay_from(picture, ground, surface, far), _outdoor_light(dice.child(6), haze), None, outdoor=True, depth=depth
    )


def _beach(dice: Dice, view: View) -> Backdrop:
    """Sand, foam and sea."""
    picture, haze = _open_sky(dice, view)
    ground = ground_of(view)
    sea = dice.pick(((50, 110, 140), (60, 140, 160), (70, 96, 116)))
    waves = fractal(dice.child(2), ground.x.shape[0], view.width, 12, 5, 9.0)
    water = mix(flat(sea), shade(sea, 1.5), ramp(waves, 0.3, 0.85))
    sand = textured(ground, dice.child(3), (222, 200, 160), (206, 182, 140), 0.45)
    depth = dice.between(9, 18)
    shore = np.float32(depth + 1.5) + speckle(ground, dice.child(4), 0.08, 12) * np.float32(3)
    away = ground.z - shore
    sand = mix(sand, (170, 146, 112), ramp(np.asarray(away, np.float32), -2.5, -0.8) * np.float32(0.6))
    surface = mix(sand, np.asarray(water, np.float32), ramp(np.asarray(away, np.float32), 0.0, 0.6))
    surface = mix(
        surface, (246, 248, 248), strip(np.asarray(away, np.float32), 0.35, ground.pixel * 6) * np.float32(0.85)
    )
    return Backdrop(
        _lay_from(picture, ground, surface, 0), _outdoor_light(dice.child(5), haze), None, outdoor=True, depth=depth
    )


def _wall_distance(view: View, wanted: float) -> float:
    """Far enough that at least the lower quarter of the picture is floor."""
    return max(wanted, view.focal * view.eye / (0.74 * view.height - view.level))


def _indoor_light(dice: Dice) -> Light:
    warm = dice.between(-0.03, 0.12)
    return Light(dice.pick((-1.0, 1.0)), dice.between(0.1, 0.4), (1 + warm * 0.6, 1.0, 1 - warm), (200, 196, 190))


def _room(dice: Dice, view: View) -> Backdrop:
    """A room: wall, skirting board, pictures or a window, and a floor."""
    ground = ground_of(view)
    wall = dice.pick(
        ((226, 220, 206), (190, 206, 210), (214, 190, 160), (160, 180, 160), (236, 234, 230), (120, 140, 160))
    )
    depth = _wall_distance(view, dice.between(3.5, 6.0))
    base = max(8, int(view.row_of(depth)))
    level = 1 + (fractal(dice.child(1), base, view.width, 3, 3) - np.float32(0.5)) * np.float32(0.3)
    room = np.empty((view.height, view.width, 3), np.float32)
    room[:base] = scaled(flat(wall), level)
    if dice.chance(0.35):
        columns = np.arange(view.width, dtype=np.float32) * np.float32(1 / dice.integer(18, 46))
        stripes = np.asarray((np.floor(columns).astype(np.int32) & 1)[None, :], np.float32)
        room[:base] = mix(
            room[:base], shade(wall, 0.86), np.broadcast_to(stripes * np.float32(0.6), (base, view.width))
        )
    for i in range(dice.integer(1, 3)):
        _hang(room, dice.child(2, i), view, base)
    skirting = max(2, int((base - view.horizon) * 0.12 / view.eye))
    room[max(0, base - skirting) : base] = flat(shade(wall, 1.5)) * np.float32(0.96)
    floors: dict[str, Callable[[], F32]] = {
        "planks": lambda: planks(ground, dice.child(3), dice.pick(((176, 126, 80), (120, 80, 52), (206, 170, 126)))),
        "tiles": lambda: paving(
            ground, dice.child(3), dice.pick(((206, 200, 190), (150, 140, 130), (226, 224, 220))), 0.4
        ),
        "carpet": lambda: textured(ground, dice.child(3), (150, 140, 136), (130, 120, 118), 0.5),
    }
    surface = floors[dice.weighted({"planks": 4, "tiles": 2, "carpet": 1})]()
    if dice.chance(0.5):
        rug = dice.pick(((160, 60, 54), (60, 86, 120), (196, 180, 150), (90, 110, 90)))
        x, z = ground.x - np.float32(dice.between(-1, 1)), ground.z - np.float32(dice.between(2.2, 3.2))
        inside = strip(x, 1.3, ground.pixel) * strip(z + np.zeros_like(x), 0.7, ground.pixel * 2)
        rim = strip(x, 1.2, ground.pixel) * strip(z + np.zeros_like(x), 0.6, ground.pixel * 2)
        surface = mix(
            mix(surface, shade(rug, 1.3), inside), textured(ground, dice.child(4), rug, shade(rug, 0.8), 0.6), rim
        )
    return Backdrop(
        _lay_from(room, ground, surface, base), _indoor_light(dice.child(5)), None, outdoor=False, depth=depth
    )


def _hang(room: F32, dice: Dice, view: View, base: int) -> None:
    """A framed picture or a bright window on the wall above row `base`."""
    wide, tall = int(view.width * dice.between(0.08, 0.2)), int(base * dice.between(0.2, 0.5))
    x, y = dice.integer(0, max(1, view.width - wide)), int(base * dice.between(0.05, 0.35))
    if tall < 12 or wide < 12 or y + tall > base - 6:
        return
    frame = dice.pick(((240, 240, 236), (60, 44, 34), (170, 130, 80), (30, 30, 32)))
    rim = max(2, wide // 22)
    room[y : y + tall, x : x + wide] = flat(frame)
    inner, _ = sky(dice.child(1), tall - 2 * rim, wide - 2 * rim)
    if tall > 40 and dice.chance(0.5):
        tone, opacity = foliage(dice.child(2), tall - 2 * rim, wide - 2 * rim, dice.pick(_TREES))
        inner = mix(inner, tone, opacity)
    room[y + rim : y + tall - rim, x + rim : x + wide - rim] = inner
    room[y : y + tall, x + wide // 2 : x + wide // 2 + rim] = flat(frame)


def _yard(dice: Dice, view: View) -> Backdrop:
    """A brick wall behind paving."""
    ground = ground_of(view)
    depth = _wall_distance(view, dice.between(4.0, 8.0))
    base = max(8, int(view.row_of(depth)))
    picture = np.empty((view.height, view.width, 3), np.float32)
    course = max(4.0, 0.16 * (base - view.horizon) / view.eye)
    picture[:base] = bricks(dice.child(1), base, view.width, course)
    dirt = np.arange(base, dtype=np.float32) * np.float32(1 / base)
    picture[:base] *= (np.float32(1.05) - np.float32(0.3) * dirt * dirt)[:, None, None]
    surface = paving(ground, dice.child(2), dice.pick(_STONE), dice.between(0.3, 0.8), dice.between(0.6, 1.2))
    light = _outdoor_light(dice.child(3), (200, 200, 200))
    return Backdrop(_lay_from(picture, ground, surface, base), light, None, outdoor=True, depth=depth)


PLACES: dict[str, Callable[[Dice, View], Backdrop]] = {
    "street": _street,
    "crossroad": _crossroad,
    "park": _park,
    "beach": _beach,
    "room": _room,
    "yard": _yard,
}


def make_backdrop(place: str, dice: Dice, view: View) -> Backdrop:
    """The empty place named `place`, with uneven light over it."""
    backdrop = PLACES[place](dice, view)
    pool = fractal(dice.child(90), view.height, view.width, 2.5, 2)
    pixels = scaled(backdrop.pixels, np.float32(0.86) + np.float32(0.28) * pool)
    pixels = np.minimum(pixels * np.asarray(backdrop.light.tint, np.float32), np.float32(255))
    return Backdrop(np.asarray(pixels, np.float32), backdrop.light, backdrop.road, backdrop.outdoor, backdrop.depth)
