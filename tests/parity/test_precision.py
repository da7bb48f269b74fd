"""FP16 keeps the boxes and the mean average precision of the weights it came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.conftest import WEIGHTS, Exported
from tests.support.demo_val import DemoVal
from tests.support.ultralytics_predict import UltralyticsPredictor
from yolotrt import Detections, Detector
from yolotrt.backends import BackendName
from yolotrt.evaluation.coco import evaluate_coco
from yolotrt.evaluation.matching import match_all
from yolotrt.model_spec_infer import read_onnx_spec

pytest.importorskip("ultralytics")


pytestmark = pytest.mark.slow

Found = dict[int, Detections]


def boxes(model: Path, val: DemoVal, backend: BackendName) -> Found:
    with Detector(model, conf=0.001, backend=backend) as detector:
        return {i: detector(val.pixels(i)) for i in val.images}


@pytest.fixture(scope="module")
def half(val: DemoVal, exported: Exported) -> Found:
    # ONNX Runtime keeps activations in FP16 between nodes; OpenVINO would widen all of them.
    return boxes(exported("fp16"), val, "onnxruntime")


def mean_average_precision(found: Found, val: DemoVal) -> float:
    categories = tuple(range(1, len(next(iter(found.values())).names) + 1))
    return evaluate_coco(val.annotations, found, category_ids=categories).map50_95


def test_fp16_boxes_are_those_of_the_weights(val: DemoVal, half: Found) -> None:
    weights = UltralyticsPredictor(WEIGHTS, rect=False)  # square input, as the ONNX has it
    # A weak box suppresses no stronger one: those above the threshold are the same whatever else was asked for.
    strong = {i: found[found.confidence > 0.25] for i, found in half.items()}
    m = match_all(((weights(val.pixels(i)), strong[i]) for i in sorted(val.images)), min_iou=0.98)
    assert m.reference > 2 * len(strong)
    assert m.matched_share >= 0.99, m
    assert m.added_share <= 0.01, m


def test_fp16_keeps_the_mean_average_precision(val: DemoVal, half: Found, exported: Exported) -> None:
    full = mean_average_precision(boxes(exported(), val, "auto"), val)
    assert full >= 0.75
    assert mean_average_precision(half, val) / full >= 0.999


def test_the_export_is_in_fp16(exported: Exported) -> None:
    assert read_onnx_spec(exported("fp16")).precision == "fp16"
