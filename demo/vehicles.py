"""How bicycles, cars, buses and trucks are drawn. One recipe per class: dice in, a sketch in metres out."""

from __future__ import annotations

from demo.numeric import F64, Dice, cos_turn, sin_turn
from demo.shapes import Color, Point, Sketch, blend, ellipse, limb, rect, ring, rounded, shade

_CAR_PAINTS: tuple[Color, ...] = (
    (196, 30, 38), (28, 62, 140), (222, 224, 226), (40, 42, 46), (128, 134, 140), (242, 190, 40),
    (20, 110, 92), (148, 70, 30), (236, 236, 230), (90, 20, 40), (96, 150, 196), (230, 106, 36), (70, 84, 60),
)  # fmt: skip
_BUS_PAINTS: tuple[Color, ...] = (
    (200, 34, 36), (240, 172, 30), (30, 90, 160), (30, 134, 84), (228, 228, 224), (232, 112, 34), (94, 60, 130),
)  # fmt: skip
_CARGO_PAINTS: tuple[Color, ...] = (
    (238, 238, 234), (206, 212, 216), (40, 92, 150), (186, 48, 40), (226, 178, 52), (60, 122, 82), (150, 120, 90),
)  # fmt: skip
_TYRE: Color = (30, 30, 32)
_GLASS_TOP: Color = (150, 178, 196)
_GLASS_LOW: Color = (36, 48, 60)


def wheel(sketch: Sketch, x: float, radius: float, turn: float, spokes: int = 5, y: float | None = None) -> None:
    """A road wheel: tyre, rim, spokes and hub."""
    cy = radius if y is None else y
    sketch.add(ellipse(x, cy, radius, radius), _TYRE, (14, 14, 16))
    sketch.add(ellipse(x, cy, radius * 0.66, radius * 0.66), (196, 200, 204), (112, 116, 122))
    sketch.add(ellipse(x, cy, radius * 0.56, radius * 0.56), (70, 72, 78), (40, 42, 46))
    for i in range(spokes):
        a = turn + i / spokes
        tip = (x + radius * 0.6 * cos_turn(a), cy + radius * 0.6 * sin_turn(a))
        sketch.add(limb((x, cy), tip, radius * 0.2, radius * 0.14), (206, 210, 214), (140, 144, 150))
    sketch.add(ellipse(x, cy, radius * 0.15, radius * 0.15, 12), (90, 92, 98))


def _glass(sketch: Sketch, points: list[Point], radius: float = 0.06) -> None:
    """A window pane with the sky in it: a gradient and one slanted reflection."""
    sketch.add(rounded(points, radius), _GLASS_TOP, _GLASS_LOW)
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    w, h = x1 - x0, y1 - y0
    a, b = x0 + 0.42 * w, x0 + 0.6 * w
    streak = [(a, y0 + 0.08 * h), (b, y0 + 0.08 * h), (b + 0.14 * w, y1 - 0.1 * h), (a + 0.14 * w, y1 - 0.1 * h)]
    sketch.add(streak, (232, 242, 248), (200, 214, 224), alpha=0.28)


_CABINS: dict[str, tuple[list[Point], list[list[Point]]]] = {
    "sedan": (
        [(-1.5, 0.94), (-0.85, 1.42), (0.3, 1.45), (1.12, 0.94)],
        [
            [(-1.2, 0.97), (-0.78, 1.34), (-0.32, 1.36), (-0.32, 0.97)],
            [(-0.22, 0.97), (-0.22, 1.36), (0.24, 1.37), (0.86, 0.97)],
        ],
    ),
    "hatch": (
        [(-1.9, 0.9), (-1.62, 1.46), (0.1, 1.5), (1.05, 0.94)],
        [
            [(-1.68, 1.0), (-1.48, 1.38), (-1.05, 1.4), (-1.05, 0.99)],
            [(-0.96, 0.98), (-0.96, 1.4), (-0.4, 1.42), (-0.4, 0.98)],
            [(-0.3, 0.98), (-0.3, 1.42), (0.05, 1.42), (0.78, 0.98)],
        ],
    ),
    "van": (
        [(-2.08, 0.8), (-2.0, 1.8), (0.4, 1.86), (0.7, 1.8), (1.5, 1.0)],
        [
            [(-1.85, 1.12), (-1.82, 1.68), (-0.9, 1.7), (-0.9, 1.12)],
            [(-0.8, 1.12), (-0.8, 1.7), (0.1, 1.72), (0.1, 1.12)],
            [(0.2, 1.1), (0.2, 1.72), (0.55, 1.7), (1.16, 1.08)],
        ],
    ),
    "coupe": (
        [(-1.75, 0.92), (-0.6, 1.3), (0.1, 1.31), (0.95, 0.88)],
        [[(-1.05, 0.96), (-0.52, 1.23), (0.06, 1.24), (0.62, 0.93)]],
    ),
}


