"""Quantized graphs in the programs that read them: TensorRT-RTX, OpenVINO, and the demo model in all of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from demo.dataset import make_example
from tests.export.quantize.graphs import WIDE, conv_silu, graph, pictures, weights
from tests.support.demo_val import demo_val
from yolotrt import Detector, assets
from yolotrt.backends.flavours import for_target
from yolotrt.backends.openvino_graph import unsigned_activations
from yolotrt.backends.openvino_import import openvino_core
from yolotrt.evaluation.coco import evaluate_coco
from yolotrt.export.plan import build_plan
from yolotrt.export.quantize import Calibration, Kind, QuantizeOptions, QuantizeResult, quantize
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import PlanOptions
from yolotrt.preprocess.letterbox_cpu import letterbox
from yolotrt.types import Batch

DEMO = assets.folder() / "yolov8n_demo.onnx"
CALIBRATION_PICTURES = 8
VAL_STEP = 12


def network() -> onnx.ModelProto:
    """A residual block, and a Concat behind a MaxPool, wide enough for FP8."""
    body = [
        *conv_silu("x", "a"),
        helper.make_node("Add", ["x", "a"], ["sum"]),
        helper.make_node("MaxPool", ["sum"], ["pooled"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["x", "sum", "pooled"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "wide"], ["c"], name="c", pads=[1, 1, 1, 1]),
        *conv_silu("c", "t"),
    ]
    wide = np.concatenate([weights(s, 0.05, channels=WIDE) for s in (2, 3, 4)], axis=1)
    return graph(body, {"wide": wide}, channels=WIDE)


def openvino_run(model: onnx.ModelProto, batch: Batch) -> np.ndarray:
    pytest.importorskip("openvino")
    core = openvino_core(needed_for="this test")
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return np.array(compiled({0: batch.images})[0])


def plan_of(found: QuantizeResult, folder: Path) -> bytes:
    """An ahead-of-time build by TensorRT-RTX."""
    pytest.importorskip("tensorrt_rtx_bindings")
    path = folder / f"{found.kind}.onnx"
    onnx.save(found.model, path)
    height, width = (d.dim_value for d in found.model.graph.input[0].type.tensor_type.shape.dim[2:])
    spec = dataclasses.replace(read_onnx_spec(onnx.load(DEMO)), imgsz=(height, width))
    return build_plan(path, flavour=for_target("tensorrt-rtx"), spec=spec, options=PlanOptions()).data


def quantized_constants(plan: bytes, kind: Kind) -> int:
    """Weights that a TensorRT-RTX plan holds in a quantized type: one for each convolution that it runs in it."""
    name = {"int8": "int8", "fp8": "fp8_e4m3"}[kind].encode()
    return len(
        re.findall(rb"const_payload_size=\d+ dims=\{ \d+ \d+ \d+ \d+ \}[^}]*\{[^}]*\}[^}]*\{[^}]*\} type=" + name, plan)
    )


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_tensorrt_rtx_builds_it_without_a_gpu(kind: Kind, tmp_path: Path) -> None:
    found = quantize(network(), pictures, kind=kind)
    # Two of the convolutions share their weights, and the plan holds them once.
    assert quantized_constants(plan_of(found, tmp_path), kind) >= len(found.quantized) - 1


def test_openvino_computes_it_with_unsigned_activations() -> None:
    found = quantize(network(), pictures, kind="int8", options=QuantizeOptions(fp16=False))
    unsigned = unsigned_activations(found.model)
    onnx.checker.check_model(unsigned, full_check=True)
    for batch in pictures():
        exact = OnnxRunner(found.model, what="the model")(batch.images)[0]
        np.testing.assert_array_equal(OnnxRunner(unsigned, what="the model")(batch.images)[0], exact)
        np.testing.assert_allclose(openvino_run(unsigned, batch), exact, atol=2e-2 * np.abs(exact).max())


def test_graphs_without_signed_activations_stay_as_they_are() -> None:
    plain = network()
    assert unsigned_activations(plain) is plain
    fp8 = quantize(plain, pictures, kind="fp8").model
    assert unsigned_activations(fp8) is fp8


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    model = onnx.load(DEMO)
    spec = read_onnx_spec(model)
    examples = [make_example("train", i).pixels[:, :, ::-1] for i in range(CALIBRATION_PICTURES)]

    def batches() -> Iterator[Batch]:
        for pixels in examples:
            yield letterbox([np.ascontiguousarray(pixels)], spec)

    return Calibration.measure(model, batches)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "least"), [("int8", 0.98), ("fp8", 0.97)])
def test_the_demo_model_keeps_its_accuracy(calibration: Calibration, tmp_path: Path, kind: Kind, least: float) -> None:
    found = calibration.quantize(kind=kind, options=QuantizeOptions(method="mse"))
    assert found.share >= {"int8": 0.97, "fp8": 0.85}[kind]
    assert quantized_constants(plan_of(found, tmp_path), kind) >= len(found.quantized)
    path = tmp_path / "model.onnx"
    helper.set_model_props(found.model, {p.key: p.value for p in onnx.load(DEMO).metadata_props})
    onnx.save(found.model, path)
    val = demo_val()
    chosen = sorted(val.images)[::VAL_STEP]
    scores = []
    for model in (DEMO, path):
        with Detector(model, conf=0.001, backend="onnxruntime") as detector:
            boxes = {i: detector(val.pixels(i)) for i in chosen}
            categories = tuple(range(1, len(detector.names) + 1))
        scores.append(evaluate_coco(val.annotations, boxes, category_ids=categories).map50_95)
    assert scores[1] / scores[0] >= least
