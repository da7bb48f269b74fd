"""Numbers and findings as text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from yolotrt.export.gate.proof import Latency, Measure, Proof, Version
from yolotrt.model_spec import Precision

DASH = "\N{EN DASH}"
PER_CENT = "\N{NO-BREAK SPACE}%"
"""A number and its unit stay on one line."""
MEASURES: Mapping[Measure, str] = {"mAP50-95": "mAP50-95", "parity": "boxes in common with FP32"}

_DETAILS = {
    "boxes": "boxes of FP32", "missed": "boxes missed", "added": "boxes added",
    "map50_95": "mAP50-95", "map50": "mAP50", "map75": "mAP75", "map_small": "mAP50-95, small objects",
    "map_medium": "mAP50-95, medium objects", "map_large": "mAP50-95, large objects",
}  # fmt: skip


def score(value: float | None) -> str:
    """A score with four digits, a count as it is, a dash where there is none."""
    if value is None:
        return DASH
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def kept(relative: float, max_drop: float) -> str:
    """What is left of FP32's score. With two more digits where 99.499 % would look like the 99.5 % of the budget."""
    limit = round(1 - max_drop, 9)
    digits = 2 if (round(relative, 4) >= limit) == (relative >= limit) else 4
    return f"{relative * 100:.{digits}f}{PER_CENT}"


def share(value: float) -> str:
    """A share as per cent. All and nothing are said of nothing else."""
    if 0 < value < 0.001:
        return f"under 0.1{PER_CENT}"
    if 0.999 < value < 1:
        return f"over 99.9{PER_CENT}"
    return f"{value * 100:.1f}".removesuffix(".0") + PER_CENT


def signed(value: float, digits: int = 2) -> str:
    """A difference in hundredths, with a true minus sign."""
    text = f"{value * 100:+.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else f"{0:.{digits}f}"


def milliseconds(value: float) -> str:
    """Three digits are what a latency is good for."""
    digits = f"{value:#.3g}".rstrip(".") if value < 100 else f"{value:,.0f}"
    return f"{digits}\N{NO-BREAK SPACE}ms"


def budget(max_drop: float) -> str:
    """The budget as per cent."""
    return f"{max_drop * 100:g}{PER_CENT}"


def precision(name: Precision) -> str:
    """As people write it."""
    return name.upper()


def by_size(shares: Mapping[Precision, float]) -> list[tuple[Precision, float]]:
    """Precisions that occur, the largest share first."""
    return sorted(((p, s) for p, s in shares.items() if s > 0), key=lambda entry: (-entry[1], entry[0]))


def shares(version: Version) -> str:
    """`98.9 % INT8, 1.1 % FP16`."""
    return ", ".join(f"{share(s)} {precision(p)}" for p, s in by_size(version.shares))


def detail(name: str) -> str:
    """What `yolotrt val --json` calls a measure, in words."""
    return _DETAILS.get(name, name)


def conditions(latency: Latency) -> str:
    """What a latency was measured with, as far as it may not differ between latencies that are compared."""
    pictures = "1 picture" if latency.batch == 1 else f"{latency.batch} pictures"
    # A runtime says "NAME VERSION on DEVICE, PRECISION", and the precision does differ.
    name, on, rest = latency.runtime.partition(" on ")
    return f"{name}{on}{rest.partition(', ')[0]}, {pictures} at a time"


def unmeasured(versions: Sequence[Version]) -> str:
    """Why latencies were not measured, as sentences; empty where nothing is known of it."""
    without = [v for v in versions if v.latency is None]
    reasons = {v.name: v.latency_note.rstrip(".") for v in without if v.latency_note}
    if len(without) == len(versions) and len(set(reasons.values())) == 1:
        return f"Latency was not measured: {next(iter(reasons.values()))}."
    return " ".join(f"The latency of {name} was not measured: {reason}." for name, reason in reasons.items())


def time(created: str) -> str:
    """An ISO 8601 time to the minute, in UTC; any other text as it is."""
    try:
        moment = dt.datetime.fromisoformat(created)
    except ValueError:
        return created
    if moment.tzinfo is None:
        return created
    return f"{moment.astimezone(dt.timezone.utc):%Y-%m-%d %H:%M} UTC"


def verdict(proof: Proof) -> str:
    """The finding as one sentence."""
    chosen = proof.chosen
    name = precision(chosen.precision)
    limit = f"the budget of {budget(proof.max_drop)}"
    if chosen.precision == "fp32":
        others = [v for v in proof.versions if v is not chosen]
        if others and not any(v.inside for v in others):
            return f"No other precision stays inside {limit}: the model is left in FP32."
        return "FP32: all of the accuracy is kept, since nothing was changed."
    if proof.measure == "parity":
        first = f"{name} agrees with FP32 on {kept(chosen.relative, proof.max_drop)} of the boxes"
    else:
        first = f"{name} keeps {kept(chosen.relative, proof.max_drop)} of the FP32 accuracy"
    arithmetic = f"{share(chosen.shares.get(chosen.precision, 0.0))} of the arithmetic is {name}"
    return f"{first}; {arithmetic}; {'inside' if proof.met else 'NOT inside'} {limit}."