def _car_side(dice: Dice, paint: Color, phase: float) -> Sketch:
    sketch = Sketch(grain=0.03)
    cabin, windows = _CABINS[dice.weighted({"sedan": 4, "hatch": 4, "van": 2, "coupe": 2})]
    dark = shade(paint, 0.5)
    for x in (-1.32, 1.36):
        sketch.add(ellipse(x, 0.4, 0.42, 0.4), (22, 22, 24))
    sketch.add(rounded(cabin, 0.16), shade(paint, 1.15), shade(paint, 0.85))
    body = [(-2.12, 0.3), (-2.18, 0.62), (-2.08, 0.92), (-1.4, 0.99), (0.95, 0.98), (1.75, 0.86), (2.14, 0.66),
            (2.2, 0.42), (2.14, 0.28)]  # fmt: skip
    sketch.add(rounded(body, 0.14), shade(paint, 1.12), dark)
    for window in windows:
        _glass(sketch, window)
    sketch.add(rect(-2.0, 0.83, 1.7, 0.88), (255, 255, 255), (255, 255, 255), alpha=0.22)
    sketch.add(rect(-2.1, 0.27, 2.12, 0.35), shade(paint, 0.3), (26, 26, 28))
    for window in windows[: 3 if len(windows) > 1 else 1]:
        x = max(p[0] for p in window) + 0.05
        sketch.add(rect(x - 0.01, 0.38, x + 0.012, 0.97), shade(paint, 0.4), alpha=0.7)
        sketch.add(rounded(rect(x - 0.32, 0.79, x - 0.14, 0.83), 0.02), shade(paint, 1.4), dark)
    sketch.add(rounded([(1.78, 0.66), (2.12, 0.6), (2.06, 0.72), (1.8, 0.8)], 0.03), (255, 250, 226), (214, 214, 204))
    sketch.add(rounded([(-2.16, 0.68), (-1.96, 0.7), (-1.94, 0.84), (-2.1, 0.86)], 0.03), (220, 40, 30), (130, 14, 14))
    sketch.add(rounded(rect(0.72, 0.95, 0.96, 1.08), 0.05), paint, dark)
    for x in (-1.32, 1.36):
        sketch.add(ellipse(x, 0.4, 0.41, 0.38), (20, 20, 22))
        wheel(sketch, x, 0.34, phase, dice.pick((5, 6, 7)))
    return sketch


