"""Vector shapes in metres, and their exact coverage of pixels.

An object is a `Sketch`: polygons, painted in order, with x to the right and y up from the ground under its middle.
Being vectors, one sketch serves every picture size. Coverage is worked out in 1/256 pixel fixed point with integer
sums, so an edge has the same antialiasing everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from demo.numeric import F32, F64, cos_turn, sin_turn

Color = tuple[float, float, float]
Point = tuple[float, float]

_SUB_ROWS = 4
_FIXED = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """One polygon with its paint.

    `top` to `bottom` is a vertical gradient over the polygon's own extent (RGB, 0 to 255). `round_x` shades it like
    an upright cylinder, `ball` like a sphere. `body` says whether the shape belongs to the labelled object: a traffic
    light's pole does not.
    """

    points: F64
    top: Color
    bottom: Color
    alpha: float = 1.0
    round_x: float = 0.0
    ball: float = 0.0
    body: bool = True


@dataclass(slots=True)
class Sketch:
    """An object as shapes in painting order; `grain` is the strength of its surface texture."""

    shapes: list[Shape] = field(default_factory=list)
    grain: float = 0.06
    flying: bool = False

    def add(
        self,
        points: Sequence[Point] | F64,
        top: Color,
        bottom: Color | None = None,
        *,
        alpha: float = 1.0,
        round_x: float = 0.0,
        ball: float = 0.0,
        body: bool = True,
    ) -> None:
        """Paint one polygon over what is there; without `bottom` the paint darkens a little downwards."""
        low = shade(top, 0.8) if bottom is None else bottom
        array = np.asarray(points, dtype=np.float64)
        self.shapes.append(Shape(array, top, low, alpha, round_x, ball, body))

    def warped(self, change: Callable[[F64, F64], tuple[F64, F64]]) -> list[Shape]:
        """The shapes with every point moved by `change(x, y)`."""
        moved = []
        for shape in self.shapes:
            x, y = change(shape.points[:, 0], shape.points[:, 1])
            moved.append(replace(shape, points=np.stack([x, y], axis=1)))
        return moved

    def extent(self, body_only: bool = False) -> tuple[float, float, float, float]:
        """(x low, y low, x high, y high) in metres."""
        parts = [s.points for s in self.shapes if s.body or not body_only]
        every = np.concatenate(parts)
        low, high = every.min(axis=0), every.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def shade(color: Color, factor: float) -> Color:
    """Lighter (factor > 1, towards white) or darker (factor < 1) than `color`."""
    if factor <= 1:
        return (color[0] * factor, color[1] * factor, color[2] * factor)
    t = min(factor - 1.0, 1.0)
    return (color[0] + (255 - color[0]) * t, color[1] + (255 - color[1]) * t, color[2] + (255 - color[2]) * t)


def blend(first: Color, second: Color, t: float) -> Color:
    """`first` at t = 0, `second` at t = 1."""
    return (
        first[0] + (second[0] - first[0]) * t,
        first[1] + (second[1] - first[1]) * t,
        first[2] + (second[2] - first[2]) * t,
    )


def rect(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    """An upright rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def ellipse(cx: float, cy: float, rx: float, ry: float, steps: int = 28, turn: float = 0.0) -> list[Point]:
    """An ellipse, turned by `turn` (in turns)."""
    c, s = cos_turn(turn), sin_turn(turn)
    points = []
    for i in range(steps):
        x, y = rx * cos_turn(i / steps), ry * sin_turn(i / steps)
        points.append((cx + x * c - y * s, cy + x * s + y * c))
    return points


def ring(cx: float, cy: float, outer: float, inner: float, steps: int = 32) -> list[Point]:
    """An annulus: the outer circle, then the inner one backwards, which cancels the winding inside."""
    out = ellipse(cx, cy, outer, outer, steps)
    hole = ellipse(cx, cy, inner, inner, steps)
    return [*out, out[0], hole[0], *reversed(hole)]


