"""Calibration on pictures: what is observed, what is chosen, what is corrected, and that it streams."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.export.quantize.graphs import WIDE, conv, conv_silu, graph, pictures, weights
from yolotrt.errors import ExportError, UsageError
from yolotrt.export.quantize import Calibration, QuantizeOptions, quantize
from yolotrt.export.quantize.calibrate import choose, group_histograms
from yolotrt.export.quantize.correct import correct_biases
from yolotrt.export.quantize.formats import FP8, INT8
from yolotrt.export.quantize.histogram import Histogram
from yolotrt.export.quantize.insert import raise_opset
from yolotrt.export.quantize.local_errors import mean_errors, range_errors
from yolotrt.export.quantize.observe import CalibrationDigest, Fetcher, observe
from yolotrt.export.quantize.place import GraphView, place
from yolotrt.export.quantize.search import search
from yolotrt.export.quantize.sensitivity import Sensitivity, rank
from yolotrt.export.quantize.weights import nearest
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.types import Batch


def network(channels: int = 4) -> onnx.ModelProto:
    """Three quantized convolutions."""
    return graph([*conv_silu("x", "a"), *conv_silu("a", "t")], channels=channels)


def run(model: onnx.ModelProto, batch: Batch) -> np.ndarray:
    return np.asarray(OnnxRunner(model, what="the model")(batch.images)[0])


def test_histograms_hold_every_value_of_every_picture() -> None:
    digest = CalibrationDigest()
    found = observe(network(), ["image", "x", "a"], pictures(5), digest=digest)
    assert {name: int(h.counts.sum()) for name, h in found.items()} == {
        "image": 5 * 3 * 256, "x": 5 * 4 * 256, "a": 5 * 4 * 256,
    }  # fmt: skip
    assert found["image"].largest == pytest.approx(max(b.images.max() for b in pictures(5)))
    assert digest.pictures == 5


def test_the_digest_is_that_of_the_pictures() -> None:
    digests = []
    for given in (pictures(3), pictures(3), pictures(3)[::-1], pictures(2)):
        digests.append(CalibrationDigest())
        for batch in given:
            digests[-1].add(batch)
    texts = [str(d) for d in digests]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_large_tensors_are_fetched_in_several_runs() -> None:
    size = 4 * 256 * 4
    fetcher = Fetcher(network(), ["x", "a", "t"], limit=2 * size)
    plain = dict(Fetcher(network(), ["x", "a", "t"])(pictures()[0]))
    for _ in range(2):
        found = dict(fetcher(pictures()[0]))
        assert all((found[name] == plain[name]).all() for name in plain)
    assert fetcher._runs == [["x", "a"], ["t"]]


def test_memory_does_not_grow_with_the_number_of_pictures() -> None:
    def many(count: int) -> Iterator[Batch]:
        for _ in range(count):
            yield from pictures(1)

    def peak(count: int) -> int:
        tracemalloc.start()
        observe(network(), ["image", "x", "a", "t"], many(count), digest=CalibrationDigest())
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)  # what is only imported or cached once
    assert peak(200) < peak(5) * 1.2 + 100_000


def test_values_that_are_not_finite_are_refused() -> None:
    model = graph([conv("x", "a", w="huge"), *conv_silu("a", "t")], {"huge": np.full((4, 4, 3, 3), np.float32(3e38))})
    with pytest.raises(ExportError, match="not finite"):
        quantize(model, pictures, kind="int8")


def test_the_noise_of_a_range_is_what_the_convolution_gives() -> None:
    model = network()
    placement = place(model)
    convolution = next(c for c in placement.convolutions if c.key == "a_conv")
    found = range_errors(model, [convolution], {"a_conv": [0.5, 0.01]}, pictures(2), INT8)["a_conv"]
    noise, power = np.zeros(2), 0.0

    def squared_power(values: np.ndarray) -> float:
        return float(((values.astype(np.float64) ** 2).sum(axis=1) ** 2).sum())

    single = graph([conv("x", "t")])
    del single.graph.node[:3], single.graph.node[-1:]
    single.graph.node[0].input[2] = ""
    single.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("x", 1, [1, 4, 16, 16]))
    single.graph.output[0].name = "t"
    runner = OnnxRunner(single, what="one convolution")
    for batch in pictures(2):
        values = dict(Fetcher(model, ["x", "a_conv"])(batch))
        power += squared_power(values["a_conv"])
        for i, scale in enumerate((0.5, 0.01)):
            error = INT8.apply(values["x"], scale) - values["x"]
            noise[i] += squared_power(runner(error)[0])
    np.testing.assert_allclose(found, np.sqrt(noise / power), rtol=1e-3)


def test_the_range_with_the_least_noise_is_chosen() -> None:
    model = network()
    placement = place(model)
    histograms = group_histograms(placement, observe(model, placement.tensors, pictures(), digest=CalibrationDigest()))
    # As if one wild value had been seen in every tensor: min-max would now waste all but a few levels.
    for histogram in histograms:
        histogram.add(np.array([histogram.largest * 50], np.float32))
    chosen = choose(model, placement, histograms, pictures(), INT8)
    for found, histogram in zip(chosen, histograms, strict=True):
        assert found.method != "minmax"
        assert found.threshold < histogram.largest / 10
        assert found.noise is not None
        assert found.noise < 1e-2


def test_a_few_strong_positions_decide() -> None:
    # One of 256 positions is at 8, the others at 1: cut at 4, the data is right nearly everywhere.
    model = network()
    stem = next(c for c in place(model).convolutions if c.key == "stem_conv")
    images = np.ones((1, 3, 16, 16), np.float32)
    images[0, :, 8, 8] = 8
    batch = dataclasses.replace(pictures(1)[0], images=images)
    found = range_errors(model, [stem], {"stem_conv": [8 / 127, 4 / 127]}, [batch], INT8)["stem_conv"]
    assert found[0] < 0.01
    assert found[1] > 0.1


def test_a_tensor_that_only_an_addition_reads_keeps_all_its_values() -> None:
    body = [
        *conv_silu("x", "a"),
        helper.make_node("AveragePool", ["x"], ["mean"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["mean", "a"], ["sum"]),
        *conv_silu("sum", "t"),
    ]
    found = quantize(graph(body), pictures, kind="int8")
    assert found.methods["mean"] == "minmax"
    assert set(found.scales) == {"image", "x", "mean", "sum"}


def test_fp8_takes_the_largest_magnitude() -> None:
    model = network(WIDE)
    placement = place(model, kind="fp8")
    histograms = group_histograms(placement, observe(model, placement.tensors, pictures(), digest=CalibrationDigest()))
    for found, histogram in zip(choose(model, placement, histograms, [], FP8), histograms, strict=True):
        assert (found.method, found.threshold) == ("minmax", histogram.largest)


def test_biases_take_back_the_shift_of_the_mean() -> None:
    model = network()
    placement, view = place(model), GraphView(model)
    histograms = group_histograms(placement, observe(model, placement.tensors, pictures(), digest=CalibrationDigest()))
    chosen = [dataclasses.replace(r, scale=r.scale * 4) for r in choose(model, placement, histograms, pictures(), INT8)]
    rounded = {c.key: nearest(view.constant(c.weight), view.constant("b"), INT8) for c in placement.convolutions}
    scales = {c.key: chosen[c.root_group].scale for c in placement.convolutions}
    shift = mean_errors(model, placement.convolutions, scales, rounded, pictures(), INT8)
    corrected = correct_biases(model, placement, chosen, rounded, pictures(), INT8)
    for key, error in shift.items():
        assert np.abs(error).max() > 1e-5
        before, after = rounded[key].bias, corrected[key].bias
        assert before is not None
        assert after is not None
        np.testing.assert_allclose(after, before - error, rtol=1e-6)


def test_a_quantized_graph_computes_nearly_the_same() -> None:
    model = network(WIDE)
    exact = run(model, pictures()[0])
    for kind, limit in (("int8", 0.03), ("fp8", 0.1)):
        for options in (QuantizeOptions(), QuantizeOptions(correct_bias=True), QuantizeOptions(adaptive=False)):
            found = quantize(model, pictures, kind=kind, options=options)  # type: ignore[arg-type]
            onnx.checker.check_model(found.model, full_check=True)
            y = run(found.model, pictures()[0])
            assert y.dtype == np.float32
            assert np.abs(y - exact).max() < limit * np.abs(exact).max()
            assert found.pictures == 4


def test_the_same_pictures_give_the_same_graph() -> None:
    first, second = (quantize(network(), pictures, kind="int8") for _ in range(2))
    assert first.model.SerializeToString(deterministic=True) == second.model.SerializeToString(deterministic=True)
    assert first.calibration_digest == second.calibration_digest


def test_older_operator_sets_are_raised() -> None:
    model = network(WIDE)
    model.opset_import[0].version = 17
    assert raise_opset(model).opset_import[0].version == 19
    assert quantize(model, pictures, kind="fp8").share > 0


def test_sensitivity_finds_the_convolution_that_hurts() -> None:
    wide = weights(5)
    wide[:, 0] *= 300  # one input channel decides each scale, and the others drown
    model = graph([*conv_silu("x", "a"), conv("a", "c", w="wide"), *conv_silu("c", "t")], {"wide": wide})
    calibration = Calibration.measure(model, pictures)
    exact = [run(model, b) for b in pictures()]

    def evaluate(candidate: onnx.ModelProto) -> float:
        return -float(np.mean([np.abs(run(candidate, b) - y).mean() for b, y in zip(pictures(), exact, strict=True)]))

    everything = calibration.quantize(kind="int8")
    ranked = rank(calibration, evaluate, everything)
    assert {s.name for s in ranked} == {"stem_conv", "a_conv", "c", "t_conv"}
    assert sum(s.share for s in ranked) == pytest.approx(everything.share)
    target = evaluate(everything.model) * 0.5
    found = search(calibration, evaluate, everything, ranked, target=target, min_share=0.0)
    assert found.met
    assert found.score >= target
    assert found.best.share < everything.share
    assert set(found.best.kept) - set(everything.kept) == {s.name for s in ranked[: len(found.best.kept) - 1]}
    assert all(found.best.scales[t] == everything.scales[t] for t in found.best.scales)


def test_a_target_that_cannot_be_met_gives_the_best_version() -> None:
    calibration = Calibration.measure(network(), pictures)
    everything = calibration.quantize(kind="int8")
    ranked = [Sensitivity(name=n, loss=1.0, share=0.3) for n in everything.quantized]
    found = search(calibration, lambda _: 0.5, everything, ranked, target=0.9, min_share=0.0)
    assert not found.met
    assert found.score == 0.5
    assert [t.given_back for t in found.trials] == [0, 2]
    with pytest.raises(UsageError, match="min_share"):
        search(calibration, lambda _: 0.5, everything, ranked, target=0.9, min_share=2)


def test_no_pictures_at_all() -> None:
    with pytest.raises(ExportError, match="without calibration pictures"):
        observe(network(), ["x"], [], digest=CalibrationDigest())
    assert Histogram().largest == 0
