"""How people, dogs and birds are drawn. `phase` is a point of the walking or wing cycle, in turns."""

from __future__ import annotations

from demo.numeric import Dice, cos_turn, sin_turn
from demo.shapes import Color, Point, Sketch, blend, ellipse, limb, rect, rounded, shade, smooth

_SKIN: tuple[Color, ...] = ((246, 208, 176), (226, 178, 140), (196, 142, 100), (150, 100, 66), (98, 64, 44))
_HAIR: tuple[Color, ...] = ((40, 30, 26), (84, 54, 34), (150, 104, 56), (206, 170, 104), (150, 150, 152), (120, 48, 28))
_CLOTH: tuple[Color, ...] = (
    (190, 42, 48), (36, 70, 132), (240, 240, 236), (44, 46, 52), (226, 178, 56), (64, 124, 84), (230, 128, 150),
    (120, 84, 140), (96, 160, 200), (232, 110, 50), (130, 136, 140), (60, 90, 76), (200, 190, 160),
)  # fmt: skip
_LEGWEAR: tuple[Color, ...] = (
    (44, 58, 92),
    (36, 36, 42),
    (120, 104, 82),
    (86, 94, 104),
    (150, 136, 110),
    (70, 88, 120),
)
_FUR: tuple[Color, ...] = (
    (176, 124, 70),
    (60, 48, 42),
    (226, 208, 176),
    (120, 80, 48),
    (150, 146, 142),
    (206, 150, 92),
)


def _leg(sketch: Sketch, hip: Point, swing: float, bend: float, cloth: Color, shoe: Color, skin: Color | None) -> None:
    """One leg from the hip: `swing` and `bend` in turns, bare below the knee when `skin` is given."""
    knee = (hip[0] + 0.44 * sin_turn(swing), hip[1] - 0.44 * cos_turn(swing))
    low = swing - bend
    ankle = (knee[0] + 0.4 * sin_turn(low), knee[1] - 0.4 * cos_turn(low))
    sketch.add(rounded([(ankle[0] - 0.07, ankle[1] - 0.07), (ankle[0] - 0.06, ankle[1] + 0.05),
                        (ankle[0] + 0.07, ankle[1] + 0.04), (ankle[0] + 0.19, ankle[1] - 0.03),
                        (ankle[0] + 0.19, ankle[1] - 0.07)], 0.04), shoe)  # fmt: skip
    sketch.add(limb(knee, ankle, 0.13, 0.09), skin or cloth, shade(skin or cloth, 0.8), round_x=0.2)
    sketch.add(limb(hip, knee, 0.19, 0.14), cloth, shade(cloth, 0.85), round_x=0.2)


def _arm(sketch: Sketch, shoulder: Point, swing: float, bend: float, cloth: Color, skin: Color, bare: bool) -> Point:
    """One arm; returns where the hand is."""
    elbow = (shoulder[0] + 0.28 * sin_turn(swing), shoulder[1] - 0.28 * cos_turn(swing))
    hand = (elbow[0] + 0.25 * sin_turn(swing + bend), elbow[1] - 0.25 * cos_turn(swing + bend))
    sketch.add(ellipse(hand[0], hand[1], 0.05, 0.055, 14), skin)
    sketch.add(limb(elbow, hand, 0.09, 0.065), skin if bare else cloth, round_x=0.2)
    sketch.add(limb(shoulder, elbow, 0.13, 0.1), cloth, shade(cloth, 0.85), round_x=0.2)
    return hand


