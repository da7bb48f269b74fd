"""From a key to a picture with labels: choose a place, put objects into it, draw them back to front.

A `Scene` is in units of the picture (metres, and shares of its width and height), so it can be drawn at any size; the
sample video moves its actors between frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from demo.backdrop import Backdrop, Road, make_backdrop
from demo.decor import DECOR
from demo.ground import View, scaled
from demo.numeric import F32, Dice, box_blur
from demo.objects import KINDS, NAMES
from demo.shapes import Sketch, coverage, ellipse
from demo.sprite import Sprite, render

MIN_VISIBLE = 0.25
"""An object that shows less than this share of its own outline gets no label."""
MIN_SIDE_PX = 6
"""A box narrower or lower than this, in pixels, gets no label."""

_SIZES = tuple(round(0.036 * 1.11**k, 4) for k in range(32))

_CASTS: dict[str, dict[str, float]] = {
    "street": {"car": 6, "bus": 6, "truck": 6, "person": 3, "traffic light": 2.2, "stop sign": 2, "bicycle": 1.5},
    "crossroad": {
        "car": 6,
        "bus": 5,
        "truck": 5,
        "person": 2.5,
        "traffic light": 2,
        "stop sign": 2,
        "bicycle": 2,
        "dog": 1,
    },
    "park": {"person": 4, "dog": 4, "sports ball": 4, "bicycle": 3, "bird": 4, "chair": 1, "potted plant": 1},
    "beach": {"person": 4, "dog": 3, "sports ball": 5, "bird": 5, "chair": 3, "bicycle": 1},
    "room": {"chair": 6, "potted plant": 5, "person": 2, "dog": 2.5, "sports ball": 2.5},
    "yard": {"potted plant": 4, "chair": 3, "bicycle": 3, "person": 2, "dog": 2, "bird": 3, "sports ball": 2.5},
}
_PLACES = {"street": 3.8, "crossroad": 3.8, "park": 1.8, "beach": 1.5, "room": 2.0, "yard": 1.5}
_DECOR: dict[str, tuple[str, ...]] = {
    "street": ("tree", "lamp", "tree", "bush"), "crossroad": ("tree", "lamp", "bush"), "park": ("tree", "bush", "tree"),
    "beach": ("parasol", "parasol"), "room": ("table", "lamp stand"), "yard": ("bush", "crate", "crate"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Actor:
    """One thing in the scene: `kind` is a class index, or -1 for unlabelled furniture named by `decor`.

    `x` is a share of the width, `foot` (the ground point) and `scale` (per metre) are shares of the height.
    """

    kind: int
    decor: str
    key: int
    x: float
    foot: float
    scale: float
    flip: bool
    view: str = ""
    phase: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A place, its camera in shares of the picture, and who is in it."""

    key: tuple[int, ...]
    place: str
    horizon: float
    eye: float
    focal: float
    actors: tuple[Actor, ...]

    def view(self, width: int, height: int) -> View:
        """The camera for one picture size."""
        level = self.horizon * height
        return View(width, height, int(level), self.eye, self.focal * max(width, height), level)


@dataclass(frozen=True, slots=True)
class Box:
    """One label: class index and the visible extent in pixels, right and bottom edges excluded."""

    kind: int
    x0: int
    y0: int
    x1: int
    y1: int


def sketch_of(scene_key: tuple[int, ...], actor: Actor) -> Sketch:
    """The drawing of one actor; the same actor always looks the same, whatever its phase."""
    dice = Dice(*scene_key, 7, actor.key)
    if actor.kind < 0:
        return DECOR[actor.decor](dice)
    return KINDS[actor.kind].draw(dice, actor.phase, actor.view)


def _on_road(dice: Dice, road: Road, focal: float, scale: float, name: str) -> tuple[float, float, str]:
    """(scale, metres beside the middle, view) that keep a vehicle on the carriageway."""
    ends = {"car": ("front", "rear"), "bus": ("front", "corner"), "truck": ("front", "corner")}[name]
    if road.across:
        nearest, farthest = focal / (road.near + 0.8), focal / (road.far - 0.6)
        if not farthest <= scale <= nearest and dice.chance(0.85):
            scale = farthest + (nearest - farthest) * dice.unit()
        return scale, 0.0, "side" if dice.chance(0.8) else dice.pick(("side", *ends))
    return scale, road.centre + dice.between(-0.75, 0.75) * road.half, dice.pick(ends) if dice.chance(0.8) else "side"


