"""Small labelled data sets for tests, in the forms that users bring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tests.support.media import GREY
from tests.support.tiny_models import CELL, tiny_yolo
from yolotrt import Detector

COLOURS = {0: (0, 0, 255), 1: (0, 255, 0), 2: (255, 0, 0)}
"""BGR colours of the tiny model's classes red, green and blue."""

Cells = Sequence[tuple[int, int, int]]


def cells_picture(path: Path, cells: Cells) -> Path:
    """Write a grey 64x64 picture with coloured cells of 16 pixels: (class, column, row)."""
    image = np.full((64, 64, 3), GREY, np.uint8)
    for class_id, column, row in cells:
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = COLOURS[class_id]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return path


PICTURES: dict[str, Cells] = {
    "a.png": [(0, 1, 1), (1, 2, 2)],
    "b.png": [(2, 1, 1)],
    "c.png": [(0, 2, 1), (0, 1, 2)],
    "empty.png": [],
}
"""No cell lies at the edge, where its box would be cut off."""


def tiny_set(folder: Path, pictures: dict[str, Cells] | None = None) -> Path:
    """Write a model and a data set in which it finds every box exactly; returns the data.yaml.

    `tiny.onnx` lies beside it, and `coco.json` holds the same labels. The pictures without a cell have no label file.
    """
    model = tiny_yolo(folder / "tiny.onnx")
    coco: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    coco["categories"] = [{"id": 10 + i, "name": name} for i, name in enumerate(("red", "green", "blue"))]
    with Detector(model, backend="onnxruntime") as detector:
        for number, (name, cells) in enumerate((pictures or PICTURES).items(), 1):
            path = cells_picture(folder / "images" / "val" / name, cells)
            coco["images"].append({"id": number, "file_name": name, "width": 64, "height": 64})
            lines = []
            for box, _, class_id in detector(path):
                x1, y1, x2, y2 = map(float, box)
                shares = ((x1 + x2) / 128, (y1 + y2) / 128, (x2 - x1) / 64, (y2 - y1) / 64)
                lines.append(f"{class_id} " + " ".join(f"{v:.6f}" for v in shares))
                coco["annotations"].append(
                    {"id": len(coco["annotations"]) + 1, "image_id": number, "category_id": 10 + class_id,
                     "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                )  # fmt: skip
            if lines:
                label = folder / "labels" / "val" / f"{path.stem}.txt"
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text("\n".join(lines) + "\n")
    (folder / "coco.json").write_text(json.dumps(coco))
    data = folder / "data.yaml"
    data.write_text("val: images/val\nnames: [red, green, blue]\n")
    return data
