"""Things without a label: trees, lamps, tables. They fill the scene, hide objects and keep the detector honest."""

from __future__ import annotations

import math
from collections.abc import Callable

from demo.numeric import Dice, cos_turn, sin_turn
from demo.shapes import Sketch, blend, ellipse, limb, rect, rounded, shade


def _tree(dice: Dice) -> Sketch:
    sketch = Sketch(grain=0.2)
    leaf = dice.pick(((70, 124, 54), (100, 140, 60), (50, 96, 58), (186, 136, 56)))
    trunk, crown = dice.between(1.4, 2.4), dice.between(1.0, 1.7)
    sketch.add(
        [(-0.16, 0), (0.16, 0), (0.09, trunk + 0.5), (-0.09, trunk + 0.5)], (110, 84, 62), (70, 52, 40), round_x=0.4
    )
    middle = trunk + crown * 0.85
    for i in range(46):
        reach, turn = crown * 0.85 * math.sqrt(dice.unit()), dice.unit()
        x, y = reach * cos_turn(turn), middle + 0.9 * reach * sin_turn(turn)
        height = (y - middle + crown) / (2 * crown)
        tone = shade(leaf, 0.45 + 0.55 * height + 0.012 * (i % 12))
        size = crown * dice.between(0.16, 0.3)
        sketch.add(ellipse(x, y, size, size * 0.75, 12, dice.unit()), shade(tone, 1.12), shade(tone, 0.8))
    return sketch


def _bush(dice: Dice) -> Sketch:
    sketch = Sketch(grain=0.2)
    leaf = blend((60, 110, 50), (110, 130, 60), dice.unit())
    for i in range(26):
        x = dice.between(-0.55, 0.55)
        y = 0.12 + 0.6 * dice.unit() * (1 - x * x)
        tone = shade(leaf, 0.5 + 0.5 * y + 0.012 * i)
        sketch.add(ellipse(x, y, 0.17, 0.13, 12, dice.unit()), shade(tone, 1.12), shade(tone, 0.8))
    return sketch


def _lamp(dice: Dice) -> Sketch:
    sketch = Sketch(grain=0.03)
    steel = dice.pick(((70, 76, 80), (40, 60, 54), (130, 134, 138)))
    sketch.add([(-0.09, 0), (0.09, 0), (0.04, 4.6), (-0.04, 4.6)], shade(steel, 1.2), steel, round_x=0.5)
    sketch.add(limb((0, 4.55), (0.9, 4.8), 0.08, 0.06), steel)
    sketch.add(rounded(rect(0.7, 4.68, 1.25, 4.84), 0.06), shade(steel, 1.3), (236, 232, 210))
    return sketch


def _table(dice: Dice) -> Sketch:
    sketch = Sketch(grain=0.08)
    wood = dice.pick(((150, 104, 64), (96, 66, 46), (226, 220, 210)))
    for x in (-0.6, 0.6, -0.42, 0.42):
        sketch.add(limb((x, 0.68), (x, 0.04 + (0.12 if abs(x) < 0.5 else 0)), 0.06, 0.05), shade(wood, 0.8))
    sketch.add(rounded([(-0.72, 0.7), (-0.55, 0.82), (0.55, 0.82), (0.72, 0.7)], 0.03), shade(wood, 1.25), wood)
    sketch.add(rect(-0.72, 0.64, 0.72, 0.7), shade(wood, 0.8))
    return sketch


def _lamp_stand(dice: Dice) -> Sketch:
    sketch = Sketch(grain=0.05)
    cloth = dice.pick(((246, 226, 180), (232, 232, 226), (220, 150, 90)))
    sketch.add(ellipse(0, 0.03, 0.16, 0.035), (70, 66, 62))
    sketch.add(rect(-0.015, 0.03, 0.015, 1.3), (120, 114, 106))
    sketch.add([(-0.22, 1.2), (0.22, 1.2), (0.13, 1.58), (-0.13, 1.58)], shade(cloth, 1.2), cloth, round_x=0.2)
    return sketch


def _crate(dice: Dice) -> Sketch:
    sketch = Sketch(grain=0.14)
    wood = dice.pick(((180, 136, 86), (150, 112, 72), (120, 120, 124)))
    sketch.add(rect(-0.32, 0, 0.32, 0.5), shade(wood, 0.6))
    for y in (0.02, 0.18, 0.34):
        sketch.add(rounded(rect(-0.34, y, 0.34, y + 0.13), 0.01), shade(wood, 1.1), shade(wood, 0.85))
    for x in (-0.3, 0.24):
        sketch.add(rect(x, 0, x + 0.06, 0.5), shade(wood, 0.9))
    return sketch


def _parasol(dice: Dice) -> Sketch:
    sketch = Sketch(grain=0.04)
    cloth = dice.pick(((220, 70, 60), (60, 120, 180), (240, 200, 90), (80, 150, 110)))
    sketch.add(rect(-0.025, 0, 0.025, 2.1), (226, 220, 208), round_x=0.5)
    for i in range(6):
        a, b = -1.1 + i * 2.2 / 6, -1.1 + (i + 1) * 2.2 / 6
        tone = cloth if i % 2 else (244, 240, 230)
        sketch.add([(a, 1.72), ((a + b) / 2, 1.66), (b, 1.72), (b * 0.55, 2.05), (0.0, 2.2), (a * 0.55, 2.05)], tone)
    return sketch


DECOR: dict[str, Callable[[Dice], Sketch]] = {
    "tree": _tree,
    "bush": _bush,
    "lamp": _lamp,
    "table": _table,
    "lamp stand": _lamp_stand,
    "crate": _crate,
    "parasol": _parasol,
}
