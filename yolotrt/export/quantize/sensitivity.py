"""Which convolutions lose accuracy when they are quantized: each is quantized alone, and the model measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yolotrt.export.quantize.quantize import Calibration, QuantizeOptions, QuantizeResult

if TYPE_CHECKING:
    import onnx

Evaluate = Callable[["onnx.ModelProto"], float]
"""How good a graph is; more is better: mean average precision, or the share of boxes that stay where they were."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Of one convolution.

    Attributes:
        name: of its node.
        loss: of the measure, when it alone is quantized; negative where that happens to help.
        share: of the multiplications of all convolutions that are its own, 0..1.
    """

    name: str
    loss: float
    share: float


def rank(
    calibration: Calibration,
    evaluate: Evaluate,
    everything: QuantizeResult,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Sensitivity]:
    """Every quantized convolution, the one that loses most per multiplication first.

    Args:
        calibration: of the graph.
        evaluate: called once per convolution and once for the graph with none quantized, so it should be quick:
            a few pictures, and a measure that changes with every small error.
        everything: the version that quantizes all of them; its scales are used.
        on_progress: told (done, of how many).
    """
    # FP32 around it: the loss is of this rounding alone, and no FP16 graph has to be made each time.
    options = QuantizeOptions(correct_bias=False, fp16=False)
    reference = evaluate(calibration.model)
    total = sum(calibration.macs.values())
    macs = {
        node.name or node.output[0]: calibration.macs.get(node.output[0], 0) for node in calibration.model.graph.node
    }
    found = []
    for done, name in enumerate(everything.quantized):
        alone = calibration.quantize(
            kind=everything.kind, keep=leaving(frozenset({name})), options=options, like=everything
        )
        found.append(Sensitivity(name=name, loss=reference - evaluate(alone.model), share=macs[name] / max(total, 1)))
        if on_progress:
            on_progress(done + 1, len(everything.quantized))
    return sorted(found, key=lambda s: -s.loss / max(s.share, 1e-9))


def leaving(names: frozenset[str]) -> Callable[[onnx.NodeProto], bool]:
    """A `keep` that quantizes only these."""
    return lambda node: (node.name or node.output[0]) not in names


def without(names: frozenset[str]) -> Callable[[onnx.NodeProto], bool]:
    """A `keep` that quantizes all but these."""
    return lambda node: (node.name or node.output[0]) in names