def _place_actor(dice: Dice, scene: Scene, hint: Backdrop, name: str, key: int, aspect: float) -> Actor | None:
    kind, road = NAMES.index(name), hint.road
    actor = Actor(
        kind, "", key, dice.between(-0.02, 1.02), 0.0, 1.0, dice.chance(0.5) and KINDS[kind].mirror, "", dice.unit()
    )
    if name == "bird":
        actor = replace(actor, view="flying" if dice.chance(0.6) else "standing")
    if name == "chair" and scene.place in ("beach", "park"):
        actor = replace(actor, view="wood")
    target = dice.pick(_SIZES)
    beside = None
    if road is not None and KINDS[kind].on_road:
        draft = replace(actor, view="side" if road.across else "front")
    else:
        draft = actor
    x0, y0, x1, y1 = sketch_of(scene.key, draft).extent(body_only=True)
    long_side = max(x1 - x0, y1 - y0)
    scale = min(
        target / long_side,
        1.6 * KINDS[kind].biggest / long_side,
        KINDS[kind].biggest / (y1 - y0),
        0.8 * aspect / (x1 - x0),
    )
    if road is not None and KINDS[kind].on_road:
        scale, beside, view = _on_road(dice, road, scene.focal * max(aspect, 1.0), scale, name)
        actor = replace(actor, view=view)
        scale = min(scale, 0.8 * aspect / (x1 - x0), KINDS[kind].biggest / (y1 - y0))
    if actor.view == "flying":
        return replace(actor, scale=scale, foot=dice.between(0.03, 1.0) * scene.horizon)
    scale = min(scale, (scene.horizon - 0.02) / max(y1 - scene.eye, 0.05))
    farthest = scene.focal * max(aspect, 1.0) / hint.depth
    scale = max(scale, farthest * dice.between(0.8, 1.1))
    floor = dice.between(0.86, 1.02)
    foot = min(scene.horizon + max(scale, farthest) * scene.eye, floor)
    scale = min(scale, 2.2 * (foot - scene.horizon) / scene.eye)
    if dice.chance(0.85):
        scale = min(scale, (foot - 0.02) / y1)
    if scale * long_side < 0.03:
        return None
    if beside is not None and not (road is not None and road.across):
        actor = replace(actor, x=0.5 + beside * scale / aspect)
        if not -0.05 < actor.x < 1.05:
            return None
    return replace(actor, scale=scale, foot=foot)


