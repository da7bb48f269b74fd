"""Skies, facades, and ground in true perspective: the parts that `backdrop` puts together.

Ground pixels know the metre they show (`Ground.x`, `Ground.z`), so roads, tiles and planks follow the same camera as
the objects that stand on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from demo.numeric import F32, Dice, fractal, ramp, upsample
from demo.shapes import Color, blend, shade


@dataclass(frozen=True, slots=True)
class View:
    """The camera: picture size and horizon in pixels, eye height in metres, focal length in pixels.

    `level` is the horizon before rounding to a row, so that distances do not depend on the picture's size.
    """

    width: int
    height: int
    horizon: int
    eye: float
    focal: float
    level: float

    def row_of(self, distance: float) -> float:
        """The picture row of ground that is `distance` metres away."""
        return self.horizon + self.focal * self.eye / distance


@dataclass(frozen=True, slots=True)
class Ground:
    """World coordinates in metres of every pixel below the horizon, and the metres that one pixel spans."""

    top: int
    x: F32
    z: F32
    pixel: F32


def ground_of(view: View) -> Ground:
    """The ground plane as `view` sees it."""
    top = min(view.horizon + 1, view.height - 2)
    rows = np.arange(top, view.height, dtype=np.float32) + np.float32(0.5 - view.horizon)
    z = (np.float32(view.eye * view.focal) / rows)[:, None]
    across = (np.arange(view.width, dtype=np.float32) - np.float32(view.width / 2 - 0.5)) * np.float32(1 / view.focal)
    return Ground(
        top, np.asarray(z * across[None, :], np.float32), np.asarray(z, np.float32), z * np.float32(1 / view.focal)
    )


def flat(color: Color) -> F32:
    """A colour as an array that broadcasts over pixels."""
    return np.asarray(color, np.float32)


def mix(base: F32, color: F32 | Color, mask: F32) -> F32:
    """`base` where the mask is 0, `color` where it is 1; channel by channel, which is several times faster."""
    tone = np.asarray(color, np.float32)
    shape = np.broadcast_shapes(mask.shape, base.shape[:-1], tone.shape[:-1])
    out = np.empty((*shape, 3), np.float32)
    for c in range(3):
        below = base[..., c]
        out[..., c] = below + (tone[..., c] - below) * mask
    return out


def scaled(base: F32, level: F32) -> F32:
    """A colour, or a picture, times a plane of brightness."""
    out = np.empty((*level.shape, 3), np.float32)
    for c in range(3):
        out[..., c] = base[..., c] * level
    return out


def strip(distance: F32, half: float, pixel: F32) -> F32:
    """An antialiased band: 1 where |distance| < half (metres), 0 a pixel further out."""
    edge = (np.float32(half) - np.abs(distance)) / pixel + np.float32(0.5)
    return np.asarray(np.minimum(np.maximum(edge, 0), 1), np.float32)


def bars(along: F32, pitch: float, share: float, pixel: F32) -> F32:
    """Antialiased dashes: every `pitch` metres one that fills `share` of it."""
    turn = along * np.float32(1 / pitch)
    centred = (turn - np.floor(turn) - np.float32(0.5)) * np.float32(pitch)
    return strip(np.asarray(centred, np.float32), pitch * share / 2, pixel)


def _fold(index: F32) -> NDArray[np.int32]:
    """Mirror-repeat into 0..255, so that a texture that was not made to tile has no seams."""
    whole = np.floor(index).astype(np.int32) & 511
    return np.asarray(np.minimum(whole, 511 - whole), np.int32)


@cache
def _tile(cells: int, variant: int) -> F32:
    """A noise texture around 0; a few of them, shifted, serve every surface."""
    return fractal(Dice(cells, variant), 256, 256, cells, 3) - np.float32(0.5)


def speckle(ground: Ground, dice: Dice, step: float, cells: int = 48) -> F32:
    """Surface noise around 0 with texels of `step` metres, fading out where a pixel is larger than its detail."""
    tile = _tile(cells, dice.integer(0, 7))
    fade = np.minimum(np.float32(3 * step) / ground.pixel, 1)
    z = _fold(ground.z * np.float32(1 / step) + np.float32(dice.integer(0, 511)))
    x = _fold(ground.x * np.float32(1 / step) + np.float32(dice.integer(0, 511)))
    return np.asarray(tile.ravel()[(z << 8) + x] * fade, np.float32)


def textured(ground: Ground, dice: Dice, color: Color, other: Color, strength: float) -> F32:
    """A natural surface: patches of `other` over `color` and detail at three scales."""
    patches = ramp(speckle(ground, dice.child(1), 0.12, 24), -0.3, 0.3)
    base = mix(flat(color), other, patches)
    detail = speckle(ground, dice.child(2), 0.012, 80) * np.float32(1.1) + speckle(ground, dice.child(3), 0.05, 60)
    return scaled(base, 1 + detail * np.float32(strength))


def paving(ground: Ground, dice: Dice, color: Color, tile: float, aspect: float = 1.0) -> F32:
    """Slabs with joints; each slab has its own tone."""
    base = textured(ground, dice.child(1), color, shade(color, 0.9), 0.25)
    z = ground.z * np.float32(1 / (tile * aspect))
    row = np.floor(z).astype(np.int32)
    x = ground.x * np.float32(1 / tile) + (row & 1) * np.float32(0.5)
    column = np.floor(x).astype(np.int32)
    tones = dice.child(2).octets(64, 64).astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)
    seen = np.minimum(np.float32(tile) / (ground.pixel * 2), 1)
    base = scaled(base, 1 + tones[row & 63, column & 63] * np.float32(0.22) * seen)
    fx, fz = np.abs(x - column - np.float32(0.5)), np.abs(z - row - np.float32(0.5))
    joint = np.maximum(
        strip((np.float32(0.5) - fx) * np.float32(tile), 0.008, ground.pixel),
        strip((np.float32(0.5) - fz) * np.float32(tile * aspect), 0.008, ground.pixel * 3),
    )
    return mix(np.asarray(base, np.float32), shade(color, 0.55), joint * np.float32(0.7) * seen)


def planks(ground: Ground, dice: Dice, color: Color) -> F32:
    """A wooden floor, boards running away from the viewer."""
    width = dice.between(0.1, 0.2)
    x = ground.x * np.float32(1 / width)
    board = np.floor(x).astype(np.int32)
    shift = (board * 37 & 63).astype(np.float32) * np.float32(0.05)
    length = np.floor(ground.z * np.float32(0.8) + shift).astype(np.int32)
    tones = dice.child(1).octets(64, 64).astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)
    tile = _tile(70, dice.integer(0, 7))
    vein = tile[_fold(ground.z * np.float32(24) + board * np.float32(31)), _fold(ground.x * np.float32(260))]
    seen = np.minimum(np.float32(width) / (ground.pixel * 2), 1)
    level = 1 + tones[length & 63, board & 63] * np.float32(0.35) * seen + vein * np.float32(0.35) * seen
    base = scaled(flat(color), level)
    gap = strip((np.float32(0.5) - np.abs(x - board - np.float32(0.5))) * np.float32(width), 0.004, ground.pixel)
    return mix(np.asarray(base, np.float32), shade(color, 0.4), gap * np.float32(0.75) * seen)


_SKIES: tuple[tuple[Color, Color, Color], ...] = (
    ((74, 132, 206), (190, 216, 236), (252, 252, 252)),
    ((48, 104, 186), (168, 204, 232), (250, 248, 244)),
    ((166, 174, 184), (214, 218, 220), (236, 236, 236)),
    ((120, 150, 190), (236, 216, 190), (255, 240, 220)),
    ((84, 92, 140), (246, 184, 132), (255, 206, 170)),
    ((128, 140, 158), (190, 196, 200), (222, 224, 226)),
)


def sky(dice: Dice, height: int, width: int) -> tuple[F32, Color]:
    """A gradient with clouds, [height, width, 3], and the colour at the horizon, which is also the haze."""
    top, low, cloud = dice.pick(_SKIES)
    t = (np.arange(height, dtype=np.float32) * np.float32(1 / max(height, 1)))[:, None, None]
    base = flat(top) + (flat(low) - flat(top)) * t
    field = fractal(dice.child(1), height, width, dice.between(2, 5), 6, dice.between(1.6, 3.2))
    amount = dice.between(0.44, 0.62)
    mask = ramp(field, amount, amount + dice.between(0.08, 0.24))
    under = ramp(fractal(dice.child(2), height, width, 6, 4, 2.0), 0.3, 0.8)
    tone = mix(flat(cloud), shade(cloud, 0.8), under)
    rows = np.broadcast_to(base, (height, width, 3))
    return mix(np.asarray(rows, np.float32), np.asarray(tone, np.float32), mask * np.float32(0.85)), low


_WALLS: tuple[Color, ...] = (
    (182, 92, 70), (206, 188, 160), (150, 150, 154), (222, 214, 200), (120, 76, 62), (196, 160, 120), (104, 112, 124),
    (230, 196, 150), (170, 180, 176),
)  # fmt: skip


def facade(dice: Dice, height: int, width: int, storey: float) -> F32:
    """A house front: wall texture, rows of windows, and shops on the ground floor. `storey` is in pixels."""
    wall = dice.pick(_WALLS)
    level = 1 + (fractal(dice.child(1), height, width, 30, 3) - np.float32(0.5)) * np.float32(0.25)
    base = scaled(flat(wall), level)
    pitch = storey * dice.between(0.6, 1.1)
    y = (height - 1 - np.arange(height, dtype=np.float32))[:, None] * np.float32(1 / storey)
    x = np.arange(width, dtype=np.float32)[None, :] * np.float32(1 / pitch)
    row, column = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
    fy, fx = y - row, x - column
    half_w, low, high = dice.between(0.2, 0.34), dice.between(0.22, 0.35), dice.between(0.74, 0.86)

    def box(margin: float) -> F32:
        inside = (np.abs(fx - np.float32(0.5)) < half_w + margin) & (fy > low - margin) & (fy < high + margin)
        return np.asarray(inside & (row > 0), np.float32)

    base = mix(base, shade(wall, dice.pick((0.72, 1.5))), box(0.05))
    glow = dice.child(2).octets(64, 64)[row & 63, column & 63].astype(np.float32) * np.float32(1 / 255)
    pane = flat((70, 84, 100)) + (flat((176, 196, 210)) - flat((70, 84, 100))) * (fy * glow)[:, :, None]
    pane = np.where((glow > 0.93)[:, :, None], flat((250, 222, 160)), pane)
    base = mix(base, np.asarray(pane, np.float32), box(0.0))
    bars = np.asarray((np.abs(fx - np.float32(0.5)) < 0.02), np.float32) * box(0.0)
    base = mix(base, shade(wall, 1.4), bars)
    shop = np.asarray((row == 0) & (np.abs(fx - np.float32(0.5)) < 0.42) & (fy > 0.1) & (fy < 0.68), np.float32)
    base = mix(base, flat((44, 54, 62)) + flat((60, 60, 56)) * fy[:, :, None], shop)
    stripes = np.asarray((np.floor(x * 8).astype(np.int32) & 1) == 0, np.float32)
    awning = np.asarray((row == 0) & (fy > 0.68) & (fy < 0.88), np.float32) * np.float32(dice.pick((0.0, 0.9)))
    cloth = dice.pick(((180, 50, 46), (40, 100, 90), (50, 80, 140), (210, 150, 50)))
    base = mix(base, flat(cloth) + (flat((240, 236, 226)) - flat(cloth)) * stripes[:, :, None], awning)
    return mix(
        base, shade(wall, 0.6), np.broadcast_to(np.asarray(y > height / storey - 0.12, np.float32), (height, width))
    )


def bricks(dice: Dice, height: int, width: int, course: float) -> F32:
    """A brick wall, [height, width, 3]; `course` is one brick's height in pixels."""
    clay = dice.pick(((168, 84, 64), (150, 96, 74), (196, 150, 116), (212, 206, 196), (120, 90, 84)))
    y = np.arange(height, dtype=np.float32)[:, None] * np.float32(1 / course)
    row = np.floor(y).astype(np.int32)
    x = np.arange(width, dtype=np.float32)[None, :] * np.float32(1 / (course * 3)) + (row & 1) * np.float32(0.5)
    column = np.floor(x).astype(np.int32)
    tones = dice.child(1).octets(64, 64).astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)
    level = 1 + tones[row & 63, column & 63] * np.float32(0.3)
    level = level * (1 + (fractal(dice.child(2), height, width, 60, 3) - np.float32(0.5)) * np.float32(0.4))
    base = scaled(flat(clay), level)
    joint = np.maximum(
        np.asarray(np.abs(y - row - np.float32(0.5)) > 0.44, np.float32) * np.ones_like(x),
        np.asarray(np.abs(x - column - np.float32(0.5)) > 0.48, np.float32),
    )
    return mix(np.asarray(base, np.float32), blend((206, 200, 190), clay, 0.35), joint * np.float32(0.8))


def foliage(dice: Dice, height: int, width: int, color: Color) -> tuple[F32, F32]:
    """A line of trees: colours [height, width, 3] and opacity [height, width], standing on the last row."""
    crown = upsample(
        dice.child(1).octets(2, max(4, width // 40)).astype(np.float32) * np.float32(1 / 255), height, width
    )
    ragged = fractal(dice.child(2), height, width, 26, 4)
    top = (np.float32(1) - crown * np.float32(0.65)) - ragged * np.float32(0.22)
    y = (np.arange(height, dtype=np.float32) * np.float32(1 / height))[:, None]
    opacity = ramp(np.asarray(y - top, np.float32), 0.0, 0.02)
    light = ramp(fractal(dice.child(3), height, width, 40, 4), 0.25, 0.8)
    tone = mix(flat(shade(color, 0.45)), shade(color, 1.2), light * (np.float32(1.15) - np.float32(0.6) * y))
    return np.asarray(tone, np.float32), opacity
