"""The main job on a GPU: the demo model to FP16, a plan, and the boxes of the sample video."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolotrt import Detections, Detector, assets
from yolotrt.evaluation.matching import match_all
from yolotrt.export.pipeline import export_model
from yolotrt.model_spec import BatchRange

pytestmark = pytest.mark.real_gpu("a whole video takes too long on host code")


@pytest.fixture(scope="module")
def cpu_boxes() -> list[Detections]:
    """The FP32 boxes of every frame of the sample video."""
    with Detector(assets.demo_model(), device="cpu") as detector:
        return [r.detections for r in detector.stream(assets.sample_video())]


@pytest.mark.parametrize("batch", [BatchRange(), BatchRange(min=1, opt=8, max=8)], ids=["static", "dynamic"])
def test_fp16_plan_gives_the_cpu_boxes(tmp_path: Path, cpu_boxes: list[Detections], batch: BatchRange) -> None:
    weights = assets.folder() / "yolov8n_demo.pt"
    result = export_model(weights, precision="fp16", batch=batch, output=tmp_path / "demo-fp16")
    assert result.plan is not None, result.note
    for graphs in (True, False):
        with Detector(result.manifest_path, strict=True, graphs=graphs) as detector:
            assert detector.info.device.startswith("cuda:0")
            assert detector.info.precision == "fp16"
            gpu_boxes = [r.detections for r in detector.stream(assets.sample_video())]
        m = match_all(zip(cpu_boxes, gpu_boxes, strict=True), min_iou=0.98)
        assert m.reference > len(cpu_boxes)
        assert m.matched_share >= 0.99, m
        assert m.added_share <= 0.01, m
