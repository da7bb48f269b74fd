"""A YOLOv8n with random weights, exported by Ultralytics: a real graph in two seconds, without a download."""

from __future__ import annotations

import warnings
from pathlib import Path


def export_yolov8n(folder: Path, *, imgsz: int = 320) -> Path:
    """Write `folder/yolov8n.onnx` and return it."""
    from ultralytics import YOLO

    weights = folder / "yolov8n.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = YOLO("yolov8n.yaml", verbose=False)
        # The exporter writes beside the weights it came from: give it some in our folder.
        model.save(weights)
        return Path(YOLO(weights, verbose=False).export(format="onnx", imgsz=imgsz, verbose=False)).resolve()
