"""A YOLOv8n with random weights, exported by Ultralytics: a real graph in two seconds, without a download."""

from __future__ import annotations

import warnings
from pathlib import Path


def export_yolov8n(folder: Path, *, imgsz: int = 320, config: str = "yolov8n") -> Path:
    """Write `folder/yolov8n.onnx`, or that of another configuration, and return it."""
    from ultralytics import YOLO

    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{config}.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = YOLO(f"{config}.yaml", verbose=False)
        # The exporter writes beside the weights it came from: give it some in our folder.
        model.save(weights)
        return Path(YOLO(weights, verbose=False).export(format="onnx", imgsz=imgsz, verbose=False)).resolve()
