"""`yolotrt val` agrees with Ultralytics' own `val` on the same ONNX file."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

from tests.support import torchvision_ops
from tests.support.demo_val import DemoVal
from yolotrt import Detector, assets
from yolotrt.evaluation.dataset import open_dataset
from yolotrt.evaluation.validate import VAL_OPTIONS, validate

pytest.importorskip("ultralytics")

MODEL = assets.folder() / "yolov8n_demo.onnx"


@pytest.fixture
def part(val: DemoVal, tmp_path: Path) -> Path:
    """A quarter of the demo set, as a set of its own: Ultralytics writes a cache beside the labels."""
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        (tmp_path / kind / "val").mkdir(parents=True)
        for path in sorted((val.folder / kind / "val").glob(f"*.{suffix}"))[::4]:
            (tmp_path / kind / "val" / path.name).symlink_to(path)
    data = tmp_path / "data.yaml"
    data.write_text((val.folder / "data.yaml").read_text(), encoding="utf-8")
    return data


@pytest.mark.slow
def test_the_same_precision_as_ultralytics(part: Path, tmp_path: Path) -> None:
    torchvision_ops.install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ultralytics import YOLO
        from ultralytics.utils import LOGGER

        LOGGER.setLevel(logging.ERROR)
        options = {"rect": False, "batch": 1, "imgsz": 640, "device": "cpu", "workers": 0, "plots": False}
        theirs = YOLO(str(MODEL), task="detect").val(
            data=str(part), verbose=False, project=str(tmp_path / "runs"), **options
        )
    with Detector(MODEL, backend="onnxruntime", options=VAL_OPTIONS) as detector:
        ours = validate(detector, open_dataset(part))
    assert ours.images == 60
    # Their own definition, box for box; and COCO's, which is another one.
    assert ours.curves.map50_95 == pytest.approx(theirs.box.map, abs=0.0002)
    assert ours.curves.map50 == pytest.approx(theirs.box.map50, abs=0.0002)
    assert ours.metrics.map50_95 == pytest.approx(theirs.box.map, abs=0.01)
    by_class = dict(zip(theirs.box.ap_class_index.tolist(), theirs.box.ap.tolist(), strict=True))
    for class_id, ap in zip(ours.curves.class_ids.tolist(), ours.curves.ap.mean(axis=1).tolist(), strict=True):
        assert ap == pytest.approx(by_class[class_id], abs=0.002)
