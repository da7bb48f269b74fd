"""The same ONNX file gives the same boxes as in Ultralytics' own `predict`."""

from __future__ import annotations

import pytest

from tests.parity.conftest import Exported
from tests.support.demo_val import DemoVal
from tests.support.ultralytics_predict import UltralyticsPredictor
from yolotrt import Detector
from yolotrt.evaluation.matching import match_all

pytest.importorskip("ultralytics")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("imgsz", "step"),
    [((640, 640), 1), ((384, 640), 4), ((640, 384), 4), ((320, 320), 4)],
    ids=["640x640", "384x640", "640x384", "320x320"],
)
def test_same_boxes_on_the_validation_set(val: DemoVal, exported: Exported, imgsz: tuple[int, int], step: int) -> None:
    model = exported(imgsz=imgsz)
    theirs = UltralyticsPredictor(model)
    pictures = [val.pixels(i) for i in sorted(val.images)[::step]]
    shapes = {(p.shape[0] > p.shape[1]) - (p.shape[0] < p.shape[1]) for p in pictures}
    assert shapes == {-1, 0, 1}, "wide, square and tall pictures"
    with Detector(model, backend="onnxruntime") as ours:
        m = match_all(
            ((theirs(p), ours(p)) for p in pictures),
            min_iou=0.99,
            max_confidence_delta=0.001,
        )
    assert m.reference > 2 * len(pictures)
    assert m.matched_share >= 0.995, m
    assert m.added_share <= 0.005, m
