"""From a model's outputs to `Detections`: one module per task, one function per head."""

from __future__ import annotations

from collections.abc import Sequence

from yolotrt.decode.detect import decode_detect
from yolotrt.detections import Detections
from yolotrt.errors import ModelError
from yolotrt.options import DetectOptions
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import RawOutputs

_TASKS = {"detect": decode_detect}


def decode(
    outputs: RawOutputs, geometries: Sequence[LetterboxGeometry], options: DetectOptions | Sequence[DetectOptions]
) -> list[Detections]:
    """Decode one batch: a `Detections` per image, in source pixels.

    Args:
        outputs: of a back-end.
        geometries: one per image.
        options: for all images, or one per image.

    Raises NonFiniteOutputError for NaN or infinity.
    """
    task = outputs.spec.task
    if task not in _TASKS:
        raise ModelError("a task that yolotrt does not decode", got=task, expected=", ".join(_TASKS))
    each = [options] * len(geometries) if isinstance(options, DetectOptions) else options
    return _TASKS[task](outputs, geometries, each)
