"""Where to cut a tensor off: the classical rules, each from a histogram of its magnitudes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from yolotrt.export.quantize.formats import Format
from yolotrt.export.quantize.histogram import BINS, Histogram

Method = Literal["minmax", "entropy", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile", "mse")

PERCENTILES = (99.9, 99.99, 99.999)
"""In percent of all values. `percentile` alone means the middle one."""

_ENTROPY_BINS = 2048
_LEVELS = 128  # magnitudes of INT8, zero among them
_MSE_STEPS = 80


def threshold(histogram: Histogram, method: Method, number_format: Format) -> float:
    """The largest magnitude that is represented; what is beyond it is cut off. At least a positive number."""
    if histogram.largest == 0:
        return 1.0
    if method == "minmax":
        return histogram.largest
    if method == "percentile":
        return percentile(histogram, PERCENTILES[1])
    if method == "entropy":
        return entropy(histogram)
    return least_error(histogram, number_format)


def percentile(histogram: Histogram, percent: float) -> float:
    """The magnitude that `percent` of the values do not exceed."""
    total = np.cumsum(histogram.counts)
    index = int(np.searchsorted(total, total[-1] * percent / 100))
    return float(min((index + 1) * histogram.width, histogram.largest))


def least_error(histogram: Histogram, number_format: Format) -> float:
    """The threshold with the least mean squared error of quantization, among 80 in equal ratios from 1/20 up."""
    candidates = histogram.largest * np.geomspace(0.05, 1.0, _MSE_STEPS)
    errors = [squared_error(histogram, c, number_format) for c in candidates]
    return float(candidates[int(np.argmin(errors))])


def squared_error(histogram: Histogram, cut: float, number_format: Format) -> float:
    """Mean squared error of quantizing the values of a histogram with a threshold."""
    used = np.flatnonzero(histogram.counts)
    centres, counts = histogram.centres[used], histogram.counts[used]
    wrong = number_format.apply(centres, cut / number_format.largest).astype(np.float64) - centres
    return float((counts * wrong**2).sum() / counts.sum())


def entropy(histogram: Histogram) -> float:
    """The threshold whose 128 levels keep the distribution best, by Kullback-Leibler divergence.

    The method of S. Migacz, "8-bit Inference with TensorRT" (GTC 2017): values beyond the threshold count as the
    last bin of the reference distribution, and the levels spread their counts over the bins that were in use.
    """
    counts = histogram.counts.reshape(_ENTROPY_BINS, -1).sum(axis=1).astype(np.float64)
    # The spike at zero (what padding and dead channels give) is exact in any range and must not decide.
    counts[0] = counts[1]
    width = histogram.width * (BINS // _ENTROPY_BINS)
    last = int(np.flatnonzero(counts)[-1]) + 1
    if last <= _LEVELS:
        return histogram.largest
    ends = np.arange(_LEVELS, last + 1, 4)
    found = [_divergence(counts, int(end)) for end in ends]
    return float(min(ends[int(np.argmin(found))] * width, histogram.largest))


def _divergence(counts: npt.NDArray[np.float64], end: int) -> float:
    reference = counts[:end].copy()
    used = reference > 0
    level = np.arange(end) * _LEVELS // end
    mass = np.bincount(level, weights=counts[:end], minlength=_LEVELS)
    share = np.bincount(level, weights=used, minlength=_LEVELS)
    spread = np.where(used, mass[level] / np.maximum(share[level], 1), 0.0)
    reference[-1] += counts[end:].sum()
    p, q = reference / reference.sum(), spread / max(spread.sum(), 1e-30)
    both = (p > 0) & (q > 0)
    lost = p[(p > 0) & ~both].sum()  # nothing represents this mass at all
    return float((p[both] * np.log(p[both] / q[both])).sum() + lost * 50)
