"""Pictures as files."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import cv2

from yolotrt import files
from yolotrt.errors import SinkError
from yolotrt.types import ImageU8

# What OpenCV writes with colours; pictures of other kinds are saved as the nearest of these.
_FORMATS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".jp2", ".avif", ".ppm")
)
_NEAREST = {".jfif": ".jpg", ".mpo": ".jpg", ".pnm": ".ppm", ".pgm": ".ppm", ".pbm": ".ppm"}
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)
# Without one, WebP is lossless: ten times the time and the size.
_QUALITY = {".jpg": _JPEG, ".jpeg": _JPEG, ".jpe": _JPEG, ".webp": (cv2.IMWRITE_WEBP_QUALITY, 95)}
_FRAME = re.compile(r"(.*)-\d{6,}", re.DOTALL)  # a video's name, and the number of a frame


def name_for(name: str) -> str:
    """The name of a picture's copy: its own, unless that kind of file cannot be written."""
    suffix = Path(name).suffix
    if suffix.lower() not in _FORMATS:
        suffix = _NEAREST.get(suffix.lower(), ".png")
    return Path(name).with_suffix(suffix).name


def save(target: Path, pixels: ImageU8) -> None:
    """Write a picture, BGR `uint8 [H, W, 3]`, whole or not at all. Raises SinkError where it cannot be written."""
    suffix = target.suffix.lower()
    try:
        ok, data = cv2.imencode(suffix, pixels, _QUALITY.get(suffix, ()))
    except cv2.error as e:
        raise SinkError(f"cannot write {target}: the picture cannot be encoded ({e.err or e})") from e
    if not ok:
        raise SinkError(f"cannot write {target}: the picture cannot be encoded", got=pixels.shape)
    files.write_bytes(target, data.data)


def safe_name(text: str) -> str:
    """What of `text` may stand in a file's name on any system; `_` if that is nothing."""
    return re.sub(r"[^\w .()+=@-]+", "_", text).strip(" .") or "_"


class Names:
    """File names that a run has not used yet; upper and lower case count as the same. Threads may share it."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._series: set[str] = set()
        self._numbered: set[str] = set()  # what is taken with a number behind it that might be a frame's
        self._lock = threading.Lock()

    def free(self, name: str, *, series: bool = False) -> str:
        """`name`, or with `-2`, `-3`, ... before its suffix.

        Args:
            series: it is for a video, whose frames get `-` and six digits behind it: none of these is free afterwards.
        """
        path = Path(name)
        number = 1
        with self._lock:
            while self._is_taken(name.lower(), series=series):
                number += 1
                name = f"{path.stem}-{number}{path.suffix}"
            self._take(name.lower(), series=series)
        return name

    def _is_taken(self, name: str, *, series: bool) -> bool:
        if name in self._taken or (series and name in self._numbered):
            return True
        frame = _FRAME.fullmatch(name)
        return frame is not None and frame[1] in self._series

    def _take(self, name: str, *, series: bool) -> None:
        self._taken.add(name)
        if series:
            self._series.add(name)
        frame = _FRAME.fullmatch(name)
        if frame is not None:
            self._numbered.add(frame[1])
