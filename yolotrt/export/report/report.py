"""The page from top to bottom, and the data behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotrt import files
from yolotrt.export.gate.proof import Proof
from yolotrt.export.report import sections, words
from yolotrt.export.report.front import front
from yolotrt.export.report.layers import sensitivity
from yolotrt.export.report.markup import Node, add, node, render
from yolotrt.export.report.pictures import pictures
from yolotrt.export.report.style import BAD, DARK, LIGHT, PAGE
from yolotrt.model_spec import ModelSpec

if TYPE_CHECKING:
    from yolotrt.evaluation.parity import Parity

FORMAT = "yolotrt-report"
VERSION = 1
MAX_BYTES = 1_900_000
"""Of the page with its pictures: what passes through a mail server, and loads on a phone."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report, made from a proof, not yet written.

    Attributes:
        html: the page, under 2 MB, complete in itself.
        data: the same as JSON holds it: `format`, `version`, `name`, `source`, `created`, `yolotrt`, `verdict`, `met`,
            `spec`, `proof`, `parity`.
    """

    html: str = field(repr=False)
    data: dict[str, Any] = field(repr=False)


def make_report(
    proof: Proof,
    *,
    name: str,
    source: str,
    spec: ModelSpec,
    parity: Parity | None = None,
    created: str,
    yolotrt_version: str,
) -> Report:
    """Make the report of a bundle. The same arguments, and the same pictures, give the same bytes.

    Args:
        proof: what the gate found.
        name: of the bundle.
        source: the weights that it was made from.
        spec: the model in the bundle.
        parity: FP32 compared with the version in the bundle. The pictures that it names as worst are read again; one
            that is gone is left out.
        created: time, ISO 8601.
        yolotrt_version: that made the bundle.
    """
    sentence = words.verdict(proof)

    def page(shown: list[Node]) -> str:
        made = sections.method(
            proof, spec, parity, name=name, source=source, created=created, yolotrt_version=yolotrt_version
        )
        return render(_page(name, _subtitle(source, proof), _verdict(sentence, proof), _blocks(proof, shown, made)))

    # The pictures get the room that all else leaves.
    room = MAX_BYTES - len(page([]).encode())
    html = page(pictures(parity, version=words.precision(proof.chosen.precision), room=room))
    data = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "source": source,
        "created": created,
        "yolotrt": yolotrt_version,
        "verdict": sentence.replace("\N{NO-BREAK SPACE}", " "),
        "met": proof.met,
        "spec": spec.to_dict(),
        "proof": proof.to_dict(),
        "parity": _parity(parity) if parity else None,
    }
    return Report(html=html, data=json.loads(json.dumps(data)))


def write_report(report: Report, folder: Path, name: str) -> tuple[Path, Path]:
    """Write `NAME-report.html` and `NAME-report.json` into a folder; returns their paths.

    Raises:
        SinkError: one cannot be written.
    """
    page, data = folder / f"{name}-report.html", folder / f"{name}-report.json"
    files.write_text(page, report.html)
    files.write_text(data, json.dumps(report.data, indent=2) + "\n")
    return page, data


def _blocks(proof: Proof, shown: list[Node], made: list[Node]) -> list[tuple[str, list[Node]]]:
    """Headings and what stands under them, in the order of the page."""
    what = "Agreement" if proof.measure == "parity" else "Accuracy"
    return [
        (f"{what} of each precision", sections.versions(proof)),
        (f"{what} and latency", front(proof)),
        (f"{what} of each class", sections.classes(proof)),
        ("Sensitivity of the layers", sensitivity(proof)),
        ("Arithmetic in each precision", sections.arithmetic(proof)),
        ("Calibration", sections.calibration(proof)),
        ("Pictures whose boxes changed", shown),
        ("How it was measured", made),
        ("Limits and notes", sections.notes(proof)),
    ]


def _page(name: str, subtitle: str, verdict: Node, blocks: list[tuple[str, list[Node]]]) -> Node:
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="color-scheme", content="light dark"),
        node("title", f"{name}: accuracy report"),
        node("style", LIGHT),
        node("style", DARK),
    )
    main = node("main", node("h1", name), node("p", subtitle, class_="muted"), verdict)
    for title, content in blocks:
        add(main, node("section", node("h2", title), *content))
    return node("html", head, node("body", node("div", main, style=PAGE)), lang="en")


def _subtitle(source: str, proof: Proof) -> str:
    how = "agreement with FP32" if proof.measure == "parity" else proof.measure
    return f"Accuracy report. Made from {source}; {how} on {proof.pictures:,} pictures, {proof.data}."


def _verdict(sentence: str, proof: Proof) -> Node:
    if proof.met:
        return node("p", sentence, class_="verdict", style="font-size:20px")
    return node("p", sentence, class_="verdict bad", style=f"font-size:20px;font-weight:600;color:{BAD}")


def _parity(parity: Parity) -> dict[str, Any]:
    """Pictures by name only: a bundle is handed on, and folders of the machine that made it are nobody's business."""
    data = parity.to_dict()
    for entry, pairs in zip(data["worst"], parity.worst, strict=True):
        entry["picture"] = pairs.picture.name
    return data
