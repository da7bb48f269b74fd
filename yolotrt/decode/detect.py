"""Decode the boxes of every detection head.

The steps are those of Ultralytics' `non_max_suppression` (8.4): best class of each box (with `multi_label` every
class), confidence above `conf`, at most 30,000 candidates, suppression per class, at most `max_det` boxes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from yolotrt.decode.nms_cpu import Float32Array, Int64Array, nms
from yolotrt.decode.raw import raw_candidates
from yolotrt.detections import Detections
from yolotrt.errors import NonFiniteOutputError
from yolotrt.model_spec import Head
from yolotrt.options import DetectOptions
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import RawOutputs

_MAX_CANDIDATES = 30_000

Candidates = tuple[Float32Array, Float32Array, Int64Array]
"""(xyxy `[n, 4]` in input pixels, confidence `[n]`, class_id `[n]`) of the boxes above the threshold."""


def decode_detect(
    outputs: RawOutputs, geometries: Sequence[LetterboxGeometry], options: Sequence[DetectOptions]
) -> list[Detections]:
    """Boxes of each image of a batch, in source pixels, by falling confidence.

    Args:
        outputs: of a back-end; arrays are `[N, ...]` as `ModelSpec.head` says. Rows beyond the geometries are padding
            of the batch and ignored.
        geometries: one per image.
        options: thresholds and filters, one per image.

    Raises:
        NonFiniteOutputError: NaN or infinity among the scores, or in a box above the threshold.
    """
    spec = outputs.spec
    needs_nms = spec.head in ("anchor_free", "objectness", "raw")
    found = []
    for index, (geometry, kept) in enumerate(zip(geometries, options, strict=True)):
        xyxy, confidence, class_id = _filter(_candidates(outputs, index, geometry, kept), kept)
        if needs_nms:
            keep = nms(xyxy, confidence, None if kept.agnostic else class_id, iou=kept.iou, max_det=kept.max_det)
        else:
            keep = np.argsort(-confidence, kind="stable")[: kept.max_det]
        found.append(
            Detections(
                xyxy=geometry.to_source(xyxy[keep], clip=kept.clip),
                confidence=confidence[keep],
                class_id=class_id[keep],
                names=spec.names,
                size=geometry.source_size,
            )
        )
    return found


def _candidates(outputs: RawOutputs, index: int, geometry: LetterboxGeometry, options: DetectOptions) -> Candidates:
    """Of one picture of a batch."""
    if outputs.spec.head != "raw":
        return _HEADS[outputs.spec.head](outputs.first[index].astype(np.float32, copy=False), geometry, options)
    found = raw_candidates(outputs, index, conf=options.conf, every_class=options.multi_label)
    if found is None:
        raise non_finite()
    return found


def _anchor_free(image: Float32Array, _: LetterboxGeometry, options: DetectOptions) -> Candidates:
    """`[4 + nc, A]`: cx, cy, w, h in input pixels, class scores."""
    best = image[4:].max(axis=0)
    chosen = _above(best, options.conf)
    image = image.take(chosen, axis=1)
    if options.multi_label:
        box, class_id, confidence = _every_class(image[4:].T, options.conf)
        return _corners(image[:4, box]), confidence, class_id
    return _corners(image[:4]), best[chosen], image[4:].argmax(axis=0)


def _objectness(image: Float32Array, _: LetterboxGeometry, options: DetectOptions) -> Candidates:
    """`[A, 5 + nc]`: cx, cy, w, h in input pixels, objectness, class scores. Confidence is their product."""
    image = image[_above(image[:, 4], options.conf)]
    scores = image[:, 5:] * image[:, 4:5]
    if options.multi_label:
        _above(scores.ravel(), options.conf)  # for NaN
        box, class_id, confidence = _every_class(scores, options.conf)
        return _corners(image[box, :4].T), confidence, class_id
    class_id = scores.argmax(axis=1) if scores.size else np.empty(0, np.int64)
    confidence = scores[np.arange(len(scores)), class_id]
    chosen = _above(confidence, options.conf)
    return _corners(image[chosen, :4].T), confidence[chosen], class_id[chosen]


def _end_to_end(image: Float32Array, _: LetterboxGeometry, options: DetectOptions) -> Candidates:
    """`[K, 6]`: x1, y1, x2, y2 in input pixels, confidence, class."""
    image = image[_above(image[:, 4], options.conf)]
    return image[:, :4], image[:, 4], image[:, 5].astype(np.int64)


def _detr(image: Float32Array, geometry: LetterboxGeometry, options: DetectOptions) -> Candidates:
    """`[K, 6]`: cx, cy, w, h in 0..1, confidence, class."""
    image = image[_above(image[:, 4], options.conf)]
    height, width = geometry.input_size
    boxes = _corners(image[:, :4].T) * np.array([width, height, width, height], dtype=np.float32)
    return boxes, image[:, 4], image[:, 5].astype(np.int64)


_HEADS: dict[Head, Callable[[Float32Array, LetterboxGeometry, DetectOptions], Candidates]] = {
    "anchor_free": _anchor_free,
    "objectness": _objectness,
    "end_to_end": _end_to_end,
    "detr": _detr,
}


def _above(confidence: Float32Array, conf: float) -> Int64Array:
    """Indices with a confidence above `conf`. NaN compares false with everything, so it has to be looked for."""
    # The maximum of anything with NaN is NaN: one pass, at a tenth of the cost of isfinite().all().
    if confidence.size and not math.isfinite(confidence.max()):
        raise non_finite()
    return (confidence > np.float32(conf)).nonzero()[0]


def _every_class(scores: Float32Array, conf: float) -> tuple[Int64Array, Int64Array, Float32Array]:
    """Of scores `[n, nc]` those above `conf`: which box, which class, and the score itself, each `[k]`."""
    box, class_id = np.nonzero(scores > np.float32(conf))
    return box, class_id, scores[box, class_id]


def _filter(candidates: Candidates, options: DetectOptions) -> Candidates:
    xyxy, confidence, class_id = candidates
    if not np.isfinite(xyxy).all():
        raise non_finite()
    if options.classes is not None:
        chosen: npt.NDArray[np.intp] = np.flatnonzero(np.isin(class_id, options.classes))
        xyxy, confidence, class_id = xyxy[chosen], confidence[chosen], class_id[chosen]
    if len(confidence) > _MAX_CANDIDATES:
        strongest = np.argsort(-confidence, kind="stable")[:_MAX_CANDIDATES]
        xyxy, confidence, class_id = xyxy[strongest], confidence[strongest], class_id[strongest]
    return xyxy, confidence, class_id


def _corners(cxcywh: Float32Array) -> Float32Array:
    """cx, cy, w, h `[4, n]` to x1, y1, x2, y2 `[n, 4]`."""
    centre, half = cxcywh[:2], cxcywh[2:] / 2
    corners: Float32Array = np.concatenate((centre - half, centre + half))
    return corners.T


def non_finite() -> NonFiniteOutputError:
    return NonFiniteOutputError(
        "the model's output holds NaN or infinity",
        expected="finite numbers",
        remedy="Export it with --precision fp32; if that cures it, report the model: its values overflow FP16.",
    )
