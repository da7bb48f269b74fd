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
    return Letterboxer(spec)(images)


class Letterboxer:
    """`letterbox` into memory that is used again: no page faults, and padding that stays is not written again.

    Not thread-safe, and a batch is valid only until the next call.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._memory = np.empty(0, dtype=np.dtype(spec.input.dtype))
        self._shape: tuple[int, ...] = ()
        self._padded: list[LetterboxGeometry | None] = []

    def __call__(self, images: Sequence[ImageU8]) -> Batch:
        """See `letterbox`."""
        geometries = tuple(geometry_for(image, self._spec) for image in images)
        sizes = {g.input_size for g in geometries}
        if len(sizes) != 1:
            raise ValueError(f"pictures of one batch must land in one input size, got {sorted(sizes)}")
        out = self._buffer((len(images), 3, *sizes.pop()))
        for i, (image, geometry) in enumerate(zip(images, geometries, strict=True)):
            if self._padded[i] != geometry:
                _pad(out[i], geometry, self._spec.letterbox.pad_value)
                self._padded[i] = geometry
            _place(image, geometry, out[i])
        return Batch(images=out, geometries=geometries)

    def _buffer(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        if shape[1:] != self._shape[1:]:
            self._padded = []
        if np.prod(shape) > self._memory.size:
            self._memory = np.empty(int(np.prod(shape)), dtype=self._memory.dtype)
            self._padded = []
        self._padded += [None] * (shape[0] - len(self._padded))
        self._shape = shape
        return self._memory[: np.prod(shape)].reshape(shape)


def _pad(planes: npt.NDArray[Any], geometry: LetterboxGeometry, pad_value: int) -> None:
    """Fill what lies around the picture in its `[3, H, W]` planes."""
    top, left = geometry.pad_top, geometry.pad_left
    bottom, right = top + geometry.resized_size[0], left + geometry.resized_size[1]
    pad = planes.dtype.type(np.float32(pad_value) / np.float32(255))
    planes[:, :top], planes[:, bottom:] = pad, pad
    planes[:, top:bottom, :left], planes[:, top:bottom, right:] = pad, pad


def _place(image: ImageU8, geometry: LetterboxGeometry, planes: npt.NDArray[Any]) -> None:
    """Write one picture into its `[3, H, W]` planes."""
    height, width = geometry.resized_size
    if (height, width) != geometry.source_size:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    top, left = geometry.pad_top, geometry.pad_left
    # Splitting first makes the conversion run over contiguous rows, which is several times as fast as a strided read.
    for plane, channel in zip(planes, reversed(cv2.split(image)), strict=True):
        np.divide(channel, np.float32(255), out=plane[top : top + height, left : left + width], casting="same_kind")
