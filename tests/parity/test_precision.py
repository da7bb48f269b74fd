"""FP16 keeps the boxes and the mean average precision of the weights it came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.conftest import WEIGHTS, Exported
from tests.support.demo_val import DemoVal
from tests.support.ultralytics_predict import UltralyticsPredictor
from yolotrt import Detector
from yolotrt.evaluation.coco import evaluate_coco
from yolotrt.evaluation.matching import match_all

pytest.importorskip("ultralytics")


def mean_average_precision(model: Path, val: DemoVal) -> float:
    with Detector(model, conf=0.001) as detector:
        found = {i: detector(val.pixels(i)) for i in val.images}
    categories = tuple(range(1, len(detector.names) + 1))
    return evaluate_coco(val.annotations, found, category_ids=categories).map50_95


@pytest.mark.slow
def test_fp16_boxes_are_those_of_the_weights(val: DemoVal, exported: Exported) -> None:
    weights = UltralyticsPredictor(WEIGHTS, rect=False)  # square input, as the ONNX has it
    pictures = [val.pixels(i) for i in sorted(val.images)]
    # ONNX Runtime keeps activations in FP16 between nodes; OpenVINO would widen all of them.
    with Detector(exported("fp16"), backend="onnxruntime") as half:
        assert half.spec.precision == "fp16"
        m = match_all(((weights(p), half(p)) for p in pictures), min_iou=0.98)
    assert m.reference > 2 * len(pictures)
    assert m.matched_share >= 0.99, m
    assert m.added_share <= 0.01, m


@pytest.mark.slow
def test_fp16_keeps_the_mean_average_precision(val: DemoVal, exported: Exported) -> None:
    full, half = (mean_average_precision(exported(p), val) for p in ("fp32", "fp16"))
    assert full >= 0.75
    assert half / full >= 0.999