def _car_end(dice: Dice, paint: Color, rear: bool) -> Sketch:
    sketch = Sketch(grain=0.03)
    tall = dice.between(1.4, 1.75)
    dark = shade(paint, 0.55)
    for x in (-0.68, 0.68):
        sketch.add(rounded(rect(x - 0.13, 0.0, x + 0.13, 0.5), 0.06), _TYRE, (12, 12, 14))
    sketch.add(rounded([(-0.82, 0.85), (-0.6, tall), (0.6, tall), (0.82, 0.85)], 0.16), shade(paint, 1.2), paint)
    _glass(sketch, [(-0.7, 0.93), (-0.54, tall - 0.1), (0.54, tall - 0.1), (0.7, 0.93)], 0.08)
    if not rear:
        for x in (-0.34, 0.34):
            sketch.add(ellipse(x, 1.02, 0.15, 0.16), (24, 28, 34), alpha=0.55)
    sketch.add(rounded([(-0.88, 0.22), (-0.9, 0.7), (-0.78, 0.95), (0.78, 0.95), (0.9, 0.7), (0.88, 0.22)], 0.14),
               shade(paint, 1.15), dark)  # fmt: skip
    sketch.add(rect(-0.74, 0.84, 0.74, 0.87), (255, 255, 255), (255, 255, 255), alpha=0.25)
    for side in (-1, 1):
        sketch.add(rounded(rect(side * 0.95 - 0.09, 0.92, side * 0.95 + 0.09, 1.06), 0.05), paint, dark)
        lamp = [(side * 0.84, 0.6), (side * 0.84, 0.8), (side * 0.5, 0.76), (side * 0.54, 0.62)]
        if rear:
            sketch.add(rounded(lamp, 0.05), (226, 44, 34), (140, 12, 12))
        else:
            sketch.add(rounded(lamp, 0.05), (255, 252, 236), (190, 196, 198))
            sketch.add(ellipse(side * 0.7, 0.7, 0.06, 0.06, 14), (255, 255, 250), (230, 230, 220))
    if not rear:
        sketch.add(rounded(rect(-0.46, 0.5, 0.46, 0.74), 0.08), (34, 36, 40), (18, 18, 20))
        for i in range(4):
            sketch.add(rect(-0.42, 0.53 + i * 0.055, 0.42, 0.545 + i * 0.055), (150, 154, 160), alpha=0.8)
    sketch.add(rounded(rect(-0.26, 0.38, 0.26, 0.49), 0.02), (240, 240, 234), (206, 206, 200))
    sketch.add(rect(-0.2, 0.41, 0.2, 0.46), (50, 54, 70), alpha=0.6)
    sketch.add(rounded(rect(-0.84, 0.2, 0.84, 0.32), 0.05), shade(paint, 0.35), (24, 24, 26))
    return sketch


