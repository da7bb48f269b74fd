"""What quantizing each convolution alone costs, as bars and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from yolotrt.export.gate.proof import LayerLoss, Proof
from yolotrt.export.report.bars import bar, swatch
from yolotrt.export.report.markup import Node, node
from yolotrt.export.report.style import COLOURS, NUMBER, TABLE
from yolotrt.export.report.tables import folded, row, table
from yolotrt.export.report.words import PER_CENT, precision, share, signed
from yolotrt.model_spec import Precision

SHOWN = 12
"""Of those with the largest loss; the table has all."""


def sensitivity(proof: Proof) -> list[Node]:
    """The section's content."""
    if not proof.layers or proof.layers_kind is None:
        return [node("p", "No layer was looked at alone: the search for layers to leave in FP16 was not needed.")]
    kind = proof.layers_kind
    shown = proof.layers[:SHOWN]
    returned = [layer for layer in proof.layers if not layer.quantized]
    further = [layer for layer in returned if layer not in shown]
    text = (
        f"Each of {len(proof.layers)} convolutions was computed in {precision(kind)} alone. A bar is how much of the "
        f"agreement with FP32 was lost by that; it is not accuracy. {_returned(len(returned))}"
    )
    body = [node("p", text, class_="muted"), _legend(kind), _chart(shown, kind)]
    if further:
        body += [node("p", "Given back as well, with a smaller loss:", class_="muted"), _chart(further, kind, shown)]
    return [*body, folded(f"All {len(proof.layers)} convolutions", _all(proof.layers, kind))]


def _returned(count: int) -> str:
    if count == 0:
        return "None was given back to FP16."
    return "1 was given back to FP16." if count == 1 else f"{count} were given back to FP16."


def _legend(kind: Precision) -> Node:
    return node(
        "p",
        *(swatch(COLOURS[kind]), f"stays {precision(kind)} \N{EM SPACE}"),
        *(swatch(COLOURS["fp16"]), "given back to FP16"),
        class_="small",
    )


def _chart(layers: Sequence[LayerLoss], kind: Precision, like: Sequence[LayerLoss] = ()) -> Node:
    """Name and number above each bar, so that long names have room on a phone."""
    largest = max((layer.loss for layer in (*layers, *like)), default=0.0)
    items = []
    for layer in layers:
        colour = COLOURS[kind if layer.quantized else "fp16"]
        mark = None if layer.quantized else node("span", " given back", class_="tag here")
        name = node("td", node("span", layer.name, class_="mono"), " ", mark, style="padding:6px 8px 2px 0")
        number = node("td", _loss(layer), style=f"{NUMBER};width:1%;padding:6px 0 2px 8px")
        # The smallest bar stands for "some": nothing and noise have none.
        length = layer.loss / largest if layer.loss > 0 else 0.0
        drawn = node("td", bar([(length, colour)], height=9), colspan="2", style="padding:0 0 4px")
        items += [node("tr", name, number), node("tr", drawn)]
    return node("table", node("tbody", *items), role="presentation", class_="bars", style=TABLE)


def _all(layers: Sequence[LayerLoss], kind: Precision) -> Node:
    rows = (
        row(
            [node("span", layer.name, class_="mono")],
            _loss(layer),
            share(layer.share),
            precision(kind if layer.quantized else "fp16"),
        )
        for layer in layers
    )
    headings = ("Convolution", "Loss", "Arithmetic", "Runs in")
    return table(headings, rows, caption="Loss of each convolution")


def _loss(layer: LayerLoss) -> str:
    return f"{signed(layer.loss, 3).removeprefix('+')}{PER_CENT}"
