"""Ultralytics' own `predict`, as the yardstick: the boxes that people get today."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import torchvision_ops
from yolotrt.detections import Detections
from yolotrt.types import ImageU8


class UltralyticsPredictor:
    """A model loaded once in Ultralytics.

    Args:
        model: `.pt`, `.onnx` or whatever else Ultralytics loads.
        options: of `predict`: `imgsz`, `conf`, `iou`, ...
    """

    def __init__(self, model: Path, **options: Any) -> None:
        torchvision_ops.install()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ultralytics import YOLO
            from ultralytics.utils import LOGGER
        LOGGER.setLevel(logging.ERROR)
        self._model = YOLO(str(model), task="detect")
        self._options = {"verbose": False, "save": False, "device": "cpu", **options}

    def results(self, image: ImageU8) -> Any:
        """Ultralytics' own result object for one picture; its `speed` holds milliseconds per stage."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._model.predict(image, **self._options)[0]

    def stream(self, folder: Path) -> Iterator[Any]:
        """Ultralytics' results for the pictures of a folder, one after the other."""
        return iter(self._model.predict(str(folder), stream=True, **self._options))

    def __call__(self, image: ImageU8) -> Detections:
        """The boxes of one picture."""
        result = self.results(image)
        boxes = result.boxes.cpu().numpy()
        return Detections(
            xyxy=np.asarray(boxes.xyxy, np.float32).reshape(-1, 4),
            confidence=np.asarray(boxes.conf, np.float32),
            class_id=np.asarray(boxes.cls).astype(np.int64),
            names=tuple(result.names[i] for i in sorted(result.names)),
            size=result.orig_shape,
        )
