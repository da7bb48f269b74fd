"""The pictures that are measured with: read before the clock starts, of the size that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from yolotrt import assets
from yolotrt.errors import UsageError
from yolotrt.types import Frame, ImageU8

FULL_HD = (1080, 1920)
"""(height, width) in pixels."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A choice of pictures that another process can read for itself.

    Attributes:
        sources: files of pictures, or videos of which frames are taken evenly.
        count: how many; pictures are repeated where there are fewer.
        size: (height, width) in pixels to bring all of them to; None leaves them as they are.
    """

    sources: tuple[Path, ...]
    count: int
    size: tuple[int, int] | None = None

    def read(self) -> list[ImageU8]:
        """The pictures, BGR `uint8 [H, W, 3]`. Raises SourceError for what cannot be read."""
        from yolotrt.sources import open_source

        every: list[ImageU8] = []
        for path in self.sources:
            with open_source(path) as source:
                every += [frame.pixels for frame in source]
        step = max(len(every) // self.count, 1)
        chosen = [every[i * step % len(every)] for i in range(self.count)]
        return [_resized(picture, self.size) for picture in chosen]


def sample_pictures(count: int, size: tuple[int, int] = FULL_HD) -> Pictures:
    """The pictures that come with yolotrt. Raises UsageError where this installation came without them."""
    found = assets.sample_images()
    if not found:
        raise UsageError("this installation came without sample pictures", remedy="Name one with --image FILE.")
    return Pictures(sources=tuple(found), count=count, size=size)


def frames_of(pictures: Sequence[ImageU8]) -> list[Frame]:
    return [Frame(picture=picture, source_id="bench", index=i) for i, picture in enumerate(pictures)]


def _resized(picture: ImageU8, size: tuple[int, int] | None) -> ImageU8:
    if size is None or picture.shape[:2] == size:
        return picture
    height, width = size
    enlarging = height > picture.shape[0]
    how = cv2.INTER_CUBIC if enlarging else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)
