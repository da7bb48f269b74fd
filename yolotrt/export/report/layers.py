"""What quantizing each convolution alone costs, as bars and as a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from yolotrt.export.gate.proof import LayerLoss, Proof
from yolotrt.export.report.bars import bar, swatch
from yolotrt.export.report.markup import Node, node
from yolotrt.export.report.style import COLOURS, NUMBER, TABLE
from yolotrt.export.report.tables import folded, row, table
from yolotrt.export.report.words import DASH, PER_CENT, precision, share, signed
from yolotrt.model_spec import Precision

SHOWN = 12
"""Of those with the largest loss; the table has all."""


def sensitivity(proof: Proof) -> list[Node]:
    """The section's content."""
    if not proof.layers or proof.layers_kind is None:
        return [node("p", "What each layer loses by itself was not measured.")]
    kind, mixed = proof.layers_kind, proof.chosen.precision == proof.layers_kind
    shown = proof.layers[:SHOWN]
    returned = [layer for layer in proof.layers if mixed and not layer.quantized]
    further = [layer for layer in returned if layer not in shown]
    ending = _returned(len(returned)) if mixed else _of_another(proof)
    text = (
        f"Each of {len(proof.layers)} convolutions was computed in {precision(kind)} alone. A bar is how much of the "
        f"agreement with FP32 was lost by that; it is not accuracy. {ending}"
    )
    names = {layer.name for layer in returned}
    body = [node("p", text, class_="muted"), _legend(kind) if names else None, _chart(shown, kind, names)]
    if further:
        body.append(node("p", "Given back as well, with a smaller loss:", class_="muted"))
        body.append(_chart(further, kind, names, like=shown))
    body.append(folded(f"All {len(proof.layers)} convolutions", _all(proof)))
    return [content for content in body if content is not None]


def _returned(count: int) -> str:
    if count == 0:
        return "None was given back to FP16."
    return "1 was given back to FP16." if count == 1 else f"{count} were given back to FP16."


def _of_another(proof: Proof) -> str:
    return f"The version in this bundle is {precision(proof.chosen.precision)}, so that none of it was lost there."


def _legend(kind: Precision) -> Node:
    return node(
        "p",
        *(swatch(COLOURS[kind]), f"stays {precision(kind)} \N{EM SPACE}"),
        *(swatch(COLOURS["fp16"]), "given back to FP16"),
        class_="small",
    )


def _chart(
    layers: Sequence[LayerLoss], kind: Precision, returned: Collection[str], *, like: Sequence[LayerLoss] = ()
) -> Node:
    """Name and number above each bar, so that long names have room on a phone."""
    largest = max((layer.loss for layer in (*layers, *like)), default=0.0)
    items = []
    for layer in layers:
        colour = COLOURS["fp16" if layer.name in returned else kind]
        mark = node("span", "given back", class_="tag here") if layer.name in returned else None
        name = node("td", node("span", layer.name, class_="mono"), " ", mark, style="padding:6px 8px 2px 0")
        number = node("td", _loss(layer), style=f"{NUMBER};width:1%;padding:6px 0 2px 8px")
        # The smallest bar stands for "some": nothing and noise have none.
        length = layer.loss / largest if layer.loss > 0 else 0.0
        drawn = node("td", bar([(length, colour)], height=9), colspan="2", style="padding:0 0 4px")
        items += [node("tr", name, number), node("tr", drawn)]
    return node("table", node("tbody", *items), role="presentation", class_="bars", style=TABLE)


def _all(proof: Proof) -> Node:
    kind = proof.layers_kind
    rows = (
        row(
            [node("span", layer.name, class_="mono")],
            _loss(layer),
            share(layer.share),
            precision(kind if kind and layer.quantized else "fp16") if kind == proof.chosen.precision else DASH,
        )
        for layer in proof.layers
    )
    headings = ("Convolution", "Loss", "Arithmetic", "Runs in")
    return table(headings, rows, caption="Loss of each convolution")


def _loss(layer: LayerLoss) -> str:
    return f"{signed(layer.loss, 3).removeprefix('+')}{PER_CENT}"