def _rough_box(scene: Scene, actor: Actor, aspect: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = sketch_of(scene.key, actor).extent(body_only=True)
    x0, x1 = (-x1, -x0) if actor.flip else (x0, x1)
    s = actor.scale
    return actor.x * aspect + x0 * s, actor.foot - y1 * s, actor.x * aspect + x1 * s, actor.foot - y0 * s


def _crowded(box: tuple[float, ...], others: list[tuple[float, float, float, float]]) -> bool:
    """Whether a box hides, or is hidden by, another one for the most part."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    for other in others:
        w = min(box[2], other[2]) - max(box[0], other[0])
        h = min(box[3], other[3]) - max(box[1], other[1])
        if w > 0 and h > 0:
            smaller = min(area, (other[2] - other[0]) * (other[3] - other[1]))
            if w * h > 0.5 * smaller:
                return True
    return False


def _hint_size(aspect: float) -> tuple[int, int]:
    """A tiny picture: enough to learn a place's road and depth."""
    return (64, max(24, int(64 / aspect))) if aspect >= 1 else (max(24, int(64 * aspect)), 64)


def compose(key: tuple[int, ...], aspect: float, place: str = "", count: int = 0) -> Scene:
    """Lay a scene out for pictures of `aspect` (width over height)."""
    dice = Dice(*key, 1)
    place = place or dice.weighted(_PLACES)
    eye = dice.pick((0.7, 1.1, 1.5, 1.6, 2.0, 2.8))
    horizon = dice.between(0.3, 0.52) if place != "room" else dice.between(0.34, 0.5)
    scene = Scene(key, place, horizon, eye, dice.between(0.75, 1.1), ())
    hint = make_backdrop(place, Dice(*key, 3), scene.view(*_hint_size(aspect)))
    wanted = count or dice.pick((1, 2, 3, 4, 4, 5, 6, 7, 8, 10, 12))
    actors: list[Actor] = []
    boxes: list[tuple[float, float, float, float]] = []
    for key_of in range(wanted * 3):
        if len(actors) >= wanted:
            break
        draw = dice.child(2, key_of)
        actor = _place_actor(draw, scene, hint, draw.weighted(_CASTS[place]), key_of, aspect)
        if actor is None:
            continue
        box = _rough_box(scene, actor, aspect)
        if _crowded(box, boxes) and not draw.chance(0.08):
            continue
        actors.append(actor)
        boxes.append(box)
    actors += [_furnish(dice.child(4, i), scene, i, hint, aspect) for i in range(dice.integer(0, 3))]
    return replace(scene, actors=tuple(sorted(actors, key=lambda a: a.foot)))


def _furnish(dice: Dice, scene: Scene, index: int, hint: Backdrop, aspect: float) -> Actor:
    """An unlabelled tree, lamp or table: beside or behind the road, mostly far away."""
    reach = min(hint.depth, 26.0)
    distance = reach * (dice.between(0.3, 1.0) if reach > 10 else dice.between(0.7, 0.98))
    x = dice.pick((dice.between(-0.05, 0.25), dice.between(0.75, 1.05), dice.between(0, 1)))
    if hint.road is not None and hint.road.across:
        distance = dice.between(hint.road.far + 0.6, hint.depth)
    scale = scene.focal * max(aspect, 1.0) / distance
    if hint.road is not None and not hint.road.across:
        beside = hint.road.half + dice.between(0.8, 7.0)
        x = 0.5 + (hint.road.centre + dice.pick((-beside, beside))) * scale / aspect
    foot = min(scene.horizon + scale * scene.eye, 0.97)
    return Actor(-1, dice.pick(_DECOR[scene.place]), 1000 + index, x, foot, scale, dice.chance(0.5))


def _window(
    frame: tuple[int, ...], top: int, left: int, shape: tuple[int, ...]
) -> tuple[slice, slice, slice, slice] | None:
    """The overlap of a patch with the picture, as slices of the picture and of the patch."""
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + shape[0], frame[0]), min(left + shape[1], frame[1])
    if y0 >= y1 or x0 >= x1:
        return None
    return slice(y0, y1), slice(x0, x1), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def _darken(frame: F32, shadow: F32, top: int, left: int, strength: float) -> None:
    window = _window(frame.shape, top, left, shadow.shape)
    if window is not None:
        fy, fx, sy, sx = window
        frame[fy, fx] = scaled(frame[fy, fx], 1 - shadow[sy, sx] * np.float32(strength))


