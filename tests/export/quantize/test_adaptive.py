"""Adaptive rounding: what it knows of the data, and that outputs err less for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.export.quantize.graphs import WIDE, conv_silu, graph, pictures
from yolotrt.export.quantize import Calibration, Kind, QuantizeOptions, moments
from yolotrt.export.quantize.adaptive import adaptive
from yolotrt.export.quantize.formats import FORMATS, INT8
from yolotrt.export.quantize.moments import second_moments
from yolotrt.export.quantize.observe import with_outputs
from yolotrt.export.quantize.place import place
from yolotrt.export.quantize.weights import nearest
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.types import Batch

CASES = {
    "plain": ((4, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    "uneven": ((4, 4, 2, 3), {"pads": [0, 2, 1, 1], "strides": [2, 1], "dilations": [3, 2]}),
    "pointwise": ((4, 4, 1, 1), {}),
    "grouped": ((4, 2, 3, 3), {"group": 2}),
    "depthwise": ((4, 1, 3, 3), {"group": 4, "strides": [2, 2]}),
}


def one(shape: tuple[int, ...], attributes: dict[str, Any]) -> onnx.ModelProto:
    """A convolution `t` of these weights over `a`."""
    values = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    body = [*conv_silu("x", "a"), helper.make_node("Conv", ["a", "v"], ["t"], name="t", **attributes)]
    return graph(body, {"v": values})


@pytest.mark.parametrize(("shape", "attributes"), CASES.values(), ids=CASES)
def test_moments_tell_the_error_of_the_output(shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    model = one(shape, attributes)
    placement = place(model)
    scales = {c.key: 0.01 for c in placement.convolutions}
    found = {c.key: m for c, m in second_moments(model, placement.convolutions, scales, pictures, INT8)}
    weights = onnx.numpy_helper.to_array(next(i for i in model.graph.initializer if i.name == "v"))
    power = 0.0
    for batch in pictures():
        data = OnnxRunner(with_outputs(model, ["a"]), what="the model")(batch.images)[0]
        alone = helper.make_model(
            helper.make_graph(
                [helper.make_node("Conv", ["a", "v"], ["t"], **attributes)],
                "alone",
                [helper.make_tensor_value_info("a", 1, data.shape)],
                [helper.make_tensor_value_info("t", 1, None)],
                [onnx.numpy_helper.from_array(weights, "v")],
            ),
            opset_imports=[helper.make_opsetid("", 19)],
            ir_version=10,
        )
        power += float((OnnxRunner(alone, what="it")(INT8.apply(data, 0.01))[0].astype(np.float64) ** 2).sum())
    rows = weights.reshape(len(found["t"]), -1, found["t"].shape[1])
    assert np.einsum("gok,gkl,gol->", rows, found["t"], rows) == pytest.approx(power, rel=1e-4)


def test_a_model_that_is_too_large_takes_more_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = graph([*conv_silu("x", "a"), *conv_silu("a", "t")])
    placement = place(model)
    scales = {c.key: 0.01 for c in placement.convolutions}
    passes = []

    def batches() -> Iterator[Batch]:
        passes.append(1)
        return iter(pictures())

    whole = {c.key: m for c, m in second_moments(model, placement.convolutions, scales, batches, INT8)}
    assert len(passes) == 1
    monkeypatch.setattr(moments, "LIMIT_BYTES", 1)
    parts = {c.key: m for c, m in second_moments(model, placement.convolutions, scales, batches, INT8)}
    assert len(passes) == 1 + len(placement.convolutions)
    assert whole.keys() == parts.keys()
    for key, moment in whole.items():
        np.testing.assert_allclose(parts[key], moment, rtol=1e-5)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_outputs_err_less_than_with_the_nearest_values(kind: Kind) -> None:
    dice = np.random.default_rng(3)
    weights = dice.standard_normal((8, 10, 3, 3)).astype(np.float32)
    mixed = dice.standard_normal((90, 90)) @ np.diag(np.geomspace(1, 0.03, 90)) @ dice.standard_normal((90, 90))
    data = dice.standard_normal((2000, 90)) @ mixed
    moment = (data.T @ data)[None].astype(np.float32)

    def error(values: np.ndarray) -> float:
        return float(((data @ (values - weights).reshape(8, -1).T) ** 2).sum())

    plain = nearest(weights, None, FORMATS[kind])
    found = adaptive(weights, None, moment, FORMATS[kind])
    np.testing.assert_array_equal(found.scale, plain.scale)
    np.testing.assert_array_equal(FORMATS[kind].round(found.rounded), found.rounded)
    assert error(found.values) < 0.5 * error(plain.values)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_inputs_that_have_nothing_in_common_give_the_nearest_values(kind: Kind) -> None:
    weights = np.random.default_rng(4).standard_normal((6, 80, 1, 1)).astype(np.float32)
    bias = np.arange(6, dtype=np.float32)
    moment = np.diag(np.linspace(1, 9, 80, dtype=np.float32))[None]
    found, plain = adaptive(weights, bias, moment, FORMATS[kind]), nearest(weights, bias, FORMATS[kind])
    np.testing.assert_array_equal(found.rounded, plain.rounded)
    np.testing.assert_array_equal(found.bias, bias)


def test_an_input_that_is_always_zero_does_no_harm() -> None:
    weights = np.random.default_rng(4).standard_normal((2, 3, 1, 1)).astype(np.float32)
    found = adaptive(weights, None, np.zeros((1, 3, 3), np.float32), INT8)
    np.testing.assert_array_equal(found.rounded, nearest(weights, None, INT8).rounded)


def test_weights_are_rounded_once_for_all_versions() -> None:
    calls = []

    def batches() -> Iterator[Batch]:
        calls.append(1)
        return iter(pictures())

    calibration = Calibration.measure(graph([*conv_silu("x", "a"), *conv_silu("a", "t")], channels=WIDE), batches)
    everything = calibration.quantize(kind="int8")
    calls.clear()
    part = calibration.quantize(kind="int8", keep=lambda n: n.name == "a_conv", like=everything)
    assert not calls
    assert part.share < everything.share
    plain = calibration.quantize(kind="int8", like=everything, options=QuantizeOptions(adaptive=False))
    assert plain.model.SerializeToString() != everything.model.SerializeToString()
