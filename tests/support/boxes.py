"""Detections for tests, written as rows."""

from __future__ import annotations

import numpy as np

from yolotrt.detections import Detections

Row = tuple[float, float, float, float, float, int]


def detections(*rows: Row) -> Detections:
    """Rows of x1, y1, x2, y2, confidence, class, in a picture of 100 x 100 with the classes a and b."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(
        xyxy=table[:, :4],
        confidence=table[:, 4],
        class_id=table[:, 5].astype(np.int64),
        names=("a", "b"),
        size=(100, 100),
    )