def _head(sketch: Sketch, x: float, facing: float, skin: Color, hair: Color, dice: Dice) -> None:
    """Neck, face and hair; `facing` 0 towards the viewer, 1 to the right, -1 away."""
    y = 1.62
    style = dice.weighted({"short": 4, "long": 3, "hat": 1.4, "bun": 1})
    if style == "long":
        sketch.add(smooth([(x - 0.14, y), (x - 0.13, y - 0.28), (x, y - 0.3), (x + 0.1, y - 0.26), (x + 0.12, y),
                           (x, y + 0.14)]), hair)  # fmt: skip
    if style == "bun":
        sketch.add(ellipse(x - 0.1 * facing, y + 0.13, 0.07, 0.07, 14), hair)
    sketch.add(limb((x, y - 0.2), (x, y - 0.08), 0.11, 0.1), shade(skin, 0.85))
    sketch.add(ellipse(x + 0.01 * facing, y, 0.105, 0.135), skin, shade(skin, 0.86), round_x=0.25)
    if facing < 0:
        sketch.add(ellipse(x, y + 0.02, 0.115, 0.13), hair)
    elif facing > 0:
        sketch.add(smooth([(x - 0.12, y - 0.08), (x - 0.13, y + 0.06), (x - 0.04, y + 0.15), (x + 0.1, y + 0.1),
                           (x + 0.06, y + 0.05), (x - 0.02, y + 0.03), (x - 0.04, y - 0.08)]), hair)  # fmt: skip
        sketch.add(ellipse(x + 0.11, y - 0.02, 0.02, 0.025, 10), skin)
        sketch.add(ellipse(x + 0.07, y + 0.015, 0.012, 0.015, 8), (40, 30, 28))
    else:
        sketch.add(smooth([(x - 0.115, y - 0.02), (x - 0.12, y + 0.08), (x, y + 0.155), (x + 0.12, y + 0.08),
                           (x + 0.115, y - 0.02), (x + 0.07, y + 0.07), (x - 0.06, y + 0.075)]), hair)  # fmt: skip
        for side in (-1, 1):
            sketch.add(ellipse(x + side * 0.04, y + 0.01, 0.014, 0.012, 8), (46, 34, 30))
        sketch.add(limb((x - 0.03, y - 0.07), (x + 0.03, y - 0.07), 0.014, 0.014), (170, 84, 80))
    if style == "hat":
        cap = dice.pick(_CLOTH)
        sketch.add(smooth([(x - 0.13, y + 0.05), (x - 0.1, y + 0.16), (x + 0.02, y + 0.19), (x + 0.12, y + 0.13),
                           (x + 0.13, y + 0.05)]), cap)  # fmt: skip
        sketch.add(
            limb((x - 0.02, y + 0.06), (x + 0.12 + 0.08 * max(facing, 0), y + 0.05), 0.04, 0.03), shade(cap, 0.7)
        )


