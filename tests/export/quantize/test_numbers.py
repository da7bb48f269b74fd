"""Number formats, histograms, and ranges on distributions whose best range is known."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from yolotrt.export.quantize.formats import FP8, INT8, Format
from yolotrt.export.quantize.histogram import BINS, Histogram
from yolotrt.export.quantize.ranges import entropy, least_error, percentile, squared_error, threshold
from yolotrt.export.quantize.weights import channel_scales, nearest


def histogram(values: np.ndarray) -> Histogram:
    found = Histogram()
    for part in np.array_split(values, 7):
        found.add(part)
    return found


def normal(count: int = 200_000) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count).astype(np.float32)


def test_int8_rounds_to_even_and_is_symmetric() -> None:
    given = np.array([-1000, -127.4, -2.5, -1.5, 0, 0.5, 1.5, 126.6, 1000], np.float32)
    assert INT8.round(given).tolist() == [-127, -127, -2, -2, 0, 0, 2, 127, 127]


def test_fp8_is_what_onnx_rounds_to() -> None:
    given = np.concatenate([normal(2000) * 100, normal(2000) * 0.01, [0, 448, 1e6, -1e6, 2**-10, 17, 19]])
    rounded = FP8.round(given.astype(np.float32))
    clipped = np.clip(given, -448, 448).astype(np.float32)
    expected = numpy_helper.to_array(helper.make_tensor("t", TensorProto.FLOAT8E4M3FN, clipped.shape, clipped)).astype(
        np.float32
    )
    np.testing.assert_array_equal(rounded, expected)


@pytest.mark.parametrize("number_format", [INT8, FP8], ids=lambda f: f.kind)
def test_the_bytes_are_the_values(number_format: Format) -> None:
    rounded = number_format.round(normal(1000) * 60)
    data = number_format.encode(rounded).tobytes()
    stored = helper.make_tensor("t", number_format.onnx_type, rounded.shape, data, raw=True)
    np.testing.assert_array_equal(numpy_helper.to_array(stored).astype(np.float32), rounded)


def test_a_scale_is_an_fp16_number_that_cuts_nothing_off() -> None:
    thresholds = np.array([0.0, 1e-9, 1e-5, 0.3, 1.0, 77.7, 1e6])
    for number_format in (INT8, FP8):
        scales = number_format.scale(thresholds)
        assert (scales > 0).all()
        np.testing.assert_array_equal(scales, scales.astype(np.float16).astype(np.float32))
        assert (scales.astype(np.float64) * number_format.largest >= thresholds).all()
        assert (scales[3:] * number_format.largest <= thresholds[3:] * 1.001).all()


def test_a_histogram_grows_with_its_values() -> None:
    found = Histogram()
    for scale in (0.0, 1.0, 1000.0, 0.5):
        found.add(np.full(10, -scale, np.float32))
    assert found.largest == 1000
    assert found.counts.sum() == 40
    assert found.counts.shape == (BINS,)
    assert found.width <= 2 * 1000 / BINS
    assert np.flatnonzero(found.counts)[-1] == int(1000 / found.width)


def test_merging_is_counting_together() -> None:
    a, b = normal(5000), normal(5000) * 9
    together, merged = Histogram(), histogram(a)
    together.add(np.concatenate([a, b]))
    merged.merge(histogram(b))
    assert (merged.exponent, merged.largest) == (together.exponent, together.largest)
    np.testing.assert_array_equal(merged.counts, together.counts)
    empty = Histogram()
    empty.merge(merged)
    np.testing.assert_array_equal(empty.counts, merged.counts)


def test_minmax_and_percentile() -> None:
    values = np.arange(1, 10_001, dtype=np.float32)
    found = histogram(values)
    assert threshold(found, "minmax", INT8) == 10_000
    assert percentile(found, 99.9) == pytest.approx(9990, abs=2 * found.width)
    assert threshold(found, "percentile", INT8) == pytest.approx(9999, abs=2 * found.width)


def test_least_error_of_a_normal_distribution() -> None:
    """8 bits cut a unit normal distribution off at 3.92 (Banner et al., "Post training 4-bit quantization", 2019)."""
    found = least_error(histogram(normal(1_000_000)), INT8)
    assert found == pytest.approx(3.92, rel=0.06)


def test_one_outlier_does_not_decide() -> None:
    values = np.append(normal(), np.float32(200))
    found = histogram(values)
    assert threshold(found, "minmax", INT8) == 200
    # 200,000 values err by T**2 / (12 * 127**2) each, and the outlier by (200 - T)**2: least at T = 98.4.
    assert least_error(found, INT8) == pytest.approx(98.4, rel=0.05)
    assert 2 < entropy(found) < 60
    assert percentile(found, 99.99) < 5
    best = squared_error(found, least_error(found, INT8), INT8)
    assert all(best <= squared_error(found, cut, INT8) * 1.001 for cut in (3.0, 10.0, 60.0, 200.0))


def test_entropy_keeps_a_flat_distribution() -> None:
    flat = np.random.default_rng(0).random(500_000).astype(np.float32)
    assert entropy(histogram(flat)) > 0.9


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile", "mse"])
def test_a_tensor_of_zeros_has_a_range(method: str) -> None:
    assert threshold(histogram(np.zeros(100, np.float32)), method, INT8) == 1.0  # type: ignore[arg-type]


def test_weights_have_a_scale_per_channel() -> None:
    values = normal(4 * 64).reshape(4, 16, 2, 2) * np.array([1, 10, 0.1, 0], np.float32).reshape(4, 1, 1, 1)
    for number_format in (INT8, FP8):
        found = nearest(values, None, number_format)
        step = found.scale.reshape(4, 1, 1, 1)
        assert np.isfinite(found.values).all()
        error = np.abs(found.values - values)
        limit = step / 2 if number_format.kind == "int8" else np.abs(values) / 16 + step / 512
        assert (error <= limit * 1.01).mean() > 0.98, "all but a few that are cut off"
        assert not found.values[3].any()


def test_cutting_a_lone_large_weight_off_is_never_worse_than_not() -> None:
    values = normal(4000).reshape(1, 1000, 2, 2)
    values[0, 0, 0, 0] = 6
    chosen, plain = channel_scales(values, INT8), INT8.scale(np.abs(values).max())
    errors = [((INT8.apply(values, s) - values) ** 2).sum() for s in (chosen[0], plain)]
    assert errors[0] <= errors[1]
