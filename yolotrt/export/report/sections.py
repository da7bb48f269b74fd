"""The sections of the report that are text and tables, in their order on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from yolotrt.export.gate.proof import Proof, Version
from yolotrt.export.report import words
from yolotrt.export.report.bars import shares_bar, swatch
from yolotrt.export.report.markup import Child, Node, node
from yolotrt.export.report.style import BAD, COLOURS, NUMBER, TABLE, TEXT
from yolotrt.export.report.tables import facts, folded, row, table
from yolotrt.model_spec import ModelSpec

if TYPE_CHECKING:
    from yolotrt.evaluation.parity import Parity

MOST_CLASSES = 20
"""With more classes only those that lost most are shown unfolded."""


def versions(proof: Proof) -> list[Node]:
    """Accuracy, arithmetic and latency of each version. On a phone each row becomes a card with its own labels."""
    headings = ("Version", words.MEASURES[proof.measure], "of FP32", "Arithmetic", "Latency")
    head = node("tr", *(_heading(h, i) for i, h in enumerate(headings)), role="row")
    body = [_version(v, headings[1], proof) for v in proof.versions]
    whole = node(
        "table",
        node("thead", head, role="rowgroup"),
        node("tbody", *body, role="rowgroup"),
        class_="data cards", style=TABLE, aria_label="Accuracy of each version", role="table",
    )  # fmt: skip
    budget = f"The budget allows a loss of {words.budget(proof.max_drop)} of FP32's score. "
    arithmetic = "Arithmetic: the multiplications of all convolutions."
    text = f"{budget}{arithmetic} {words.unmeasured(proof.versions)}".rstrip()
    return [whole, node("p", text, class_="muted"), *_details(proof)]


def _heading(text: str, column: int) -> Node:
    return node("th", text, scope="col", role="columnheader", style=TEXT if column in (0, 3) else NUMBER)


def _version(version: Version, measure: str, proof: Proof) -> Node:
    name = node("th", version.name, *_tags(version), scope="row", role="rowheader", style=f"{TEXT};width:28%")
    made = node(
        "tr",
        name,
        _cell(measure, words.score(version.score.value)),
        _cell("of FP32", words.kept(version.relative, proof.max_drop)),
        _cell("Arithmetic", words.shares(version), shares_bar(version), style=f"{TEXT};width:26%", class_="long"),
        _cell("Latency", *_latency(version)),
        role="row",
    )
    if version.chosen and len(proof.versions) > 1:
        made.set("class", "chosen")
    return made


def _cell(key: str, *content: Child, style: str = NUMBER, class_: str = "short") -> Node:
    label = node("span", f"{key}: ", class_="key", style="display:none")
    return node("td", label, *content, role="cell", style=style, class_=class_)


def _tags(version: Version) -> Iterable[Node]:
    if version.chosen:
        yield node("div", "in this bundle", class_="tag here")
    if not version.inside:
        yield node("div", "outside the budget", class_="tag bad", style=f"color:{BAD}")


def _latency(version: Version) -> list[Child]:
    if version.latency is None:
        return ["not measured"]
    latency = version.latency
    spread = f"90 % under {words.milliseconds(latency.p90_ms)}"
    return [words.milliseconds(latency.p50_ms), node("div", spread, class_="muted", style="white-space:normal")]


def _details(proof: Proof) -> list[Node]:
    """The other measures of the chosen version, beside those of FP32 where it has them."""
    first, chosen = proof.versions[0], proof.chosen
    before, after = first.score.details, chosen.score.details
    names = [name for name in after if name != "map50_95"]  # that is the score itself
    if not names:
        return []
    headings: tuple[str, ...] = ("Measure", words.precision(chosen.precision))
    rows = [row([words.detail(n)], words.score(after[n])) for n in names]
    if before and chosen is not first:
        headings = ("Measure", words.precision(first.precision), words.precision(chosen.precision), "Change")
        rows = [_pair(words.detail(n), before.get(n), after[n]) for n in names]
    return [folded("Other measures", table(headings, rows, caption="Other measures"))]


def classes(proof: Proof) -> list[Node]:
    """FP32 beside the chosen version for every class, the largest loss first."""
    first, chosen = proof.versions[0], proof.chosen
    before, after = first.score.per_class, chosen.score.per_class
    if not after:
        return [node("p", "There are no labels." if proof.measure == "parity" else "It was not recorded.")]
    if chosen is first:
        rows = [row([n], words.score(after[n])) for n in after]
        return [*_long(("Class", words.precision(first.precision)), rows)]
    if proof.measure == "parity":
        before = dict.fromkeys(after, 1.0)  # FP32 agrees with itself in everything
    names = sorted(after, key=lambda n: _change(before.get(n), after[n]))
    rows = [_pair(n, before.get(n), after[n], limit=proof.max_drop) for n in names]
    marked = sum(_lost(before.get(n), after[n], proof.max_drop) for n in names)
    what = "Share of boxes in common" if proof.measure == "parity" else words.MEASURES[proof.measure]
    text = (
        f"{what}, the largest loss first; the change is in hundredths. {_marked(marked, len(names))} more than "
        f"{words.budget(proof.max_drop)} of the score{', marked with an arrow' if marked else ''}. A class with few "
        "objects moves by chance."
    )
    headings = ("Class", words.precision(first.precision), words.precision(chosen.precision), "Change")
    return [node("p", text, class_="muted"), *_long(headings, rows)]


def _marked(count: int, of: int) -> str:
    if count == 0:
        return f"None of {of} classes lost"
    return f"1 of {of} classes lost" if count == 1 else f"{count} of {of} classes lost"


def _long(headings: Sequence[str], rows: Sequence[Node], *, caption: str = "Score of each class") -> Iterable[Node]:
    """All rows, those beyond the first ones folded away."""
    yield table(headings, rows[:MOST_CLASSES], caption=caption)
    if len(rows) > MOST_CLASSES:
        more = rows[MOST_CLASSES:]
        yield folded(f"{len(more)} more", table(headings, more, caption=f"{caption}, continued"))


def _pair(name: str, before: float | None, after: float | None, *, limit: float | None = None) -> Node:
    """A row with both scores and their difference; a loss of more than `limit` of the score is marked."""
    change: Child = words.DASH
    if before is not None and after is not None:
        change = words.signed(after - before)
    if limit is not None and _lost(before, after, limit):
        change = node("span", "\N{BLACK DOWN-POINTING TRIANGLE} ", change, class_="bad", style=f"color:{BAD}")
    return row([name], words.score(before), words.score(after), change)


def _change(before: float | None, after: float | None) -> float:
    """For sorting: what cannot be compared comes last."""
    return after - before if before is not None and after is not None else float("inf")


def _lost(before: float | None, after: float | None, limit: float) -> bool:
    return before is not None and after is not None and before - after > limit * before


def arithmetic(proof: Proof) -> list[Node]:
    """How much of the chosen version is in each precision."""
    chosen = proof.chosen
    rows = (
        row([swatch(COLOURS[p]), words.precision(p)], words.share(s)) for p, s in words.by_size(chosen.shares)
    )  # fmt: skip
    text = (
        f"Of the multiplications of all convolutions in {chosen.name}. Activations, pooling and the decoding of boxes "
        "are not counted."
    )
    whole = table(("Precision", "Share"), rows, caption="Share of the arithmetic in each precision")
    return [node("p", text, class_="muted"), shares_bar(chosen, height=18), whole]


def calibration(proof: Proof) -> list[Node]:
    """The pictures that the ranges come from."""
    record = proof.calibration
    if record is None:
        return [node("p", "Nothing was quantized, so no ranges had to be found.")]
    methods = ", ".join(f"{n} {name}" for name, n in sorted(record.methods.items(), key=lambda e: (-e[1], e[0])))
    pairs: list[tuple[str, Child]] = [
        ("Pictures", f"{record.pictures:,}"),
        ("Source", record.source),
        ("Ranges by rule", methods or None),
        ("SHA-256 of the pictures as the model got them", node("span", record.digest, class_="mono")),
    ]
    return [facts(pairs, caption="Calibration")]


def method(
    proof: Proof, spec: ModelSpec, parity: Parity | None, *, name: str, source: str, created: str, yolotrt_version: str
) -> list[Node]:
    """How it was measured."""
    height, width = spec.imgsz
    size = f"{width} x {height} pixels" + (", or another size" if spec.is_dynamic_size else "")
    score = (
        "share of the boxes that FP32 and the version have in common"
        if proof.measure == "parity"
        else "mAP50-95, COCO's mean average precision at an IoU of 0.50 to 0.95"
    )
    pairs: list[tuple[str, Child]] = [
        ("Score", score),
        ("Pictures", f"{proof.pictures:,}, {proof.data}"),
        ("Runtime of the scores", proof.runtime),
        ("Runtime of the latency", _runtimes(proof)),
        ("Budget", f"{words.budget(proof.max_drop)} of FP32's score"),
        ("Boxes compared", _boxes(parity) if parity else None),
        ("Bundle", name),
        ("Weights", source),
        ("Model", f"{spec.task}, {spec.head.replace('_', ' ')} head, {len(spec.names)} classes, {size}"),
        ("Made", f"{words.time(created)}, yolotrt {yolotrt_version}"),
    ]
    return [facts(pairs, caption="How it was measured")]


def _runtimes(proof: Proof) -> Child:
    """With the precision that each runtime computes in, which need not be the version's."""
    lines = [
        node("div", f"{v.name}: {v.latency.runtime}, {v.latency.batch} at a time, {v.latency.runs:,} runs")
        for v in proof.versions
        if v.latency
    ]
    return node("div", *lines) if lines else "not measured"


def _boxes(parity: Parity) -> str:
    total, options = parity.total, parity.options
    across = f"{parity.flickering:,} matched across that threshold, " if parity.flickering else ""
    return (
        f"{total.reference:,} of FP32 and {total.candidate:,} of the bundle, above a confidence of {options.conf:g} in "
        f"{parity.images:,} pictures: {total.missed:,} missed, {total.added:,} added, {across}"
        f"{total.match * 100:.2f}{words.PER_CENT} match at an IoU of {options.min_iou:g}"
    )


def notes(proof: Proof) -> list[Node]:
    """What a reader should know before taking the numbers elsewhere."""
    found = [
        f"The scores hold for the {proof.pictures:,} pictures that they were measured on, and for pictures like them."
    ]
    if proof.measure == "parity":
        found.append("Without labels only the difference to FP32 is known, not whether FP32 is right.")
    found.append("The latency is that of the inference alone: reading pictures and decoding boxes come on top.")
    return [node("ul", *(node("li", text) for text in (*proof.notes, *found)))]
