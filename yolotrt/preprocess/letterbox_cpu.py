"""Letterboxing on the CPU: BGR pictures of any size in, the model's input out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolotrt.model_spec import ModelSpec
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import Batch, ImageU8


def geometry_for(image: ImageU8, spec: ModelSpec) -> LetterboxGeometry:
    """Where a picture (BGR `uint8 [H, W, 3]`) lands in the input of a model."""
    return LetterboxGeometry.compute(
        (image.shape[0], image.shape[1]), spec.imgsz, rule=spec.letterbox, stride=spec.stride
    )


def letterbox(images: Sequence[ImageU8], spec: ModelSpec) -> Batch:
    """Resize, pad and normalise pictures as the model was trained: 8-bit bilinear, RGB, 0..1, planes.

    Args:
        images: BGR `uint8 [H, W, 3]`, at least one. They must land in one input size: with
            `spec.letterbox.resize == "minimal"` the caller groups them by `geometry_for(...).input_size`.

    Returns:
        A batch `[N, 3, H, W]` in `spec.input.dtype`.
    """
    geometries = tuple(geometry_for(image, spec) for image in images)
    sizes = {g.input_size for g in geometries}
    if len(sizes) != 1:
        raise ValueError(f"pictures of one batch must land in one input size, got {sorted(sizes)}")
    height, width = sizes.pop()
    out = np.empty((len(images), 3, height, width), dtype=np.dtype(spec.input.dtype))
    for image, geometry, planes in zip(images, geometries, out, strict=True):
        _place(image, geometry, spec.letterbox.pad_value, planes)
    return Batch(images=out, geometries=geometries)


def _place(image: ImageU8, geometry: LetterboxGeometry, pad_value: int, planes: npt.NDArray[Any]) -> None:
    """Write one picture into its `[3, H, W]` planes."""
    resized_h, resized_w = geometry.resized_size
    if (resized_h, resized_w) != geometry.source_size:
        image = cv2.resize(image, (resized_w, resized_h), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    top, left = geometry.pad_top, geometry.pad_left
    bottom, right = top + resized_h, left + resized_w
    pad = planes.dtype.type(np.float32(pad_value) / np.float32(255))
    planes[:, :top], planes[:, bottom:] = pad, pad
    planes[:, top:bottom, :left], planes[:, top:bottom, right:] = pad, pad
    # Splitting first makes the conversion run over contiguous rows, which is several times as fast as a strided read.
    for plane, channel in zip(planes, reversed(cv2.split(image)), strict=True):
        np.divide(channel, np.float32(255), out=plane[top:bottom, left:right], casting="same_kind")
