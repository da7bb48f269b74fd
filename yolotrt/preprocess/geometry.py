"""The arithmetic of letterboxing: where a picture lands in the model's input, and how to map boxes back.

The rules are those of Ultralytics' `LetterBox` and `scale_boxes` (8.4): sides rounded half to even, each at least one
pixel; an odd padding puts the smaller half left and above; boxes are mapped back with the gain each side really got.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolotrt.model_spec import LetterboxRule, ModelSpec


@dataclass(frozen=True, kw_only=True)
class LetterboxGeometry:
    """Where one picture lies in the model's input. All sizes are (height, width) in pixels.

    Attributes:
        source_size: of the picture.
        input_size: of the model's input.
        resized_size: of the picture inside the input.
        pad_top: rows of padding above the picture.
        pad_left: columns of padding left of it.
    """

    source_size: tuple[int, int]
    input_size: tuple[int, int]
    resized_size: tuple[int, int]
    pad_top: int
    pad_left: int

    def __post_init__(self) -> None:
        for side in (*self.source_size, *self.input_size, *self.resized_size):
            if side < 1:
                raise ValueError(f"sizes must be at least 1 pixel: {self}")

    @classmethod
    @functools.lru_cache(maxsize=256)  # the frames of a video all have the same one
    def compute(
        cls, source_size: tuple[int, int], imgsz: tuple[int, int], *, rule: LetterboxRule, stride: int = 32
    ) -> LetterboxGeometry:
        """Place a picture of `source_size` into an input of `imgsz` (both (height, width)) by `rule`.

        With `rule.resize == "minimal"` the input may come out smaller than `imgsz`: padded to a multiple of `stride`.
        """
        (source_h, source_w), (input_h, input_w) = source_size, imgsz
        if rule.resize == "stretch":
            return cls(source_size=source_size, input_size=imgsz, resized_size=imgsz, pad_top=0, pad_left=0)
        ratio = min(input_h / source_h, input_w / source_w)
        if not rule.scale_up:
            ratio = min(ratio, 1.0)
        resized_h, resized_w = max(round(source_h * ratio), 1), max(round(source_w * ratio), 1)
        spare_h, spare_w = input_h - resized_h, input_w - resized_w
        if rule.resize == "minimal":
            spare_h, spare_w = spare_h % stride, spare_w % stride
        return cls(
            source_size=source_size,
            input_size=(resized_h + spare_h, resized_w + spare_w),
            resized_size=(resized_h, resized_w),
            # The 0.1 makes an odd padding put its smaller half first, whatever the rounding of halves.
            pad_top=round(spare_h / 2 - 0.1) if rule.center else 0,
            pad_left=round(spare_w / 2 - 0.1) if rule.center else 0,
        )

    @property
    def gain(self) -> tuple[float, float]:
        """(vertical, horizontal) input pixels per source pixel; they differ by rounding, or freely when stretched."""
        return self.resized_size[0] / self.source_size[0], self.resized_size[1] / self.source_size[1]

    def to_source(self, xyxy: npt.NDArray[np.floating], *, clip: bool = True) -> npt.NDArray[np.float32]:
        """Map boxes `[n, 4]` (x1, y1, x2, y2) from input pixels to source pixels, clipped to the picture."""
        boxes: npt.NDArray[np.float32] = (np.asarray(xyxy, dtype=np.float32) - self._offset) / self._scale
        if clip:
            np.minimum(np.maximum(boxes, 0, out=boxes), self._limit, out=boxes)
        return boxes

    def to_input(self, xyxy: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Map boxes `[n, 4]` from source pixels to input pixels. The inverse of `to_source` for boxes inside."""
        boxes: npt.NDArray[np.float32] = np.asarray(xyxy, dtype=np.float32) * self._scale + self._offset
        return boxes

    # Kept, since all frames of a video share one geometry.

    @functools.cached_property
    def _offset(self) -> npt.NDArray[np.float32]:
        return np.array([self.pad_left, self.pad_top] * 2, dtype=np.float32)

    @functools.cached_property
    def _scale(self) -> npt.NDArray[np.float32]:
        return np.array([*reversed(self.gain)] * 2, dtype=np.float32)

    @functools.cached_property
    def _limit(self) -> npt.NDArray[np.float32]:
        return np.array([*reversed(self.source_size)] * 2, dtype=np.float32)


def geometry_of(size: tuple[int, int], spec: ModelSpec) -> LetterboxGeometry:
    """Where a picture of `size` (height, width) lands in the input of a model."""
    return LetterboxGeometry.compute(size, spec.imgsz, rule=spec.letterbox, stride=spec.stride)