def car(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """A sedan, hatchback, van or coupé from the side, the front or the rear."""
    paint = blend(dice.pick(_CAR_PAINTS), dice.pick(_CAR_PAINTS), dice.between(0, 0.18))
    view = view or dice.weighted({"side": 5, "front": 2, "rear": 2})
    if view == "side":
        return _car_side(dice, paint, phase)
    return _car_end(dice, paint, view == "rear")


def _bus_side(paint: Color, second: Color, phase: float, length: float) -> Sketch:
    sketch = Sketch(grain=0.03)
    half = length / 2
    sketch.add(rounded(rect(-half, 0.35, half, 3.1), 0.22), shade(paint, 1.12), shade(paint, 0.68))
    sketch.add(rect(-half + 0.04, 0.85, half - 0.04, 1.2), second, shade(second, 0.8))
    sketch.add(rounded(rect(-half + 0.3, 1.5, half - 0.25, 2.6), 0.12), (30, 34, 40), (24, 26, 30))
    panes = max(4, int(length / 1.5))
    step = (length - 0.7) / panes
    doors = {panes - 1, panes // 2}
    for i in range(panes):
        x = -half + 0.36 + i * step
        if i in doors:
            sketch.add(rounded(rect(x + 0.1, 0.45, x + step - 0.12, 2.6), 0.05), shade(paint, 0.45))
            mid = x + step / 2
            _glass(sketch, rect(x + 0.15, 0.7, mid - 0.03, 2.5), 0.04)
            _glass(sketch, rect(mid + 0.03, 0.7, x + step - 0.17, 2.5), 0.04)
        else:
            _glass(sketch, rect(x + 0.03, 1.56, x + step - 0.05, 2.54), 0.06)
    sketch.add(rect(-half + 0.3, 2.86, half - 0.3, 2.92), (255, 255, 255), (255, 255, 255), alpha=0.25)
    sketch.add(rounded(rect(half - 1.9, 2.66, half - 0.5, 2.9), 0.04), (24, 24, 26))
    sketch.add(rect(half - 1.75, 2.73, half - 0.7, 2.83), (255, 170, 40), alpha=0.9)
    sketch.add(rounded(rect(half - 0.22, 0.6, half, 0.85), 0.05), (255, 250, 226))
    sketch.add(rounded(rect(-half, 0.7, -half + 0.14, 1.1), 0.04), (210, 36, 30))
    for x in (-half + 2.2, half - 2.3):
        sketch.add(ellipse(x, 0.54, 0.58, 0.52), (18, 18, 20))
        wheel(sketch, x, 0.48, phase, 8)
    return sketch


def _bus_end(dice: Dice, paint: Color, second: Color) -> Sketch:
    sketch = Sketch(grain=0.03)
    for x in (-0.95, 0.95):
        sketch.add(rounded(rect(x - 0.17, 0.0, x + 0.17, 0.7), 0.06), _TYRE, (12, 12, 14))
    sketch.add(rounded(rect(-1.25, 0.3, 1.25, 3.1), 0.22), shade(paint, 1.12), shade(paint, 0.62))
    sketch.add(rect(-1.23, 0.9, 1.23, 1.2), second, shade(second, 0.8))
    sketch.add(rounded(rect(-1.1, 2.62, 1.1, 2.98), 0.08), (22, 22, 24))
    sketch.add(rect(-0.8, 2.72, dice.between(0.2, 0.85), 2.88), (255, 172, 44), alpha=0.9)
    _glass(sketch, rect(-1.12, 1.32, -0.03, 2.55), 0.12)
    _glass(sketch, rect(0.03, 1.32, 1.12, 2.55), 0.12)
    for side in (-1, 1):
        sketch.add(ellipse(side * 0.9, 0.75, 0.17, 0.12), (255, 252, 236), (200, 204, 204))
        sketch.add(limb((side * 1.22, 2.6), (side * 1.42, 2.3), 0.05, 0.05), (30, 30, 34))
        sketch.add(rounded(rect(side * 1.42 - 0.1, 1.85, side * 1.42 + 0.1, 2.3), 0.05), (36, 36, 40))
    sketch.add(rounded(rect(-0.3, 0.62, 0.3, 0.76), 0.02), (240, 240, 234))
    sketch.add(rounded(rect(-1.22, 0.28, 1.22, 0.48), 0.06), (40, 42, 46), (22, 22, 24))
    return sketch


def _corner(side: Sketch, end: Sketch, length: float, width: float, dice: Dice) -> Sketch:
    """Side and front of one vehicle as the two visible faces of a box, seen from its front corner."""
    eye = dice.between(1.2, 2.2)
    cos, sin = dice.pick(((0.8, 0.6), (0.6, 0.8), (0.7, 0.72), (0.5, 0.88)))
    deep = dice.between(0.15, 0.3)

    def place_side(x: F64, y: F64) -> tuple[F64, F64]:
        k = 1 + deep * (x / length - 0.5)
        return x * cos * (0.9 + 0.1 * k), eye + (y - eye) * k

    def place_end(x: F64, y: F64) -> tuple[F64, F64]:
        k = 1 - deep * 0.3 * (x / width + 0.5)
        return length / 2 * cos + (x + width / 2) * sin, eye + (y - eye) * k

    both = Sketch(grain=side.grain)
    both.shapes = side.warped(place_side) + end.warped(place_end)
    x_low, y_low, x_high, _ = both.extent()
    middle = (x_low + x_high) / 2
    both.shapes = both.warped(lambda x, y: (x - middle, y - y_low))
    return both


def bus(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """A city bus or coach from the side, the front or a front corner."""
    paint, second = dice.pick(_BUS_PAINTS), dice.pick(_BUS_PAINTS)
    length = dice.between(8.0, 11.5)
    view = view or dice.weighted({"side": 3, "front": 2, "corner": 4})
    if view == "side":
        return _bus_side(paint, second, phase, length)
    if view == "front":
        return _bus_end(dice, paint, second)
    return _corner(_bus_side(paint, second, phase, length), _bus_end(dice, paint, second), length, 2.5, dice)


def _truck_side(dice: Dice, paint: Color, cargo: Color, phase: float, length: float) -> Sketch:
    sketch = Sketch(grain=0.04)
    half = length / 2
    sketch.add(rect(-half, 0.6, half - 0.2, 0.9), (52, 54, 58), (30, 30, 32))
    load_end = half - 2.15
    kind = dice.weighted({"box": 4, "tank": 1, "tipper": 1})
    if kind == "box":
        sketch.add(rounded(rect(-half, 0.95, load_end, 3.5), 0.05), shade(cargo, 1.05), shade(cargo, 0.78))
        for i in range(1, int(length)):
            x = -half + i * (load_end + half) / int(length)
            sketch.add(rect(x - 0.012, 1.0, x + 0.012, 3.45), shade(cargo, 0.6), alpha=0.5)
        mark = dice.pick(_CARGO_PAINTS)
        centre = (load_end - half) / 2
        if dice.chance(0.5):
            sketch.add(rect(-half + 0.05, 1.7, load_end - 0.05, 2.2), mark, shade(mark, 0.85), alpha=0.9)
        else:
            sketch.add(ellipse(centre, 2.25, 1.1, 0.7), mark, shade(mark, 0.85), alpha=0.9)
    elif kind == "tank":
        sketch.add(rounded(rect(-half, 0.95, load_end, 2.9), 0.75), (238, 240, 242), (96, 100, 106))
        sketch.add(rect(-half + 0.4, 1.9, load_end - 0.4, 2.02), cargo, alpha=0.9)
    else:
        sketch.add(rounded([(-half - 0.1, 2.5), (-half + 0.35, 0.95), (load_end, 0.95), (load_end, 2.7)], 0.08), cargo)
        for i in range(6):
            x = -half + 0.5 + i * (load_end + half - 0.6) / 5
            sketch.add(rect(x - 0.05, 0.98, x + 0.05, 2.5), shade(cargo, 0.65))
    sketch.add(rounded([(half - 2.05, 0.55), (half - 2.05, 2.85), (half - 0.55, 2.85), (half - 0.12, 1.75),
                        (half, 1.6), (half, 0.55)], 0.14), shade(paint, 1.12), shade(paint, 0.6))  # fmt: skip
    _glass(sketch, [(half - 1.55, 1.75), (half - 1.55, 2.55), (half - 0.72, 2.55), (half - 0.36, 1.75)])
    sketch.add(rect(half - 1.62, 0.7, half - 1.59, 2.6), shade(paint, 0.45), alpha=0.8)
    sketch.add(rounded(rect(half - 0.24, 0.78, half, 1.0), 0.04), (255, 250, 226))
    sketch.add(rounded(rect(half - 0.5, 1.75, half - 0.3, 2.25), 0.05), (30, 30, 34))
    for x in (-half + 0.9, -half + 2.0, half - 1.05):
        sketch.add(ellipse(x, 0.53, 0.57, 0.52), (18, 18, 20))
        wheel(sketch, x, 0.5, phase, 6)
    return sketch


def _truck_end(paint: Color, cargo: Color) -> Sketch:
    sketch = Sketch(grain=0.04)
    for x in (-0.95, 0.95):
        sketch.add(rounded(rect(x - 0.2, 0.0, x + 0.2, 0.8), 0.06), _TYRE, (12, 12, 14))
    sketch.add(rounded(rect(-1.27, 0.9, 1.27, 3.5), 0.05), shade(cargo, 0.95), shade(cargo, 0.7))
    sketch.add(rounded(rect(-1.18, 0.45, 1.18, 2.85), 0.16), shade(paint, 1.12), shade(paint, 0.6))
    _glass(sketch, rect(-1.06, 1.7, 1.06, 2.6), 0.1)
    sketch.add(rounded(rect(-0.7, 0.95, 0.7, 1.5), 0.06), (40, 42, 46), (22, 22, 24))
    for i in range(4):
        sketch.add(rect(-0.64, 1.02 + i * 0.12, 0.64, 1.06 + i * 0.12), (170, 174, 180))
    for side in (-1, 1):
        sketch.add(rounded(rect(side * 0.96 - 0.16, 0.66, side * 0.96 + 0.16, 0.86), 0.05), (255, 252, 236))
        sketch.add(rounded(rect(side * 1.36 - 0.1, 1.7, side * 1.36 + 0.1, 2.4), 0.05), (30, 30, 34))
    sketch.add(rounded(rect(-1.18, 0.42, 1.18, 0.62), 0.05), (60, 62, 66), (28, 28, 30))
    return sketch


def truck(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """A box truck, tanker or tipper from the side, the front or a front corner."""
    paint, cargo = dice.pick(_CAR_PAINTS), dice.pick(_CARGO_PAINTS)
    length = dice.between(6.4, 8.6)
    view = view or dice.weighted({"side": 5, "front": 2, "corner": 3})
    if view == "side":
        return _truck_side(dice, paint, cargo, phase, length)
    if view == "front":
        return _truck_end(paint, cargo)
    return _corner(_truck_side(dice, paint, cargo, phase, length), _truck_end(paint, cargo), length, 2.5, dice)


def bicycle(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """A parked bicycle from the side: diamond or low-step frame, straight or dropped handlebar."""
    del view
    sketch = Sketch(grain=0.02)
    paint = dice.pick(_CAR_PAINTS)
    r, tyre = 0.34, dice.between(0.022, 0.045)
    back, front, crank = (-0.52, r), (0.54, r), (-0.08, 0.3)
    seat, head = (-0.24, dice.between(0.82, 0.92)), (0.38, dice.between(0.84, 0.95))
    for hub in (back, front):
        for i in range(9):
            spoke = phase + i / 18
            dx, dy = r * 0.95 * cos_turn(spoke), r * 0.95 * sin_turn(spoke)
            sketch.add(limb((hub[0] - dx, hub[1] - dy), (hub[0] + dx, hub[1] + dy), 0.007, 0.007), (196, 198, 202))
        sketch.add(ring(hub[0], hub[1], r, r - tyre), (34, 34, 36), (20, 20, 22))
        sketch.add(ring(hub[0], hub[1], r - tyre, r - tyre - 0.018), (186, 188, 192))
        sketch.add(ellipse(hub[0], hub[1], 0.035, 0.035, 12), (90, 92, 96))
    low = dice.chance(0.35)
    joint = (0.28, 0.5) if low else (head[0] - 0.03, head[1] - 0.08)
    tubes = [(seat, crank), (crank, (head[0], head[1] - 0.12)), (back, crank), (back, (seat[0] + 0.03, seat[1] - 0.12)),
             ((seat[0] + 0.03, seat[1] - (0.3 if low else 0.1)), joint), (head, front)]  # fmt: skip
    for a, b in tubes:
        sketch.add(limb(a, b, 0.042, 0.036), shade(paint, 1.15), shade(paint, 0.7))
    sketch.add(ring(crank[0], crank[1], 0.1, 0.07, 20), (150, 152, 156))
    turned = phase * 0.4 + 0.1
    for sign in (-1, 1):
        pedal = (crank[0] + sign * 0.16 * cos_turn(turned), crank[1] + sign * 0.16 * sin_turn(turned))
        sketch.add(limb(crank, pedal, 0.03, 0.024), (120, 122, 126))
        sketch.add(rect(pedal[0] - 0.06, pedal[1] - 0.015, pedal[0] + 0.06, pedal[1] + 0.015), (40, 40, 42))
    sketch.add(limb(seat, (seat[0] - 0.02, seat[1] + 0.08), 0.03, 0.03), (170, 172, 176))
    sketch.add(limb((seat[0] - 0.15, seat[1] + 0.1), (seat[0] + 0.13, seat[1] + 0.09), 0.08, 0.04), (40, 34, 32))
    grip = (head[0] + 0.02, head[1] + 0.08)
    sketch.add(limb(head, grip, 0.03, 0.03), (170, 172, 176))
    if dice.chance(0.4):
        sketch.add(limb(grip, (grip[0] + 0.14, grip[1]), 0.035, 0.035), (36, 36, 38))
        sketch.add(limb((grip[0] + 0.14, grip[1]), (grip[0] + 0.1, grip[1] - 0.14), 0.035, 0.03), (36, 36, 38))
    else:
        sketch.add(limb(grip, (grip[0] - 0.14, grip[1] + 0.05), 0.035, 0.045), (36, 36, 38))
    if dice.chance(0.3):
        sketch.add(rounded(rect(grip[0] + 0.02, grip[1] - 0.26, grip[0] + 0.3, grip[1] - 0.02), 0.03), (170, 130, 80))
    return sketch
