"""From a sketch in metres to pixels with light on them.

Consumes a `Sketch`, produces a `Sprite` that `scene` lays over the picture. Light is what makes flat polygons look
solid: a bevel taken from the blurred outline, a darker underside, a surface texture, and the colour of the scene's
own light.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from demo.numeric import F32, F64, Dice, box_blur, fractal
from demo.shapes import Color, Shape, Sketch, coverage


@dataclass(frozen=True, slots=True)
class Light:
    """The scene's light: where it comes from (-1 left, 1 right), how hard its shadows are, and its colours."""

    side: float
    hardness: float
    tint: Color
    haze: Color


@dataclass(frozen=True, slots=True)
class Sprite:
    """Pixels of one object: colour times opacity [h, w, 3], opacity [h, w], opacity of the labelled part [h, w].

    `top` and `left` are the picture position of its first pixel; they may lie outside the picture.
    """

    color: F32
    alpha: F32
    body: F32
    top: int
    left: int


def _paint(shape: Shape, low: tuple[float, float], high: tuple[float, float], spot: tuple[int, int], mask: F32) -> F32:
    """The colour of each pixel under `mask`, [h, w, 3] or a shape that broadcasts to it."""
    rows, columns = mask.shape
    y = (np.arange(rows, dtype=np.float32) + np.float32(spot[0] + 0.5 - low[1])) * np.float32(
        1 / max(high[1] - low[1], 1e-3)
    )
    x = (np.arange(columns, dtype=np.float32) + np.float32(spot[1] + 0.5 - low[0])) * np.float32(
        1 / max(high[0] - low[0], 1e-3)
    )
    y = np.minimum(np.maximum(y, 0), 1)[:, None, None]
    x = np.minimum(np.maximum(x, 0), 1)[None, :, None]
    top = np.asarray(shape.top, np.float32)
    color = top + (np.asarray(shape.bottom, np.float32) - top) * y
    if shape.round_x:
        across = 2 * x - np.float32(0.8)
        color = color * (1 - np.float32(shape.round_x) * across * across)
    if shape.ball:
        dx, dy = 2 * x - np.float32(0.75), 2 * y - np.float32(0.65)
        color = color * (np.float32(1.12) - np.float32(shape.ball) * (dx * dx + dy * dy))
    return np.asarray(color, dtype=np.float32)


def _fill(color: F32, alpha: F32, body: F32, shape: Shape, points: F64) -> None:
    covered = coverage(points, *alpha.shape)
    if covered is None:
        return
    top, left, mask = covered
    low, high = points.min(axis=0), points.max(axis=0)
    paint = _paint(shape, (low[0], low[1]), (high[0], high[1]), (top, left), mask)
    if shape.alpha < 1:
        mask = mask * np.float32(shape.alpha)
    window = (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1]))
    keep = 1 - mask
    part = color[window]
    for c in range(3):
        part[..., c] = part[..., c] * keep + paint[..., c] * mask
    alpha[window] = alpha[window] * keep + mask
    if shape.body:
        body[window] = body[window] * keep + mask
    else:
        body[window] = body[window] * keep


def _relight(color: F32, alpha: F32, light: Light, grain: float, dice: Dice) -> F32:
    """Bevel, underside, texture and the colour of the light."""
    height, width = alpha.shape
    radius = max(1, int(math.sqrt(height * width) / 22))
    soft = box_blur(box_blur(alpha, radius, radius, 4096), radius, radius, 4096)
    shift = max(1, radius)
    padded = np.pad(soft, shift)
    above = padded[:height, shift : shift + width]
    below = padded[2 * shift :, shift : shift + width]
    leftward = padded[shift : shift + height, :width]
    rightward = padded[shift : shift + height, 2 * shift :]
    facing = (below - above) * np.float32(0.45) + (leftward - rightward) * np.float32(0.45 * light.side)
    level = np.float32(1) + facing * np.float32(0.5 + 0.4 * light.hardness)
    down = np.arange(height, dtype=np.float32)[:, None] * np.float32(1 / height)
    level = level * (np.float32(1.06) - np.float32(0.2) * down * down)
    if height >= 24:
        texture = fractal(dice, height, width, max(6.0, width / 9), 2)
        level = level * (1 + (texture - np.float32(0.5)) * np.float32(2 * grain))
    most = alpha * np.float32(255)
    for c in range(3):
        color[..., c] = np.minimum(color[..., c] * (level * np.float32(light.tint[c])), most)
    return color


def render(
    sketch: Sketch, scale: float, foot: tuple[float, float], flip: bool, light: Light, haze: float, dice: Dice
) -> Sprite:
    """Draw a sketch with `scale` pixels per metre, its ground point at picture position `foot` (x, y)."""
    x_low, y_low, x_high, y_high = sketch.extent()
    if flip:
        x_low, x_high = -x_high, -x_low
    left = math.floor(foot[0] + x_low * scale) - 2
    top = math.floor(foot[1] - y_high * scale) - 2
    width = math.floor(foot[0] + x_high * scale) + 3 - left
    height = math.floor(foot[1] - y_low * scale) + 3 - top
    color: F32 = np.zeros((height, width, 3), np.float32)
    alpha = np.zeros((height, width), np.float32)
    body = np.zeros((height, width), np.float32)
    sx = -scale if flip else scale
    for shape in sketch.shapes:
        points = np.stack(
            [shape.points[:, 0] * sx + (foot[0] - left), (foot[1] - top) - shape.points[:, 1] * scale], axis=1
        )
        _fill(color, alpha, body, shape, points)
    color = _relight(color, alpha, light, sketch.grain, dice)
    if haze > 0:
        veil = alpha[:, :, None] * np.asarray(light.haze, np.float32)
        color = color * np.float32(1 - haze) + veil * np.float32(haze)
    return Sprite(color, alpha, body, top, left)
