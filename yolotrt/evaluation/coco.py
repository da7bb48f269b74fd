"""COCO mean average precision, computed by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolotrt.detections import Detections
from yolotrt.errors import MissingExtraError


@dataclass(frozen=True, kw_only=True)
class CocoMetrics:
    """Mean average precision, 0..1: over IoU 0.50 to 0.95, and at 0.50 and 0.75."""

    map50_95: float
    map50: float
    map75: float


def evaluate_coco(
    annotations: Path, detections: Mapping[int, Detections], *, category_ids: Sequence[int] | None = None
) -> CocoMetrics:
    """Score detections against a COCO file.

    Args:
        annotations: COCO instances JSON.
        detections: by image id, from a low threshold (`conf` 0.001), since precision is averaged over recall.
        category_ids: the COCO category of each class; the class ids themselves by default.

    Raises:
        MissingExtraError: faster-coco-eval is not installed (extra `eval`).
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as e:
        raise MissingExtraError("faster-coco-eval", "eval", needed_for="Mean average precision") from e
    results: list[dict[str, Any]] = []
    for image_id, found in detections.items():
        results += found.to_coco(image_id, category_ids=category_ids)
    if not results:
        return CocoMetrics(map50_95=0.0, map50=0.0, map75=0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluator = COCOeval_faster(truth, truth.loadRes(results), "bbox")
        evaluator.params.imgIds = list(detections)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    map50_95, map50, map75 = (float(v) for v in evaluator.stats[:3])
    return CocoMetrics(map50_95=map50_95, map50=map50, map75=map75)
