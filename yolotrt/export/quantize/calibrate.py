"""The range of every quantized tensor: candidates from its histogram, and of those the one that disturbs least.

What counts is not the error of the tensor but what it does to the convolutions that read it: they may hang on its
large values, or on the many small ones. So each candidate is tried in front of them, and judged by the positions where
it does most harm (see `range_errors`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from yolotrt.export.quantize import ranges
from yolotrt.export.quantize.formats import Format
from yolotrt.export.quantize.histogram import Histogram
from yolotrt.export.quantize.local_errors import range_errors
from yolotrt.export.quantize.place import Placement
from yolotrt.types import Batch

if TYPE_CHECKING:
    import onnx


_PARTS = (0.85, 0.75, 0.65, 0.55, 0.45)
"""Of the largest magnitude."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Of one group of tensors.

    Attributes:
        threshold: the largest magnitude that is represented.
        scale: threshold over the largest value of the format, rounded up to a number that FP16 holds.
        method: the rule that gave it; `part` is a part of the largest magnitude.
        noise: of the output relative to the output, averaged over the convolutions that read the group; None where it
            was not measured: the method was given, or no convolution reads the group.
    """

    threshold: float
    scale: float
    method: ranges.Method | Literal["part"]
    noise: float | None = None


def group_histograms(placement: Placement, histograms: Mapping[str, Histogram]) -> list[Histogram]:
    """One histogram for each group of tensors that share a scale."""
    merged = []
    for group in placement.groups:
        total = Histogram()
        for tensor in group:
            total.merge(histograms[tensor])
        merged.append(total)
    return merged


def by_method(histograms: Sequence[Histogram], method: ranges.Method, number_format: Format) -> list[Range]:
    """The same rule for all groups."""
    return [_range(ranges.threshold(h, method, number_format), method, number_format) for h in histograms]


def choose(
    model: onnx.ModelProto,
    placement: Placement,
    histograms: Sequence[Histogram],
    batches: Iterable[Batch],
    number_format: Format,
) -> list[Range]:
    """For each group the range with which the convolutions behind it err least.

    In FP8 the largest magnitude is the range: steps are relative, so that a smaller one gains nothing. Other ranges
    were tried, and gave neither more nor less.

    Args:
        model: float32.
        placement: of this model.
        histograms: of its groups.
        batches: some pictures; a few are enough, since each gives thousands of positions.
        number_format: of the data.
    """
    if number_format.kind == "fp8":
        return by_method(histograms, "minmax", number_format)
    candidates = [_candidates(h, number_format) for h in histograms]
    errors = range_errors(
        model,
        placement.convolutions,
        {c.key: [r.scale for r in candidates[c.root_group]] for c in placement.convolutions},
        batches,
        number_format,
    )
    chosen = []
    for group, options in enumerate(candidates):
        readers = [errors[c.key] for c in placement.convolutions if c.root_group == group]
        if not readers:  # an Add alone reads it, as its residual
            chosen.append(options[0])
            continue
        noise = np.mean(readers, axis=0)
        best = int(np.argmin(noise))
        found = options[best]
        chosen.append(
            Range(threshold=found.threshold, scale=found.scale, method=found.method, noise=float(noise[best]))
        )
    return chosen


def _candidates(histogram: Histogram, number_format: Format) -> list[Range]:
    largest = histogram.largest
    found = [_range(ranges.threshold(histogram, "minmax", number_format), "minmax", number_format)]
    if largest > 0:
        found += [_range(largest * part, "part", number_format) for part in _PARTS]
        # For a tensor with a few wild values, all of which those would keep.
        found += [_range(ranges.percentile(histogram, p), "percentile", number_format) for p in ranges.PERCENTILES[:2]]
        found.append(_range(ranges.least_error(histogram, number_format), "mse", number_format))
    return found


def _range(threshold: float, method: ranges.Method | Literal["part"], number_format: Format) -> Range:
    return Range(threshold=threshold, scale=float(number_format.scale(threshold)), method=method)
