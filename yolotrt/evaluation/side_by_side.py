"""Two sets of boxes on one picture, left and right, with those that have no partner marked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolotrt import files
from yolotrt.detections import Detections
from yolotrt.errors import SinkError, SourceError, UsageError
from yolotrt.plotting import caption, draw, outline
from yolotrt.sources.images import read_image
from yolotrt.types import ImageU8

_LONGEST = 960  # pixels of one half; more only makes the files large
_GAP = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Half:
    """One half of a comparison.

    Attributes:
        title: stands above it.
        boxes: in pixels of the picture.
        agreed: bool `[boxes]`: those that the other half has too; drawn as thin frames without a name.
        confidence: write it behind the names.
    """

    title: str
    boxes: Detections
    agreed: npt.NDArray[np.bool_]
    confidence: bool = True


def make_folder(folder: Path) -> None:
    """Make a folder for outputs. Raises SinkError where that cannot be."""
    if folder.is_file():
        raise SinkError(f"cannot write {folder}: a file stands where a folder is needed")
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def refuse_own_folder(folder: Path, option: str, pictures: Collection[Path]) -> None:
    """Raise UsageError where what is written into `folder` could take the place of pictures that are read."""
    if files.reaches_any(folder, pictures):
        raise UsageError(f"{option} {folder} holds the pictures that are read", expected="another folder")


def side_by_side(image: ImageU8, left: Half, right: Half) -> ImageU8:
    """Both halves as one picture, BGR `uint8 [H, W, 3]`, each at most 960 pixels wide and high."""
    drawn = [draw_half(image, half) for half in (left, right)]
    titled = [
        np.concatenate((caption(half.title, d.shape[1]), d)) for half, d in zip((left, right), drawn, strict=True)
    ]
    gap = np.full((titled[0].shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate((titled[0], gap, titled[1]), axis=1)


def draw_half(image: ImageU8, half: Half, *, longest: int = _LONGEST) -> ImageU8:
    """One half without its title, BGR `uint8 [H, W, 3]`, at most `longest` pixels wide and high."""
    scale = min(longest / max(image.shape[:2]), 1.0)
    if scale < 1:
        size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    boxes = replace(half.boxes, xyxy=(half.boxes.xyxy * np.float32(scale)).astype(np.float32))
    return draw(outline(image, boxes[half.agreed]), boxes[~half.agreed], confidence=half.confidence, line=3)


def write_side_by_side(folder: Path, rank: int, picture: Path, left: Half, right: Half) -> Path | None:
    """Write a comparison as JPEG; returns its path, or None where the picture can no longer be read.

    Raises:
        SinkError: it cannot be written.
    """
    try:
        image = read_image(picture)
    except SourceError:
        return None  # it was there a moment ago; the measurement stands without its picture
    encoded = cv2.imencode(".jpg", side_by_side(image, left, right), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    target = folder / f"worst-{rank:02d}-{picture.stem}.jpg"
    files.write_bytes(target, encoded.tobytes())
    return target