def person(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """An adult or a child: standing, walking or waving, from the side, the front or behind."""
    sketch = Sketch(grain=0.05)
    skin, hair, shirt, trousers = dice.pick(_SKIN), dice.pick(_HAIR), dice.pick(_CLOTH), dice.pick(_LEGWEAR)
    shirt = blend(shirt, dice.pick(_CLOTH), dice.between(0, 0.25))
    shoe = dice.pick(((40, 36, 36), (230, 230, 228), (120, 70, 40), (190, 50, 50)))
    bare_arm, shorts, skirt = dice.chance(0.5), dice.chance(0.25), dice.chance(0.22)
    view = view or dice.weighted({"side": 4, "front": 4, "back": 2})
    parts = (skin, shirt, shade(trousers, 0.8), shoe)
    if view == "side":
        _walker(sketch, dice, phase + dice.unit(), parts, bare_arm, shorts, skirt)
        _head(sketch, 0.04, 1.0, skin, hair, dice.child(1))
    else:
        _stander(sketch, dice, parts, bare_arm, shorts, skirt, view == "back")
        _head(sketch, 0.0, 0.0 if view == "front" else -1.0, skin, hair, dice.child(1))
    size, girth = dice.pick((0.62, 0.9, 0.96, 1.0, 1.0, 1.05)), dice.between(0.92, 1.18)
    sketch.shapes = sketch.warped(lambda x, y: (x * size * girth, y * size))
    return sketch


def _skirt(sketch: Sketch, cloth: Color, half: float) -> None:
    sketch.add(rounded([(-0.15, 1.0), (0.15, 1.0), (half, 0.5), (-half, 0.5)], 0.04), cloth, shade(cloth, 0.75))


def _walker(
    sketch: Sketch, dice: Dice, phase: float, parts: tuple[Color, ...], bare: bool, shorts: bool, skirt: bool
) -> None:
    """Seen from the side, facing right."""
    skin, shirt, trousers, shoe = parts
    stride = dice.between(0.05, 0.1)
    s = sin_turn(phase)
    leg_skin = skin if shorts or skirt else None
    far = [shade(c, 0.72) for c in (skin, shirt, trousers)]
    _arm(sketch, (0.0, 1.38), stride * s * 0.9, 0.05, far[1], far[0], bare)
    _leg(sketch, (0.0, 0.9), -stride * s, 0.02 + 0.06 * max(0.0, -cos_turn(phase)), far[2], shoe,
         far[0] if leg_skin else None)  # fmt: skip
    _leg(sketch, (0.0, 0.9), stride * s, 0.02 + 0.06 * max(0.0, cos_turn(phase)), trousers, shoe, leg_skin)
    if skirt:
        _skirt(sketch, trousers, 0.24)
    if dice.chance(0.3):
        bag = dice.pick(_CLOTH)
        sketch.add(rounded(rect(-0.3, 0.98, -0.06, 1.42), 0.08), bag)
    sketch.add(smooth([(-0.12, 0.86), (-0.14, 1.1), (-0.13, 1.36), (-0.02, 1.46), (0.1, 1.4), (0.14, 1.22), (0.13, 1.0),
                       (0.12, 0.86)]), shirt, shade(shirt, 0.8), round_x=0.25)  # fmt: skip
    _arm(sketch, (0.0, 1.37), -stride * s * 0.9, 0.06, shade(shirt, 0.94), skin, bare)


def _stander(
    sketch: Sketch, dice: Dice, parts: tuple[Color, ...], bare: bool, shorts: bool, skirt: bool, back: bool
) -> None:
    """Seen from the front or from behind."""
    skin, shirt, trousers, shoe = parts
    leg_skin = skin if shorts or skirt else None
    spread = dice.between(0.0, 0.025)
    _leg(sketch, (-0.09, 0.9), -spread, -0.005, trousers, shoe, leg_skin)
    _leg(sketch, (0.09, 0.9), spread, 0.005, shade(trousers, 0.92), shoe, leg_skin)
    if skirt:
        _skirt(sketch, trousers, 0.27)
    left, right = dice.between(-0.05, -0.015), dice.between(0.015, 0.05)
    if dice.chance(0.18):
        right = dice.between(0.3, 0.42)
    _arm(sketch, (-0.19, 1.37), left, dice.between(-0.01, 0.04), shade(shirt, 0.9), skin, bare)
    _arm(sketch, (0.19, 1.37), right, dice.between(-0.02, 0.06), shade(shirt, 0.9), skin, bare)
    sketch.add(smooth([(-0.15, 0.86), (-0.15, 1.08), (-0.23, 1.36), (-0.1, 1.46), (0.1, 1.46), (0.23, 1.36),
                       (0.15, 1.08), (0.15, 0.86)]), shirt, shade(shirt, 0.8), round_x=0.2)  # fmt: skip
    extra = dice.weighted({"plain": 3, "stripe": 1, "open": 1, "print": 1})
    tone = dice.pick(_CLOTH)
    if back and dice.chance(0.4):
        sketch.add(rounded(rect(-0.16, 0.98, 0.16, 1.4), 0.07), tone)
        sketch.add(rounded(rect(-0.11, 1.0, 0.11, 1.16), 0.03), shade(tone, 0.8))
    elif extra == "stripe":
        for y in (1.02, 1.14, 1.26):
            sketch.add(rect(-0.15, y, 0.15, y + 0.05), tone, alpha=0.85)
    elif extra == "open" and not back:
        sketch.add(rounded([(-0.05, 0.88), (-0.06, 1.44), (0.06, 1.44), (0.05, 0.88)], 0.02), tone)
    elif extra == "print" and not back:
        sketch.add(ellipse(0, 1.22, 0.08, 0.07, 18), tone)


def dog(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """A dog from the side: long or short legs, hanging or pointed ears, plain or patched."""
    del view
    sketch = Sketch(grain=0.16)
    fur = blend(dice.pick(_FUR), dice.pick(_FUR), dice.between(0, 0.3))
    legs, bulk = dice.between(0.22, 0.36), dice.between(0.85, 1.15)
    back = legs + 0.27
    phase += dice.unit()
    for x, lag, tone in ((-0.24, 0.5, 0.7), (0.26, 0.0, 0.7), (-0.3, 0.0, 1.0), (0.2, 0.5, 1.0)):
        swing = 0.06 * sin_turn(phase + lag)
        knee = (x + legs * 0.5 * sin_turn(swing), legs * 0.52)
        paw = (x + legs * sin_turn(swing) * 0.9, 0.03)
        sketch.add(limb((x, legs + 0.08), knee, 0.13 * bulk, 0.075), shade(fur, tone), shade(fur, tone * 0.85))
        sketch.add(limb(knee, paw, 0.07, 0.06), shade(fur, tone), shade(fur, tone * 0.9))
        sketch.add(limb(paw, (paw[0] + 0.05, 0.03), 0.06, 0.05), shade(fur, tone * 0.9))
    wag = 0.05 * sin_turn(phase * 2)
    tail = (-0.56, back + dice.between(-0.1, 0.16) + wag)
    sketch.add(limb((-0.36, back - 0.05), tail, 0.08, 0.04), fur, shade(fur, 0.85))
    sketch.add(smooth([(-0.42, back - 0.04), (-0.2, back), (0.1, back - 0.02), (0.3, back + 0.03), (0.4, back - 0.08),
                       (0.34, legs + 0.02), (0.1, legs + 0.01), (-0.15, legs + 0.07), (-0.36, legs + 0.04),
                       (-0.45, legs + 0.12)]), shade(fur, 1.08), shade(fur, 0.68))  # fmt: skip
    if dice.chance(0.45):
        patch = dice.pick(_FUR)
        sketch.add(ellipse(dice.between(-0.25, 0.1), back - 0.1, 0.13, 0.09, 20, 0.05), patch, alpha=0.9)
        sketch.add(ellipse(0.3, legs + 0.1, 0.07, 0.09, 20), patch, alpha=0.9)
    head = (0.5, back + 0.15)
    sketch.add(limb((0.3, back - 0.08), head, 0.22 * bulk, 0.17), shade(fur, 1.05), shade(fur, 0.8))
    sketch.add(limb((head[0] + 0.03, head[1] - 0.01), (head[0] + 0.2, head[1] - 0.05), 0.16, 0.09), fur)
    sketch.add(ellipse(head[0], head[1], 0.12, 0.115, 22), shade(fur, 1.08), shade(fur, 0.85))
    sketch.add(ellipse(head[0] + 0.24, head[1] - 0.03, 0.028, 0.024, 12), (26, 22, 22))
    sketch.add(ellipse(head[0] + 0.06, head[1] + 0.03, 0.017, 0.017, 10), (24, 18, 16))
    ear = shade(fur, 0.66)
    if dice.chance(0.55):
        sketch.add(smooth([(head[0] - 0.06, head[1] + 0.1), (head[0] - 0.13, head[1] - 0.02),
                           (head[0] - 0.08, head[1] - 0.14), (head[0] - 0.01, head[1] - 0.04)]), ear)  # fmt: skip
    else:
        sketch.add(rounded([(head[0] - 0.1, head[1] + 0.06), (head[0] - 0.06, head[1] + 0.22),
                            (head[0] + 0.04, head[1] + 0.08)], 0.02), ear)  # fmt: skip
    if dice.chance(0.5):
        sketch.add(limb((0.36, back + 0.1), (0.48, back - 0.02), 0.035, 0.035), dice.pick(_CLOTH))
    return sketch


_PLUMAGE: tuple[tuple[Color, Color], ...] = (
    ((238, 240, 242), (150, 156, 164)), ((70, 74, 84), (46, 48, 56)), ((120, 126, 138), (90, 94, 106)),
    ((140, 100, 70), (96, 66, 44)), ((70, 110, 160), (44, 72, 120)), ((190, 70, 50), (110, 50, 44)),
)  # fmt: skip


def bird(dice: Dice, phase: float = 0.0, view: str = "") -> Sketch:
    """A gull-, crow- or pigeon-like bird, in flight or standing."""
    body, wing = dice.pick(_PLUMAGE)
    view = view or ("flying" if dice.chance(0.6) else "standing")
    sketch = Sketch(grain=0.1, flying=view == "flying")
    beak = dice.pick(((230, 160, 50), (60, 56, 54), (214, 110, 50)))
    if view == "flying":
        lift = 0.2 * sin_turn(phase + dice.unit()) + 0.14
        for root, tone in ((-0.05, 0.75), (0.0, 1.0)):
            tip = (root - 0.1 + (0.1 if tone < 1 else -0.16), 0.1 + lift * (1.0 if tone == 1 else 1.15))
            sketch.add(smooth([(root + 0.1, 0.08), (root + 0.04, 0.1 + lift * 0.6), tip,
                               (root - 0.14, 0.08 + lift * 0.4), (root - 0.1, 0.06)]),
                       shade(wing, tone), shade(wing, tone * 0.8))  # fmt: skip
        sketch.add(rounded([(-0.22, 0.07), (-0.4, 0.11), (-0.38, 0.0), (-0.22, 0.03)], 0.02), wing)
        sketch.add(smooth([(-0.26, 0.05), (0.0, 0.1), (0.18, 0.1), (0.24, 0.06), (0.1, -0.02), (-0.1, -0.02)]), body)
        sketch.add(ellipse(0.22, 0.09, 0.06, 0.055, 18), body)
        sketch.add(rounded([(0.26, 0.11), (0.35, 0.08), (0.26, 0.06)], 0.01), beak)
        sketch.add(ellipse(0.24, 0.1, 0.01, 0.01, 8), (20, 18, 18))
        return sketch
    for x in (0.0, 0.05):
        sketch.add(limb((x, 0.12), (x + 0.01, 0.01), 0.016, 0.014), beak)
        sketch.add(limb((x - 0.01, 0.008), (x + 0.045, 0.008), 0.014, 0.01), beak)
    sketch.add(rounded([(-0.1, 0.2), (-0.28, 0.13), (-0.26, 0.08), (-0.08, 0.12)], 0.02), shade(wing, 0.8))
    sketch.add(smooth([(-0.16, 0.15), (-0.04, 0.25), (0.1, 0.27), (0.15, 0.2), (0.1, 0.11), (-0.04, 0.09)]), body)
    sketch.add(smooth([(-0.18, 0.13), (-0.04, 0.23), (0.06, 0.22), (0.03, 0.14), (-0.08, 0.12)]), wing)
    sketch.add(limb((0.1, 0.22), (0.14, 0.31), 0.09, 0.07), body)
    sketch.add(ellipse(0.15, 0.32, 0.05, 0.047, 18), body)
    sketch.add(rounded([(0.185, 0.335), (0.26, 0.31), (0.185, 0.3)], 0.01), beak)
    sketch.add(ellipse(0.165, 0.33, 0.009, 0.009, 8), (20, 18, 18))
    return sketch
