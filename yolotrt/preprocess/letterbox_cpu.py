"""Letterboxing on the CPU: BGR pictures of any size in, the model's input out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from yolotrt.model_spec import ModelSpec
from yolotrt.preprocess.geometry import LetterboxGeometry, geometry_of
from yolotrt.types import Batch, ImageU8


def geometry_for(image: ImageU8, spec: ModelSpec) -> LetterboxGeometry:
    """Where a picture (BGR `uint8 [H, W, 3]`) lands in the input of a model."""
    return geometry_of((image.shape[0], image.shape[1]), spec)


def letterbox(images: Sequence[ImageU8], spec: ModelSpec, *, channels_last: bool = False) -> Batch:
    """Resize, pad and normalise pictures as the model was trained: 8-bit bilinear, RGB, 0..1, planes.

    Args:
        images: BGR `uint8 [H, W, 3]`, at least one. They must land in one input size: with
            `spec.letterbox.resize == "minimal"` the caller groups them by `geometry_for(...).input_size`.
        channels_last: in memory, keep the channels of a pixel side by side, for back-ends that take them so.

    Returns:
        A batch `[N, 3, H, W]` in `spec.input.dtype`.
    """
    return Letterboxer(spec, channels_last=channels_last)(images)


class Letterboxer:
    """`letterbox` into memory that is used again: no page faults, and padding that stays is not written again.

    Not thread-safe, and a batch is valid only until the next call.
    """

    def __init__(self, spec: ModelSpec, *, channels_last: bool = False) -> None:
        self._spec, self._channels_last = spec, channels_last
        self._memory = np.empty(0, dtype=np.dtype(spec.input.dtype))
        self._values = _normalised(np.arange(256), self._memory.dtype)
        self._shape: tuple[int, ...] = ()
        self._padded: list[LetterboxGeometry | None] = []
        self._held: dict[str, npt.NDArray[np.uint8]] = {}
        # What the batch before was like: all frames of a video are alike, and nothing is worked out again for them.
        self._sizes: tuple[tuple[int, ...], ...] = ()
        self._batch: Batch | None = None
        self._targets: list[_Target] = []

    def __call__(self, images: Sequence[ImageU8]) -> Batch:
        """See `letterbox`."""
        sizes = tuple([image.shape[:2] for image in images])
        if self._batch is None or sizes != self._sizes:
            self._batch = None  # until all of it is as it should be
            self._batch, self._sizes = self._arranged(images), sizes
        for image, target in zip(images, self._targets, strict=True):
            self._place(image, target)
        return self._batch

    def _arranged(self, images: Sequence[ImageU8]) -> Batch:
        """A batch of pictures of these sizes: padding, and places for the pictures."""
        geometries = tuple(geometry_for(image, self._spec) for image in images)
        sizes = {g.input_size for g in geometries}
        if len(sizes) != 1:
            raise ValueError(f"pictures of one batch must land in one input size, got {sorted(sizes)}")
        out = self._buffer((len(images), 3, *sizes.pop()))
        self._targets = []
        for i, geometry in enumerate(geometries):
            if self._padded[i] != geometry:
                _pad(out[i], geometry, self._values[self._spec.letterbox.pad_value])
                self._padded[i] = geometry
            self._targets.append(self._target(geometry, out[i]))
        return Batch(images=out, geometries=geometries)

    def _buffer(self, shape: tuple[int, int, int, int]) -> npt.NDArray[Any]:
        if shape[1:] != self._shape[1:]:
            self._padded = []
        if np.prod(shape) > self._memory.size:
            self._memory = np.empty(int(np.prod(shape)), dtype=self._memory.dtype)
            self._padded = []
        self._padded += [None] * (shape[0] - len(self._padded))
        self._shape = shape
        used = self._memory[: np.prod(shape)]
        if self._channels_last:
            n, channels, h, w = shape
            return used.reshape(n, h, w, channels).transpose(0, 3, 1, 2)
        return used.reshape(shape)

    def _target(self, geometry: LetterboxGeometry, planes: npt.NDArray[Any]) -> _Target:
        """Where a picture goes in its `[3, H, W]` planes."""
        top, left = geometry.pad_top, geometry.pad_left
        bottom, right = top + geometry.resized_size[0], left + geometry.resized_size[1]
        values, width = self._values, geometry.input_size[1]
        if values.dtype == np.float16:
            # OpenCV takes the bits of FP16 as integers, which every version of it can copy.
            planes, values = planes.view(np.uint16), values.view(np.uint16)
        # Numbers side by side, as many as can be: OpenCV works with several threads from some size on.
        if self._channels_last:
            rows = planes.transpose(1, 2, 0).reshape(-1, 3 * width)
            parts = [rows[top:bottom, 3 * left : 3 * right]]
        elif geometry.resized_size[1] == width:
            parts = [planes.reshape(3, -1)[:, top * width : bottom * width]]
        else:
            parts = list(planes[:, top:bottom, left:right])
        return _Target(geometry.resized_size, parts, values)

    def _place(self, image: ImageU8, target: _Target) -> None:
        """Write one picture. A value per level of grey is exact, and faster than the division."""
        resized = self._resized(image, target.size)
        height, width = target.size
        if self._channels_last:
            rgb = self._scratch("rgb", (height, 3 * width))
            cv2.cvtColor(resized, cv2.COLOR_BGR2RGB, dst=rgb.reshape(height, width, 3))
        else:
            # Apart while they are bytes: a quarter of the memory.
            rgb = self._scratch("planes", (3, height * width))
            red, green, blue = rgb.reshape(3, height, width)
            cv2.split(resized, [blue, green, red])
        if len(target.parts) == 1:
            cv2.LUT(rgb, target.values, dst=target.parts[0])
            return
        for plane, part in zip(rgb, target.parts, strict=True):
            cv2.LUT(plane.reshape(height, width), target.values, dst=part)

    def _resized(self, image: ImageU8, size: tuple[int, int]) -> ImageU8:
        """A picture in another size (height, width), 8-bit bilinear; its memory may be used for the next one."""
        if image.shape[:2] == size:
            return image
        height, width = size
        memory = self._scratch("resized", (height, width, 3))
        step = image.shape[0] // height
        if step % 2 and image.shape[:2] == (step * height, step * width):
            # Each pixel lies on the middle one of those it stands for (1920 to 640: every third), which gets all of
            # the weight. The others need not be read.
            middle, nearest = image[step // 2 :, step // 2 :], cv2.INTER_NEAREST
            # OpenCV rounds x / factor down: 1 / 93 as it is rounded would lead to the pixels before.
            factor = math.nextafter(1 / step, 0)
            return cv2.resize(middle, None, dst=memory, fx=factor, fy=factor, interpolation=nearest)  # type: ignore[return-value]
        return cv2.resize(image, (width, height), dst=memory, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]

    def _scratch(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Memory that the next picture uses again: new memory costs more than the work that is done in it."""
        held = self._held.get(name)
        if held is None or held.shape != shape:
            held = self._held[name] = np.empty(shape, np.uint8)
        return held


class _Target(NamedTuple):
    """Where a picture is written, and as what.

    Attributes:
        size: (height, width) that it is resized to.
        parts: red, green and blue planes `[h, w]`; as the only one, these three `[3, h * w]`, or rows `[h, w * 3]` of
            RGB.
        values: what each of the 256 levels becomes.
    """

    size: tuple[int, int]
    parts: list[npt.NDArray[Any]]
    values: npt.NDArray[Any]


def _normalised(levels: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """0..255 as the model takes it."""
    return (levels.astype(np.float32) / np.float32(255)).astype(dtype)


def _pad(planes: npt.NDArray[Any], geometry: LetterboxGeometry, value: np.floating[Any]) -> None:
    """Fill what lies around the picture in its `[3, H, W]` planes."""
    top, left = geometry.pad_top, geometry.pad_left
    bottom, right = top + geometry.resized_size[0], left + geometry.resized_size[1]
    planes[:, :top], planes[:, bottom:] = value, value
    planes[:, top:bottom, :left], planes[:, top:bottom, right:] = value, value
