"""INT8 and FP8 graphs of the demo model give the same boxes in OpenVINO as in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.support.demo_val import DemoVal
from yolotrt import Detector, assets
from yolotrt.backends import BackendName
from yolotrt.evaluation.matching import match_all
from yolotrt.export.gate.running import write_model
from yolotrt.export.quantize import Calibration, Kind, QuantizeOptions
from yolotrt.export.samples import batches
from yolotrt.model_spec_infer import read_onnx_spec

pytest.importorskip("openvino")

CALIBRATED_ON = 4
COMPARED = 8
BACKENDS: tuple[BackendName, BackendName] = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def calibration(val: DemoVal) -> Calibration:
    model = onnx.load(assets.demo_model())
    paths = [val.images[i] for i in sorted(val.images)[:CALIBRATED_ON]]
    return Calibration.measure(model, lambda: batches(paths, read_onnx_spec(model)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_boxes_are_those_of_onnxruntime(val: DemoVal, calibration: Calibration, tmp_path: Path, kind: Kind) -> None:
    # Quick ranges and roundings: what counts here is that both compute the same, not how good it is.
    model = calibration.quantize(kind=kind, options=QuantizeOptions(method="mse", adaptive=False)).model
    path = tmp_path / f"{kind}.onnx"
    write_model(path, model, read_onnx_spec(calibration.model), kind)
    chosen = [val.pixels(i) for i in sorted(val.images)[CALIBRATED_ON :: len(val.images) // COMPARED]]
    found = {}
    for backend in BACKENDS:
        with Detector(path, backend=backend, conf=0.15) as detector:
            assert detector.info.precision.startswith(kind)
            found[backend] = [detector(p) for p in chosen]
    # Values between two steps fall to either side, and some boxes past the threshold: those of one above it must be
    # among those of the other down to a little below it.
    for one, other in (BACKENDS, BACKENDS[::-1]):
        confident = [d[d.confidence >= 0.25] for d in found[one]]
        pairs = match_all(zip(confident, found[other], strict=True), min_iou=0.8)
        assert pairs.reference > 2 * len(chosen)
        assert pairs.matched_share >= 0.97, pairs