def _ground_shadow(frame: F32, sprite: Sprite, foot: float, place: Backdrop, back_row: int) -> None:
    """Contact shadow under the object and, outdoors, the slanted shadow of its outline, up to `back_row`."""
    light = place.light
    height, width = sprite.alpha.shape
    columns = np.nonzero((sprite.alpha[max(0, height - 3 - height // 6) :] > 0.4).any(axis=0))[0]
    if columns.size == 0:
        return
    c0, c1 = float(columns[0]), float(columns[-1])
    half = (c1 - c0) / 2 + 2
    deep = max(2.0, min(half * 0.22, height * 0.12))
    pad = int(deep) + 4
    patch: F32 = np.zeros((2 * pad, int(2 * half) + 2 * pad), np.float32)
    covered = coverage(np.asarray(ellipse(patch.shape[1] / 2, pad, half * 1.05, deep), np.float64), *patch.shape)
    if covered is not None:
        top, left, mask = covered
        patch[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    radius = max(1, int(deep / 2))
    patch = box_blur(patch, radius, radius, 4096)
    _darken(frame, patch, int(foot) - pad, int(sprite.left + (c0 + c1) / 2 - patch.shape[1] / 2), 0.55)
    if place.outdoor and light.hardness > 0.3:
        cast_height = max(2, int(height * 0.26))
        rows = np.arange(cast_height)
        source = np.minimum(height - 1 - (rows * height) // cast_height, height - 1)
        slant = (rows * -int(light.side * 256 * 1.1)) >> 8
        reach = abs(int(slant[-1])) + 6
        index = np.arange(width + 2 * reach)[None, :] - reach - slant[:, None]
        inside = (index >= 0) & (index < width)
        cast = sprite.alpha[source[:, None], np.clip(index, 0, width - 1)] * inside
        soft = max(1, height // 60)
        cast = box_blur(np.pad(np.asarray(cast[::-1], np.float32), soft), soft, soft, 4096)
        top = int(foot) - cast_height - soft
        cast[: max(0, back_row - top)] = 0
        _darken(frame, cast, top, sprite.left - reach - soft, 0.42 * light.hardness)


def _lay_over(frame: F32, owner: NDArray[np.int16], sprite: Sprite, index: int) -> None:
    window = _window(frame.shape, sprite.top, sprite.left, sprite.alpha.shape)
    if window is None:
        return
    fy, fx, sy, sx = window
    frame[fy, fx] = scaled(frame[fy, fx], 1 - sprite.alpha[sy, sx]) + sprite.color[sy, sx]
    body, alpha = sprite.body[sy, sx] > 0.35, sprite.alpha[sy, sx] > 0.5
    owner[fy, fx] = np.where(body, np.int16(index), np.where(alpha, np.int16(-2), owner[fy, fx]))


def _labels(owner: NDArray[np.int16], drawn: list[tuple[int, int, Sprite]]) -> list[Box]:
    """Boxes of what is left visible of each object."""
    boxes = []
    for index, kind, sprite in drawn:
        window = _window(owner.shape, sprite.top, sprite.left, sprite.alpha.shape)
        whole = int((sprite.body > 0.35).sum())
        if kind < 0 or window is None or whole == 0:
            continue
        fy, fx, _, _ = window
        seen = owner[fy, fx] == index
        if int(seen.sum()) < MIN_VISIBLE * whole:
            continue
        rows, columns = np.nonzero(seen.any(axis=1))[0], np.nonzero(seen.any(axis=0))[0]
        box = Box(kind, fx.start + int(columns[0]), fy.start + int(rows[0]), fx.start + int(columns[-1]) + 1,
                  fy.start + int(rows[-1]) + 1)  # fmt: skip
        if min(box.x1 - box.x0, box.y1 - box.y0) >= MIN_SIDE_PX:
            boxes.append(box)
    return boxes


def backdrop_of(scene: Scene, width: int, height: int) -> Backdrop:
    """The scene's empty place; a video makes it once for all its frames."""
    return make_backdrop(scene.place, Dice(*scene.key, 3), scene.view(width, height))


def draw(scene: Scene, width: int, height: int, backdrop: Backdrop | None = None) -> tuple[F32, list[Box]]:
    """The picture as the lens would see it, [height, width, 3] (RGB, 0 to 255), and its labels."""
    place = backdrop or backdrop_of(scene, width, height)
    frame = place.pixels.copy()
    back_row = int(scene.view(width, height).row_of(place.depth))
    owner = np.full((height, width), -1, np.int16)
    drawn: list[tuple[int, int, Sprite]] = []
    for index, actor in enumerate(scene.actors):
        sketch = sketch_of(scene.key, actor)
        scale, foot = actor.scale * height, (actor.x * width, actor.foot * height)
        nearness = min(1.0, actor.scale / 0.12)
        haze = 0.3 * (1 - nearness) if place.outdoor else 0.0
        sprite = render(sketch, scale, foot, actor.flip, place.light, haze, Dice(*scene.key, 8, actor.key))
        if not sketch.flying:
            _ground_shadow(frame, sprite, foot[1], place, back_row)
        _lay_over(frame, owner, sprite, index)
        drawn.append((index, actor.kind, sprite))
    return frame, _labels(owner, drawn)
