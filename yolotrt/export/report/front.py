"""Accuracy over latency as an SVG: the versions that were measured, and nothing between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from yolotrt.export.gate.proof import Latency, Proof, Version
from yolotrt.export.report.bars import swatch
from yolotrt.export.report.markup import Node, add, node
from yolotrt.export.report.style import COLOURS
from yolotrt.export.report.words import budget, conditions, kept, milliseconds, unmeasured

# In units of the drawing, which are pixels on the narrowest phones, so that the text is not scaled down there.
_WIDTH, _HEIGHT = 330, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 42
_LINE = 14
_TEXT = {"font_size": "12", "fill": "currentColor"}


def front(proof: Proof) -> list[Node]:
    """The section's content: a plot with its legend, or why there is none."""
    measured = [v for v in proof.versions if v.latency is not None]
    like = _conditions_to_compare(measured, proof)
    points = [v for v in measured if v.latency is not None and _same(v.latency, like)]
    if like is None or len(points) < 2:
        return [node("p", _why_not(proof, measured))]
    figure = node("figure", _plot(points, proof), node("figcaption", _legend(points, proof.max_drop)))
    runs = sorted(v.latency.runs for v in points if v.latency)
    often = f"{runs[0]:,}" if runs[0] == runs[-1] else f"{runs[0]:,} to {runs[-1]:,}"
    text = (
        f"Measured with {conditions(like)}, {often} runs of each. Left and up is better; the dashed line is the "
        f"budget, {budget(proof.max_drop)} below FP32."
    )
    found = [node("p", text, class_="muted"), figure]
    if len(points) < len(measured):
        left_out = ", ".join(v.name for v in measured if v not in points)
        found.append(node("p", f"Measured under other conditions and not drawn: {left_out}.", class_="muted"))
    return found


def _conditions_to_compare(measured: Sequence[Version], proof: Proof) -> Latency | None:
    """The conditions of the chosen version; if that was not measured, of the first one that was."""
    return next((v.latency for v in (proof.chosen, *measured) if v.latency is not None), None)


def _same(a: Latency, b: Latency | None) -> bool:
    return b is not None and conditions(a) == conditions(b)


def _why_not(proof: Proof, measured: Sequence[Version]) -> str:
    if len(measured) > 1:
        return "The latencies were measured under different conditions, so they are not drawn together."
    if measured:
        return f"Only the latency of {measured[0].name} was measured, so there is nothing to set against each other."
    reason = unmeasured(proof.versions) or "Latency was not measured."
    return f"{reason} So nothing is said about speed here."


def _plot(points: Sequence[Version], proof: Proof) -> Node:
    latencies = [v.latency.p50_ms for v in points if v.latency]
    x_ticks = _ticks(0.0, max(latencies) * 1.12, 5)
    floor = 1 - proof.max_drop
    lowest, highest = min(floor, *(v.relative for v in points)), max(1.0, *(v.relative for v in points))
    room = max(highest - lowest, 1e-4) * 0.12
    y_ticks = _ticks((lowest - room) * 100, (highest + room) * 100, 5)
    x_scale = (_WIDTH - _LEFT - _RIGHT) / (x_ticks[-1] - x_ticks[0])
    y_scale = (_HEIGHT - _TOP - _BOTTOM) / (y_ticks[-1] - y_ticks[0])

    def x_of(milliseconds: float) -> float:
        return _LEFT + (milliseconds - x_ticks[0]) * x_scale

    def y_of(per_cent: float) -> float:
        return _HEIGHT - _BOTTOM - (per_cent - y_ticks[0]) * y_scale

    drawing = node("svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", class_="plot", aria_label=_in_words(points))
    for tick in y_ticks:
        add(drawing, _line(_LEFT, y_of(tick), _WIDTH - _RIGHT, y_of(tick), opacity="0.18"))
        add(drawing, _label(_LEFT - 6, y_of(tick) + 4, _number(tick, y_ticks), "end"))
    for tick in x_ticks:
        add(drawing, _line(x_of(tick), _TOP, x_of(tick), _HEIGHT - _BOTTOM, opacity="0.10"))
        add(drawing, _label(x_of(tick), _HEIGHT - _BOTTOM + 16, _number(tick, x_ticks), "middle"))
    limit = y_of(floor * 100)
    add(drawing, _line(_LEFT, limit, _WIDTH - _RIGHT, limit, stroke_dasharray="5 4", opacity="0.8"))
    add(drawing, _label((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "median latency, ms", "middle"))
    add(
        drawing,
        _label(0, 0, "of FP32, %", "middle", transform=f"translate(10 {(_HEIGHT - _BOTTOM) / 2:g}) rotate(-90)"),
    )
    places = [(x_of(v.latency.p50_ms), y_of(v.relative * 100)) for v in points if v.latency]
    for version, (x, y) in zip(points, places, strict=True):
        add(drawing, _marker(version, x, y))
    for number, (x, y) in enumerate(_apart(places), 1):
        add(drawing, _label(x, y, str(number), "start", font_weight="600"))
    return drawing


def _apart(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where the numbers of the points stand: beside them, a line apart where points are close to each other."""
    found: dict[int, tuple[float, float]] = {}
    for i in sorted(range(len(places)), key=lambda i: places[i][1]):
        x, y = places[i][0] + 9, places[i][1] + 4
        for other_x, other_y in sorted(found.values(), key=lambda place: place[1]):
            if abs(other_x - x) < _LINE and y - other_y < _LINE:
                y = max(y, other_y + _LINE)
        found[i] = x, y
    return [found[i] for i in range(len(places))]


def _marker(version: Version, x: float, y: float) -> Node:
    """A shape per precision, so that nobody needs the colour."""
    look = {"fill": COLOURS[version.precision], "stroke": "#ffffff", "stroke_width": "1"}
    if version.precision == "fp32":
        return node("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="6", **look)
    shape = {"fp16": ((-5, -5), (5, -5), (5, 5), (-5, 5)), "fp8": ((0, -7), (7, 5), (-7, 5))}.get(
        version.precision, ((0, -7), (7, 0), (0, 7), (-7, 0))
    )
    return node("polygon", points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in shape), **look)


def _legend(points: Sequence[Version], max_drop: float) -> Node:
    items = (
        node(
            "li",
            swatch(COLOURS[v.precision]),
            f"{v.name}: {kept(v.relative, max_drop)} at {milliseconds(v.latency.p50_ms)}",
        )
        for v in points
        if v.latency
    )
    return node("ol", *items)


def _in_words(points: Sequence[Version]) -> str:
    """Of the drawing, without the versions' names: attributes hold no text of others."""
    return f"Plot of accuracy over latency with {len(points)} points; the list below it gives their values."


def _line(x1: float, y1: float, x2: float, y2: float, **attributes: str) -> Node:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return node("line", **{k: f"{v:.1f}" for k, v in ends.items()}, stroke="currentColor", **attributes)


def _label(x: float, y: float, text: str, anchor: str, **attributes: str) -> Node:
    return node("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, **_TEXT, **attributes)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers around `low` and `high`, about `count` of them."""
    raw = (high - low) / max(count - 1, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _number(value: float, ticks: Sequence[float]) -> str:
    """With as many digits as the distance of the ticks asks for."""
    digits = max(-math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9), 0)
    return f"{value:.{digits}f}"