def limb(a: Point, b: Point, width_a: float, width_b: float) -> list[Point]:
    """A tapering stroke with round ends from a to b; the widths are diameters."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = math.sqrt(dx * dx + dy * dy) or 1e-9
    ux, uy = dx / length, dy / length
    points: list[Point] = []
    for end, half, sign in ((b, width_b / 2, 1.0), (a, width_a / 2, -1.0)):
        for i in range(7):
            along, side = sign * sin_turn(i / 12), sign * -cos_turn(i / 12)
            x = end[0] + half * (ux * along - uy * side)
            points.append((x, end[1] + half * (uy * along + ux * side)))
    return points


def rounded(points: Sequence[Point], radius: float) -> list[Point]:
    """The polygon with its corners rounded off."""
    result: list[Point] = []
    count = len(points)
    for i, (x, y) in enumerate(points):
        ends = []
        for nx, ny in (points[i - 1], points[(i + 1) % count]):
            dx, dy = nx - x, ny - y
            length = math.sqrt(dx * dx + dy * dy) or 1e-9
            reach = min(radius, length / 2) / length
            ends.append((x + dx * reach, y + dy * reach))
        (ax, ay), (bx, by) = ends
        for step in range(5):
            t = step / 4
            u = 1 - t
            result.append((u * u * ax + 2 * u * t * x + t * t * bx, u * u * ay + 2 * u * t * y + t * t * by))
    return result


def smooth(points: Sequence[Point], steps: int = 5) -> list[Point]:
    """A closed Catmull-Rom curve through the points, for whatever grew instead of being built."""
    result: list[Point] = []
    count = len(points)
    for i in range(count):
        p0, p1, p2, p3 = (points[(i + k - 1) % count] for k in range(4))
        for step in range(steps):
            t = step / steps
            xy = [
                0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t * t * t)
                for a, b, c, d in zip(p0, p1, p2, p3, strict=True)
            ]
            result.append((xy[0], xy[1]))
    return result


def coverage(points: F64, height: int, width: int) -> tuple[int, int, F32] | None:
    """How much of each pixel a polygon covers: (top row, left column, values in [0, 1]), or None outside the picture.

    `points` are [n, 2] pixel positions (x, y). Each pixel row is cut into four scan lines; along a scan line the
    covered length is exact. Overlapping turns of the outline count once, opposite turns cancel.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    x0, y0 = max(0, math.floor(low[0])), max(0, math.floor(low[1]))
    x1, y1 = min(width, math.floor(high[0]) + 1), min(height, math.floor(high[1]) + 1)
    if x0 >= x1 or y0 >= y1:
        return None
    rows, columns = y1 - y0, x1 - x0
    fixed = np.rint((points - np.array([x0, y0], np.float64)) * _FIXED).astype(np.int64)
    crossings = _crossings(fixed, rows)
    if crossings is None:
        return y0, x0, np.zeros((rows, columns), np.float32)
    row, x, sign = crossings
    x = np.minimum(np.maximum(x, 0), columns * _FIXED)
    cell = row * (columns + 2) + (x >> 8)
    part = x & 255
    size = rows * (columns + 2)
    total = np.bincount(cell, sign * (_FIXED - part), size) + np.bincount(cell + 1, sign * part, size)
    filled = np.cumsum(total.astype(np.int64).reshape(rows, columns + 2), axis=1)[:, :columns]
    full = _SUB_ROWS * _FIXED
    return y0, x0, np.minimum(np.abs(filled), full).astype(np.float32) * np.float32(1 / full)


def _crossings(
    fixed: NDArray[np.int64], rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
    """Where the outline crosses the scan lines: pixel row, x in 1/256 pixel, direction."""
    start, end = fixed, np.roll(fixed, -1, axis=0)
    step = _FIXED // _SUB_ROWS
    sign = np.where(end[:, 1] > start[:, 1], 1, -1)
    upper = np.where((sign > 0)[:, None], start, end)
    lower = np.where((sign > 0)[:, None], end, start)
    first = np.maximum(-((step // 2 - upper[:, 1]) // step), 0)
    last = np.minimum(-((step // 2 - lower[:, 1]) // step), rows * _SUB_ROWS)
    counts = np.maximum(last - first, 0)
    many = int(counts.sum())
    if many == 0:
        return None
    edge = np.repeat(np.arange(len(counts)), counts)
    line = np.arange(many) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    y = line * step + step // 2
    rise = (lower - upper)[edge]
    x = upper[edge, 0] + (y - upper[edge, 1]) * rise[:, 0] // rise[:, 1]
    return line // _SUB_ROWS, x, sign[edge]
