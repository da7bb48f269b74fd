"""Versions of a model while they are being judged: FP32, FP16, FP8, INT8, and the mixed ones that a search finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from yolotrt.export.gate.proof import LayerLoss, Score, Version
from yolotrt.export.gate.yardstick import Agreement, Yardstick
from yolotrt.export.quantize import Calibration, QuantizeResult
from yolotrt.export.quantize.search import search
from yolotrt.export.quantize.sensitivity import Sensitivity, rank
from yolotrt.inspection.inspect import shares
from yolotrt.inspection.onnx_layers import onnx_layers
from yolotrt.model_spec import Precision

if TYPE_CHECKING:
    import onnx

Say = Callable[[str], None]

MIN_SHARE = 0.5
"""With less than half of the multiplications in it, a version is no longer worth the name INT8 or FP8."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A version and its score.

    Attributes:
        name: for people.
        precision: the lowest one in it.
        model: the graph.
        shares: of the convolutions' multiplications by precision.
        score: how good it is.
        quantized: how it came about, if it is quantized.
        given_back: convolutions that the search returned to FP16.
    """

    name: str
    precision: Precision
    model: onnx.ModelProto = field(repr=False)
    shares: Mapping[Precision, float]
    score: Score
    quantized: QuantizeResult | None = None
    given_back: tuple[str, ...] = ()


class Judge:
    """Scores versions against FP32.

    Args:
        yardstick: of the score.
        reference: the FP32 graph.
        max_drop: how much of FP32's score may be lost, relative.
        say: told what is going on.
    """

    def __init__(self, yardstick: Yardstick, reference: onnx.ModelProto, *, max_drop: float, say: Say) -> None:
        self._yardstick, self._max_drop = yardstick, max_drop
        self.say: Say = say
        self.reference = self.candidate("FP32", "fp32", reference)

    @property
    def target(self) -> float:
        """The least score that is inside the budget."""
        return self.reference.score.value * (1 - self._max_drop)

    def inside(self, candidate: Candidate) -> bool:
        """Whether it is."""
        return candidate.score.value >= self.target

    def relative(self, candidate: Candidate) -> float:
        """Its score over that of FP32; 1 where FP32 finds nothing right."""
        whole = self.reference.score.value
        return candidate.score.value / whole if whole else 1.0

    def score(self, name: str, model: onnx.ModelProto, precision: Precision) -> Score:
        """Run a version over all pictures of the yardstick."""
        done = 0

        def on_picture() -> None:
            nonlocal done
            done += 1
            self.say(f"{name}: {done} pictures")

        self.say(name)
        return self._yardstick.score(model, precision, on_picture=on_picture)

    def candidate(self, name: str, precision: Precision, model: onnx.ModelProto) -> Candidate:
        """Score a version that is not quantized."""
        return Candidate(
            name=name,
            precision=precision,
            model=model,
            shares=_shares(model),
            score=self.score(name, model, precision),
        )

    def quantized(self, result: QuantizeResult) -> Candidate:
        """Score a quantized version."""
        name = result.kind.upper()
        return _quantized(name, result, self.score(name, result.model, result.kind))

    def version(self, candidate: Candidate) -> Version:
        """What is recorded of it."""
        return Version(
            name=candidate.name,
            precision=candidate.precision,
            score=candidate.score,
            relative=self.relative(candidate),
            inside=self.inside(candidate),
            shares=candidate.shares,
            given_back=candidate.given_back,
        )


def rank_layers(
    calibration: Calibration, result: QuantizeResult, agreement: Agreement, *, say: Say
) -> list[Sensitivity]:
    """The quantized convolutions, the one that costs most per multiplication first."""
    return rank(
        calibration,
        lambda model: agreement(model, result.kind),
        result,
        on_progress=lambda done, of: say(f"{result.kind.upper()}: {done} of {of} convolutions"),
    )


def mixed(calibration: Calibration, judge: Judge, whole: Candidate, ranked: Sequence[Sensitivity]) -> Candidate | None:
    """The version with the most in low precision that is inside the budget; the best one found if none is.

    Args:
        calibration: of the graph.
        judge: of the scores.
        whole: the version with all of it quantized, which is outside the budget.
        ranked: its convolutions, in the order in which they are given back.

    Returns:
        None where nothing is better than `whole`.
    """
    assert whole.quantized is not None
    scores: dict[int, Score] = {}

    def evaluate(model: onnx.ModelProto) -> float:
        # By identity: the search keeps what it tried.
        score = whole.score if model is whole.model else judge.score(f"{whole.name} mixed", model, whole.precision)
        scores[id(model)] = score
        return score.value

    found = search(calibration, evaluate, whole.quantized, ranked, target=judge.target, min_share=MIN_SHARE)
    back = set(whole.quantized.quantized) - set(found.best.quantized)
    if not back:
        return None
    name = f"{whole.name}, {len(back)} convolution{'s' * (len(back) != 1)} in FP16"
    made = _quantized(name, found.best, scores[id(found.best.model)])
    return dataclasses.replace(made, given_back=tuple(s.name for s in ranked if s.name in back))


def layer_losses(ranked: Sequence[Sensitivity], chosen: Candidate) -> tuple[LayerLoss, ...]:
    """The ranking as it is recorded, by falling loss."""
    quantized = set(chosen.quantized.quantized) if chosen.quantized else set()
    return tuple(
        LayerLoss(name=s.name, loss=s.loss, share=s.share, quantized=s.name in quantized)
        for s in sorted(ranked, key=lambda s: -s.loss)
    )


def _quantized(name: str, result: QuantizeResult, score: Score) -> Candidate:
    return Candidate(
        name=name,
        precision=result.kind,
        model=result.model,
        shares=_shares(result.model),
        score=score,
        quantized=result,
    )


def _shares(model: onnx.ModelProto) -> dict[Precision, float]:
    """Of the convolutions' multiplications by precision, largest first. The size of the input cancels out."""
    found = shares(onnx_layers(model, (640, 640)))
    # Our own graphs hold no other precisions than these.
    return {cast("Precision", s.precision): s.convolution_share for s in found if s.convolution_share}
