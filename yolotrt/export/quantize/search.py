"""Give convolutions back to FP16, the most sensitive ones first, until the model is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolotrt.errors import UsageError
from yolotrt.export.quantize.quantize import Calibration, QuantizeOptions, QuantizeResult
from yolotrt.export.quantize.sensitivity import Evaluate, Sensitivity, without


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One version that was measured: how many convolutions were given back, what share stayed, how good it is."""

    given_back: int
    share: float
    score: float


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found.

    Attributes:
        best: the version with the largest quantized share that reaches the target; if none does, the best one.
        score: its measure.
        met: whether it reaches the target.
        trials: every version that was measured, in order.
    """

    best: QuantizeResult
    score: float
    met: bool
    trials: tuple[Trial, ...]


def search(
    calibration: Calibration,
    evaluate: Evaluate,
    everything: QuantizeResult,
    ranked: Sequence[Sensitivity],
    *,
    target: float,
    min_share: float = 0.5,
    options: QuantizeOptions | None = None,
) -> SearchResult:
    """Find how many of `ranked` must go back to FP16, in about log2 of their number measurements.

    It is bisected for, as if each one given back helped. Where that is not so, what is returned still was measured.

    Args:
        calibration: of the graph.
        evaluate: the measure that counts.
        everything: the version that quantizes all of them; its scales are used.
        ranked: in the order in which they are given back, from `sensitivity.rank`.
        target: what `evaluate` must give at least.
        min_share: of the multiplications that must stay quantized, 0..1.
        options: as of `quantize`; those that gave `everything`.

    Raises:
        UsageError: `min_share` is out of range.
    """
    if not 0 <= min_share <= 1:
        raise UsageError("option min_share is out of range", got=min_share, expected="a number from 0 to 1")
    tried: dict[int, tuple[QuantizeResult, float]] = {}

    def passes(count: int) -> bool:
        if count not in tried:
            version = everything
            if count:
                names = frozenset(s.name for s in ranked[:count])
                version = calibration.quantize(
                    kind=everything.kind, keep=without(names), options=options, like=everything
                )
            tried[count] = version, evaluate(version.model)
        return tried[count][1] >= target

    # `high` is the most that may be given back, or the fewest known to be enough.
    low, high = 0, _most(ranked, everything.share, min_share)
    if not passes(0) and high > 0 and passes(high):
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if passes(middle) else (middle, high)
    trials = tuple(Trial(given_back=n, share=v.share, score=score) for n, (v, score) in tried.items())
    good = [n for n, (_, score) in tried.items() if score >= target]
    chosen = min(good) if good else max(tried, key=lambda n: tried[n][1])
    best, score = tried[chosen]
    return SearchResult(best=best, score=score, met=bool(good), trials=trials)


def _most(ranked: Sequence[Sensitivity], share: float, min_share: float) -> int:
    """How many of them can be given back, at least one convolution staying quantized."""
    count = 0
    for sensitivity in ranked[:-1]:
        share -= sensitivity.share
        if share < min_share:
            break
        count += 1
    return count
