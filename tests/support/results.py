"""Frame results for tests of sinks and reports."""

from __future__ import annotations

import numpy as np

from yolotrt.detections import Detections
from yolotrt.types import Frame, FrameResult, ImageU8, StageSeconds


def frame_result(
    pixels: ImageU8, source_id: str = "a.png", *, index: int = 0, timestamp_s: float = 0.0, boxes: int = 1
) -> FrameResult:
    """A frame with `boxes` boxes of class 0, `thing`, on it."""
    height, width = pixels.shape[:2]
    found = Detections(
        xyxy=np.array([[1, 2, width / 2 + i, height / 2] for i in range(boxes)], np.float32).reshape(boxes, 4),
        confidence=np.linspace(0.9, 0.5, boxes, dtype=np.float32),
        class_id=np.zeros(boxes, np.int64),
        names=("thing",),
        size=(height, width),
    )
    frame = Frame(picture=pixels, source_id=source_id, index=index, timestamp_s=timestamp_s)
    seconds = StageSeconds(decode=0.001, preprocess=0.002, inference=0.003, postprocess=0.004)
    return FrameResult(frame=frame, detections=found, seconds=seconds)
