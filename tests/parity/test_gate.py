"""What the README promises of FP8 and INT8, on the demo model and all of its validation pictures."""

from __future__ import annotations

import cv2
import onnx
import pytest

from demo.dataset import make_example
from tests.support.demo_val import DemoVal
from yolotrt import assets
from yolotrt.evaluation.dataset import open_dataset
from yolotrt.export.gate.versions import Judge
from yolotrt.export.gate.yardstick import ByLabels
from yolotrt.export.quantize import Calibration, Kind
from yolotrt.export.quantize.cache import measured
from yolotrt.export.quantize.pictures import CalibrationPictures, find_calibration
from yolotrt.model_spec_infer import read_onnx_spec

COUNT = 128

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(assets.demo_model())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> CalibrationPictures:
    """The first pictures of the train split."""
    folder = tmp_path_factory.mktemp("train")
    for index in range(COUNT):
        pixels = make_example("train", index).pixels
        cv2.imwrite(str(folder / f"{index:06}.jpg"), pixels[:, :, ::-1].copy(), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return find_calibration(calib=folder, data=None, count=COUNT)


@pytest.fixture(scope="module")
def judge(model: onnx.ModelProto, val: DemoVal) -> Judge:
    dataset = open_dataset(val.folder / "data.yaml")
    return Judge(ByLabels(read_onnx_spec(model), dataset), model, max_drop=0.005, say=lambda _: None)


@pytest.fixture(scope="module")
def calibration(model: onnx.ModelProto, pictures: CalibrationPictures) -> Calibration:
    return measured(model, pictures, read_onnx_spec(model))[0]


@pytest.mark.parametrize(("kind", "kept"), [("int8", 0.995), ("fp8", 0.996)])
def test_quantization_keeps_the_accuracy(judge: Judge, calibration: Calibration, kind: Kind, kept: float) -> None:
    # FP8 throughout is short of the 0.998 that `--fp8` asks for: the search gives some convolutions back to FP16.
    found = judge.quantized(calibration.quantize(kind=kind))
    assert found.shares[kind] >= 0.85
    assert judge.relative(found) >= kept
