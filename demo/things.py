"""How traffic lights, stop signs, balls, chairs and potted plants are drawn."""

from __future__ import annotations

from itertools import pairwise

from demo.numeric import Dice, cos_turn, sin_turn
from demo.shapes import Color, Point, Sketch, blend, ellipse, limb, rect, ring, rounded, shade, smooth

_WOOD: tuple[Color, ...] = ((176, 120, 68), (120, 78, 46), (214, 170, 116), (86, 56, 38), (240, 236, 228))
_FABRIC: tuple[Color, ...] = (
    (60, 110, 150), (190, 60, 60), (230, 190, 80), (80, 130, 90), (150, 150, 156), (50, 54, 60), (224, 216, 200),
)  # fmt: skip


def _pole(sketch: Sketch, top: float) -> None:
    sketch.add(rect(-0.05, 0.0, 0.05, top), (142, 146, 150), (96, 100, 104), round_x=0.5, body=False)


def traffic_light(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """A three-lamp signal head on a pole; only the head is the labelled object."""
    del view
    sketch = Sketch(grain=0.03)
    foot = dice.between(2.0, 2.7)
    _pole(sketch, foot + 0.2)
    case = dice.pick(((34, 38, 38), (46, 50, 46), (196, 156, 40), (30, 54, 44)))
    sketch.add(rounded(rect(-0.19, foot, 0.19, foot + 1.02), 0.06), shade(case, 1.1), shade(case, 0.7))
    lit = int(phase * 3) % 3 if phase else dice.integer(0, 2)
    for i, color in enumerate(((46, 220, 120), (255, 190, 40), (255, 52, 40))):
        y = foot + 0.19 + i * 0.32
        sketch.add(ellipse(0, y, 0.145, 0.145), shade(case, 0.5))
        if i == lit:
            sketch.add(ellipse(0, y, 0.125, 0.125), shade(color, 1.15), color)
            sketch.add(ellipse(0, y, 0.07, 0.07, 18), shade(color, 1.7), shade(color, 1.4), alpha=0.8)
        else:
            sketch.add(ellipse(0, y, 0.125, 0.125), shade(color, 0.3), shade(color, 0.18))
        sketch.add(smooth([(-0.15, y + 0.02), (-0.12, y + 0.13), (0, y + 0.17), (0.12, y + 0.13), (0.15, y + 0.02),
                           (0.12, y + 0.09), (0, y + 0.12), (-0.12, y + 0.09)]), shade(case, 0.6))  # fmt: skip
    return sketch


_GLYPHS: dict[str, list[list[Point]]] = {
    "S": [
        [(1, 0.9), (0.75, 1), (0.25, 1), (0, 0.8), (0.2, 0.55), (0.8, 0.45), (1, 0.2), (0.75, 0), (0.25, 0), (0, 0.1)]
    ],
    "T": [[(0, 1), (1, 1)], [(0.5, 1), (0.5, 0)]],
    "O": [[(0.5, 1), (0.1, 0.85), (0, 0.5), (0.1, 0.15), (0.5, 0), (0.9, 0.15), (1, 0.5), (0.9, 0.85), (0.5, 1)]],
    "P": [[(0, 0), (0, 1), (0.75, 1), (1, 0.78), (0.75, 0.5), (0, 0.5)]],
}


def stop_sign(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """An octagonal stop sign on a pole; only the plate is the labelled object."""
    del phase, view
    sketch = Sketch(grain=0.05)
    foot = dice.between(1.6, 2.2)
    _pole(sketch, foot + 0.3)
    red = blend((206, 26, 36), (170, 30, 30), dice.unit())
    lean = dice.between(-0.012, 0.012)
    centre = foot + 0.42
    for radius, paint in ((0.455, (236, 236, 232)), (0.42, red)):
        octagon = [(radius * cos_turn(i / 8 + 1 / 16 + lean), centre + radius * sin_turn(i / 8 + 1 / 16 + lean))
                   for i in range(8)]  # fmt: skip
        sketch.add(octagon, shade(paint, 1.05), shade(paint, 0.86))
    for k, letter in enumerate("STOP"):
        x0 = -0.335 + k * 0.178
        for stroke in _GLYPHS[letter]:
            points = [(x0 + 0.125 * px, centre - 0.14 + 0.28 * py) for px, py in stroke]
            for a, b in pairwise(points):
                sketch.add(limb(a, b, 0.042, 0.042), (246, 246, 242), (236, 236, 232))
    narrow = dice.between(0.72, 1.0)
    sketch.shapes = sketch.warped(lambda x, y: (x * narrow, y))
    return sketch


def sports_ball(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """A football, basketball, volleyball or tennis ball; `phase` rolls it."""
    del view
    sketch = Sketch(grain=0.04)
    kind = dice.weighted({"football": 4, "basketball": 4, "beach": 2, "tennis": 2})
    r = {"football": 0.15, "basketball": 0.16, "beach": 0.2, "tennis": 0.09}[kind]
    turn = phase + dice.unit()
    if kind == "football":
        sketch.add(ellipse(0, r, r, r, 40), (246, 246, 244), (206, 206, 208), ball=0.22)
        mark = dice.pick(((30, 30, 34), (30, 60, 140), (180, 30, 40)))
        for i in range(6):
            far = 0.0 if i == 5 else 0.74
            a = turn + i / 5
            cx, cy = r * far * cos_turn(a), r + r * far * sin_turn(a)
            squeeze = 1.0 if i == 5 else 0.62
            patch = [(cx + r * 0.32 * (cos_turn(a + k / 5) * squeeze), cy + r * 0.32 * sin_turn(a + k / 5))
                     for k in range(5)]  # fmt: skip
            sketch.add(patch, mark, shade(mark, 0.7))
            if i < 5:
                sketch.add(limb((0.3 * cx, r + 0.3 * (cy - r)), (cx, cy), r * 0.035, r * 0.035), (120, 120, 124))
    elif kind == "beach":
        colors: tuple[Color, ...] = ((236, 60, 60), (250, 250, 246), (40, 120, 210), (250, 210, 60), (60, 170, 90))
        for i in range(6):
            wedge: list[Point] = [(0.25 * r * cos_turn(turn), r + 0.25 * r * sin_turn(turn))]
            wedge += [
                (r * cos_turn(turn + (i + k / 6) / 6), r + r * sin_turn(turn + (i + k / 6) / 6)) for k in range(7)
            ]
            sketch.add(wedge, colors[(2 * i) % 5 if i % 2 == 0 else 1])
    else:
        paint: Color = (226, 116, 44) if kind == "basketball" else (206, 228, 60)
        line: Color = (50, 32, 26) if kind == "basketball" else (240, 244, 230)
        sketch.add(ellipse(0, r, r, r, 40), shade(paint, 1.1), shade(paint, 0.7), ball=0.22)
        for shift in (-0.95, 0.95):
            arc = []
            for k in range(-4, 5):
                px, py = shift * r * (0.68 - 0.36 * cos_turn(k / 18)), 0.76 * r * sin_turn(k / 18)
                arc.append((px * cos_turn(turn) - py * sin_turn(turn), r + px * sin_turn(turn) + py * cos_turn(turn)))
            for a2, b2 in pairwise(arc):
                sketch.add(limb(a2, b2, r * 0.06, r * 0.06), line)
        if kind == "basketball":
            dx, dy = 0.97 * r * cos_turn(turn), 0.97 * r * sin_turn(turn)
            sketch.add(limb((-dx, r - dy), (dx, r + dy), r * 0.06, r * 0.06), line)
            sketch.add(limb((-dy, r + dx), (dy, r - dx), r * 0.06, r * 0.06), line)
    sketch.add(ellipse(0, r * 0.72, r * 0.96, r * 0.7, 30), (20, 20, 26), (0, 0, 0), alpha=0.1)
    sketch.add(ellipse(-0.34 * r, 1.42 * r, 0.24 * r, 0.17 * r, 18, 0.1), (255, 255, 255), (255, 255, 255), alpha=0.5)
    return sketch


def chair(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """A wooden chair, an armchair or an office chair, half from the side."""
    del phase
    kind = view or dice.weighted({"wood": 5, "arm": 3, "office": 2})
    sketch = Sketch(grain=0.07)
    wood, cloth = dice.pick(_WOOD), dice.pick(_FABRIC)
    if kind == "arm":
        _armchair(sketch, cloth, shade(wood, 0.7))
    elif kind == "office":
        _office_chair(sketch, cloth)
    else:
        _wooden_chair(sketch, dice, wood, cloth)
    return sketch


def _wooden_chair(sketch: Sketch, dice: Dice, wood: Color, cloth: Color) -> None:
    far, deep = shade(wood, 0.65), 0.14
    sketch.add(limb((0.24, 0.52), (0.26, deep), 0.04, 0.035), far)
    sketch.add(limb((-0.06, 0.52), (-0.06, deep), 0.04, 0.035), far)
    lean = dice.between(0.03, 0.1)
    tall = dice.between(0.88, 1.02)
    left, right = (-0.24 - lean, tall), (0.0 - lean + 0.02, tall + 0.07)
    slats = dice.chance(0.5)
    if slats:
        for i in range(1, 4):
            t = i / 4
            top = (left[0] + (right[0] - left[0]) * t, left[1] + 0.07 * t)
            sketch.add(limb((-0.22 + 0.2 * t, 0.46), top, 0.03, 0.03), shade(wood, 0.9))
    else:
        back = [(-0.23 - lean * 0.4, 0.62), (-0.02 - lean * 0.4, 0.68), (right[0], right[1] - 0.02), left]
        sketch.add(rounded(back, 0.04), shade(wood, 1.05), shade(wood, 0.85))
    sketch.add(limb((-0.03, 0.5), right, 0.045, 0.04), shade(wood, 0.8))
    sketch.add(limb(left, right, 0.07, 0.06), shade(wood, 1.1), wood)
    seat = [(-0.26, 0.44), (0.22, 0.42), (0.32, 0.53), (-0.06, 0.55)]
    sketch.add([(x, y - 0.05) for x, y in seat], shade(wood, 0.6))
    sketch.add(rounded(seat, 0.04), *((shade(cloth, 1.1), cloth) if dice.chance(0.5) else (shade(wood, 1.2), wood)))
    sketch.add(limb((0.2, 0.42), (0.22, 0.02), 0.05, 0.04), wood)
    sketch.add(limb((-0.24, 0.4), (-0.26, 0.02), 0.05, 0.04), wood)
    sketch.add(limb((-0.24, 0.42), left, 0.05, 0.045), shade(wood, 1.08), wood)
    sketch.add(limb((-0.25, 0.2), (0.21, 0.2), 0.03, 0.03), shade(wood, 0.8))


def _armchair(sketch: Sketch, cloth: Color, wood: Color) -> None:
    for x in (-0.36, 0.36, -0.22, 0.3):
        sketch.add(limb((x, 0.2), (x * 1.04, 0.02), 0.05, 0.035), wood)
    sketch.add(
        rounded([(-0.36, 0.2), (-0.4, 0.98), (0.4, 0.98), (0.36, 0.2)], 0.14), shade(cloth, 1.08), shade(cloth, 0.75)
    )
    sketch.add(rounded(rect(-0.29, 0.5, 0.29, 0.92), 0.1), shade(cloth, 1.15), shade(cloth, 0.85))
    sketch.add(rounded(rect(-0.3, 0.34, 0.3, 0.54), 0.08), shade(cloth, 1.25), shade(cloth, 0.8))
    sketch.add(rounded(rect(-0.36, 0.14, 0.36, 0.36), 0.06), shade(cloth, 0.85), shade(cloth, 0.6))
    for side in (-1, 1):
        sketch.add(
            rounded(rect(side * 0.38 - 0.1, 0.14, side * 0.38 + 0.1, 0.66), 0.09), shade(cloth, 1.1), shade(cloth, 0.62)
        )


def _office_chair(sketch: Sketch, cloth: Color) -> None:
    for x, y in ((-0.28, 0.06), (0.28, 0.06), (-0.16, 0.02), (0.17, 0.02), (0.0, 0.05)):
        sketch.add(limb((0, 0.14), (x, y + 0.03), 0.05, 0.035), (50, 52, 56))
        sketch.add(ellipse(x, y + 0.02, 0.035, 0.035, 12), (24, 24, 26))
    sketch.add(rect(-0.025, 0.12, 0.025, 0.44), (150, 152, 156), (80, 82, 86), round_x=0.6)
    sketch.add(limb((-0.02, 0.46), (-0.2, 0.7), 0.05, 0.05), (46, 48, 52))
    sketch.add(
        rounded([(-0.3, 0.56), (-0.34, 1.08), (0.02, 1.12), (0.02, 0.6)], 0.12), shade(cloth, 1.1), shade(cloth, 0.7)
    )
    sketch.add(
        rounded([(-0.28, 0.42), (-0.26, 0.53), (0.24, 0.55), (0.3, 0.45)], 0.06), shade(cloth, 1.2), shade(cloth, 0.7)
    )
    sketch.add(limb((-0.06, 0.72), (0.16, 0.72), 0.045, 0.045), (40, 42, 46))
    sketch.add(limb((0.12, 0.5), (0.14, 0.72), 0.035, 0.035), (60, 62, 66))


def potted_plant(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """A plant in a pot: arching blades, broad leaves on stems, or a bush with flowers."""
    del phase
    sketch = Sketch(grain=0.06)
    pot = dice.pick(((186, 96, 60), (232, 230, 224), (70, 76, 84), (60, 120, 140), (210, 170, 90), (150, 70, 60)))
    leaf = blend(dice.pick(((50, 120, 52), (80, 150, 60), (34, 96, 60), (120, 160, 70))), (60, 130, 60), 0.3)
    kind = view or dice.weighted({"blades": 3, "leaves": 3, "bush": 3})
    tall = dice.between(0.45, 0.95)
    count = {"blades": 15, "leaves": 12, "bush": 34}[kind]
    for i in range(count):
        tone = shade(leaf, 0.6 + 0.65 * (i + 1) / count)
        if kind == "blades":
            _blade(sketch, dice, tall, tone)
        elif kind == "leaves":
            x, y = dice.between(-0.34, 0.34), 0.34 + tall * dice.between(0.25, 0.95)
            sketch.add(limb((0, 0.3), (x, y), 0.018, 0.012), shade(leaf, 0.55))
            turn = dice.between(-0.09, 0.09) + (0.1 if x < 0 else -0.1)
            sketch.add(
                ellipse(x, y, dice.between(0.07, 0.12), dice.between(0.13, 0.2), 18, turn), shade(tone, 1.15), tone
            )
        else:
            x, y = dice.between(-0.3, 0.3), 0.36 + 0.6 * tall * dice.unit()
            x *= 1.15 - (y - 0.36)
            sketch.add(ellipse(x, y, 0.09, 0.06, 12, dice.unit()), shade(tone, 1.1), shade(tone, 0.85))
    if kind == "bush" and dice.chance(0.6):
        bloom = dice.pick(((230, 70, 90), (250, 220, 90), (240, 240, 250), (190, 110, 210)))
        for _ in range(9):
            sketch.add(ellipse(dice.between(-0.28, 0.28), 0.4 + 0.5 * tall * dice.unit(), 0.04, 0.04, 12), bloom)
    side = rounded([(-0.16, 0.0), (0.16, 0.0), (0.22, 0.34), (-0.22, 0.34)], 0.03)
    sketch.add(side, shade(pot, 1.1), shade(pot, 0.8), round_x=0.4)
    sketch.add(rounded(rect(-0.24, 0.3, 0.24, 0.38), 0.03), shade(pot, 1.2), shade(pot, 0.9), round_x=0.4)
    if dice.chance(0.3):
        sketch.add(ring(0, 0.16, 0.07, 0.05, 20), shade(pot, 1.5), alpha=0.7)
    return sketch


def _blade(sketch: Sketch, dice: Dice, tall: float, tone: Color) -> None:
    """One arching leaf as a thin crescent."""
    x = dice.between(-0.42, 0.42)
    top = 0.36 + tall * dice.between(0.6, 1.0)
    droop = top - abs(x) * dice.between(0.2, 0.7)
    width = dice.between(0.02, 0.04)
    mid = (x * 0.45, 0.36 + (top - 0.3) * 0.75)
    sketch.add(smooth([(0.05 * x - width, 0.3), (mid[0] - width, mid[1]), (x, droop), (mid[0] + width, mid[1] - 0.02),
                       (0.05 * x + width, 0.3)]), shade(tone, 1.2), tone)  # fmt: skip
