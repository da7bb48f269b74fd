"""Tracing: every head, dynamic batch, sizes, metadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.export.conftest import Weights
from tests.support.ultralytics_predict import UltralyticsPredictor
from tests.support.weights import picture
from yolotrt.errors import ExportError, UsageError
from yolotrt.export.origin import TorchOrigin
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.export.simplify import simplify
from yolotrt.export.weights import load_weights
from yolotrt.model_spec import BatchRange
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import ExportOptions

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("config", "head", "shape"),
    [
        ("yolov8n", "anchor_free", (1, 9, 420)),
        ("yolo11n", "anchor_free", (1, 9, 420)),
        ("yolo26n", "end_to_end", (1, 300, 6)),
        ("yolov10n", "end_to_end", (1, 300, 6)),
        pytest.param("rtdetr-l", "detr", (1, 300, 6), marks=pytest.mark.slow),
    ],
)
def test_every_head(weights: Weights, config: str, head: str, shape: tuple[int, ...]) -> None:
    origin = TorchOrigin(weights(config), ExportOptions(imgsz=(128, 160)))
    model = simplify(origin.to_onnx())
    spec = read_onnx_spec(model)
    assert (spec.head, spec.outputs[0].shape, spec.imgsz) == (head, shape, (128, 160))
    assert spec.names == ("thing0", "thing1", "thing2", "thing3", "thing4")
    images = RNG.random((1, 3, 128, 160), dtype=np.float32)
    mine, theirs = OnnxRunner(model, what="m")(images)[0], origin.run(images)
    assert mine.shape == theirs.shape
    if head == "anchor_free":
        assert np.abs(mine - theirs).max() < 0.05
    else:
        assert np.abs(np.sort(mine[..., 4]) - np.sort(theirs[..., 4])).max() < 1e-3


@pytest.mark.parametrize("config", ["yolov8n", "yolo26n"])
def test_a_dynamic_batch_gives_what_single_pictures_give(weights: Weights, config: str) -> None:
    origin = TorchOrigin(weights(config), ExportOptions(imgsz=(96, 96), batch=BatchRange(min=1, opt=2, max=4)))
    model = simplify(origin.to_onnx())
    spec = read_onnx_spec(model)
    assert spec.input.shape == (None, 3, 96, 96)
    assert spec.outputs[0].shape[0] is None
    assert None not in spec.outputs[0].shape[1:]
    runner = OnnxRunner(model, what="m")
    images = RNG.random((3, 3, 96, 96), dtype=np.float32)
    together = runner(images)[0]
    for i in range(3):
        alone = runner(images[i : i + 1])[0][0]
        if config == "yolov8n":
            np.testing.assert_allclose(together[i], alone, atol=1e-2)
        else:
            np.testing.assert_allclose(together[i][:, 4], alone[:, 4], atol=1e-4)


def test_a_static_batch(weights: Weights) -> None:
    origin = TorchOrigin(weights("yolov8n"), ExportOptions(imgsz=(96, 96), batch=BatchRange(min=2, opt=2, max=2)))
    spec = read_onnx_spec(origin.to_onnx())
    assert spec.input.shape == (2, 3, 96, 96)
    assert spec.outputs[0].shape[0] == 2


def test_small_inputs_have_fewer_detections_than_300(weights: Weights) -> None:
    origin = TorchOrigin(weights("yolo26n"), ExportOptions(imgsz=(64, 64)))
    assert read_onnx_spec(simplify(origin.to_onnx())).outputs[0].shape == (1, 84, 6)


def test_tracing_leaves_the_weights_as_they_were(weights: Weights) -> None:
    origin = TorchOrigin(weights("yolo26n"), ExportOptions(imgsz=(96, 96)))
    images = RNG.random((1, 3, 96, 96), dtype=np.float32)
    before = origin.run(images)
    origin.to_onnx()
    np.testing.assert_array_equal(origin.run(images), before)


def test_the_same_weights_give_the_same_bytes(weights: Weights) -> None:
    options = ExportOptions(imgsz=(96, 96))
    first, second = (TorchOrigin(weights("yolov8n"), options).to_onnx() for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_ultralytics_runs_the_file(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(simplify(TorchOrigin(weights("yolov8n"), ExportOptions(imgsz=(128, 128))).to_onnx()), path)
    image = picture(3)
    from_onnx = UltralyticsPredictor(path, imgsz=128)(image)
    from_torch = UltralyticsPredictor(weights("yolov8n"), imgsz=128, rect=False)(image)
    assert from_onnx.names == from_torch.names
    assert len(from_onnx.xyxy) == len(from_torch.xyxy) > 0
    np.testing.assert_allclose(from_onnx.xyxy, from_torch.xyxy, atol=0.05)


def test_the_trained_size_is_the_default(weights: Weights) -> None:
    assert TorchOrigin(weights("yolov8n"), ExportOptions()).imgsz == (128, 128)


def test_sizes_that_are_no_multiple_of_the_stride(weights: Weights) -> None:
    with pytest.raises(UsageError, match=r"stride 32, got 100x96\. The nearest is 96\."):
        TorchOrigin(weights("yolov8n"), ExportOptions(imgsz=(100, 96)))
    with pytest.raises(UsageError, match="The nearest is 32"):
        TorchOrigin(weights("yolov8n"), ExportOptions(imgsz=(5, 5)))


def test_names_must_fit(weights: Weights) -> None:
    with pytest.raises(UsageError, match="got 2 names, expected 5 classes"):
        TorchOrigin(weights("yolov8n"), ExportOptions(names=("a", "b")))


def test_an_impossible_opset(weights: Weights) -> None:
    origin = TorchOrigin(weights("yolov8n"), ExportOptions(imgsz=(64, 64), opset=99))
    with pytest.raises(ExportError, match="could not trace"):
        origin.to_onnx()


def test_the_end_to_end_head_is_taken(weights: Weights) -> None:
    assert load_weights(weights("yolo26n")).end_to_end
    assert not load_weights(weights("yolo11n")).end_to_end
