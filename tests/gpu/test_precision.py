"""Plans of each precision find what their ONNX files find, and are timed where they run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import pytest

from demo.dataset import make_example
from tests.support.demo_val import demo_val
from yolotrt import Detector, assets
from yolotrt.backends import BackendName
from yolotrt.backends.flavours import for_target
from yolotrt.evaluation.dataset import open_dataset
from yolotrt.evaluation.validate import VAL_OPTIONS, validate
from yolotrt.export.pipeline import export_model
from yolotrt.options import ExportOptions, PrecisionChoice

pytestmark = [pytest.mark.timeout(900), pytest.mark.real_gpu("FP8 takes too long in ONNX Runtime")]

CALIBRATION_PICTURES = 128


@pytest.fixture(scope="module")
def data() -> Path:
    return demo_val().folder / "data.yaml"


@pytest.fixture(scope="module")
def calib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first pictures of the train split."""
    folder = tmp_path_factory.mktemp("train")
    for index in range(CALIBRATION_PICTURES):
        cv2.imwrite(str(folder / f"{index:06}.jpg"), make_example("train", index).pixels[:, :, ::-1].copy())
    return folder


def map_of(model: Path, data: Path, backend: BackendName, *, graphs: bool = False) -> float:
    with Detector(model, options=VAL_OPTIONS, backend=backend, graphs=graphs) as detector:
        return float(validate(detector, open_dataset(data)).metrics.map50_95 or 0)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "fp8"])
def test_a_plan_is_as_good_as_its_onnx_file(
    tmp_path: Path, data: Path, calib: Path, precision: PrecisionChoice
) -> None:
    options = ExportOptions(precision=precision, output=tmp_path / precision)
    if precision == "fp8":
        options = dataclasses.replace(options, data=data, calib=calib)
    result = export_model(assets.demo_model(), options=options)
    assert result.plan is not None, result.note
    on_gpu, on_cpu = map_of(result.manifest_path, data, "tensorrt"), map_of(result.onnx, data, "onnxruntime")
    assert on_cpu > 0.8
    assert on_gpu == pytest.approx(on_cpu, abs=0.002)
    if precision == "fp16":
        assert map_of(result.manifest_path, data, "tensorrt", graphs=True) == pytest.approx(on_gpu, abs=0.0005)


def test_auto_measures_on_the_gpu_and_says_what_it_could_not_try(tmp_path: Path, data: Path, calib: Path) -> None:
    result = export_model(assets.demo_model(), precision="auto", output=tmp_path / "auto", data=data, calib=calib)
    proof = result.manifest.checks["accuracy"]
    timed = {v["name"]: v["latency"]["p50_ms"] for v in proof["versions"] if v["latency"]}
    assert {"FP32", "FP16", "FP8"} <= set(timed)
    inside = {v["name"] for v in proof["versions"] if v["inside"]} - {"FP32"}
    (chosen,) = (v["name"] for v in proof["versions"] if v["chosen"])
    assert chosen == min(inside & set(timed), key=lambda name: timed[name])
    if for_target("auto").lacks_precision("int8"):
        assert any(note.startswith("INT8 was not tried") for note in proof["notes"])
