"""Pictures: files of any kind that OpenCV reads, and arrays in memory."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from yolotrt.errors import SourceError
from yolotrt.picture_check import check_picture
from yolotrt.sources.base import Source, SourceInfo
from yolotrt.sources.bitstream import jpeg_is_truncated
from yolotrt.types import Frame, ImageU8

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .dib .webp .tif .tiff .jp2 .avif .ppm .pgm .pbm .pnm .mpo".split()  # noqa: SIM905
)
"""What a picture's name ends in, in lower case."""

_READERS = 8  # threads; each holds a picture


class ImagesSource(Source):
    """Picture files, in the order given. A bad one among several is a problem; a single bad one raises."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} pictures"
        super().__init__(SourceInfo(kind="pictures", name=name, frames=len(paths)))

    @property
    def paths(self) -> tuple[Path, ...]:
        return self._paths

    def __iter__(self) -> Iterator[Frame]:
        for found in read_side_by_side(self._paths):
            if isinstance(found, Frame):
                yield found
            elif len(self._paths) == 1:
                raise found
            else:
                self.on_problem(found)


def read_side_by_side(paths: Sequence[Path]) -> Iterator[Frame | SourceError]:
    """Read picture files in several threads, in order: one decodes fewer pictures than a GPU takes.

    As many are held as there are threads, and one on its way.
    """
    threads = min(max((os.cpu_count() or 1) // 2, 1), _READERS, len(paths))
    if threads <= 1:
        yield from map(_read, paths)
        return
    waiting: deque[Future[Frame | SourceError]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="yolotrt-pictures")
    try:
        for path in paths:
            waiting.append(pool.submit(_read, path))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(path: Path) -> Frame | SourceError:
    started = time.perf_counter()
    try:
        pixels = read_image(path)
    except SourceError as e:
        return e
    return Frame(picture=pixels, source_id=str(path), index=0, decode_s=time.perf_counter() - started)


class ArraysSource(Source):
    """Pictures in memory: BGR `uint8 [H, W, 3]`. Their source ids are `array-0`, `array-1`, ..."""

    def __init__(self, arrays: Sequence[ImageU8]) -> None:
        for array in arrays:
            check_picture(array)
        self._arrays = tuple(arrays)
        super().__init__(SourceInfo(kind="arrays", name=f"{len(arrays)} arrays", frames=len(arrays)))

    def __iter__(self) -> Iterator[Frame]:
        for number, array in enumerate(self._arrays):
            yield Frame(picture=np.ascontiguousarray(array), source_id=f"array-{number}", index=0)


def read_image(path: Path) -> ImageU8:
    """Read a picture file as BGR `uint8 [H, W, 3]`.

    EXIF rotation is applied, alpha dropped, grey and CMYK converted, and of 16 bits the upper 8 kept.

    Raises:
        SourceError: missing, empty, truncated, or not a picture.
    """
    try:
        data = path.read_bytes()  # and not cv2.imread, which cannot open every Unicode path on Windows
    except OSError as e:
        what = "no such file" if isinstance(e, FileNotFoundError) else e.strerror or str(e)
        raise SourceError(f"{path}: cannot read the picture: {what}") from e
    if not data:
        raise SourceError(f"{path}: the picture is empty (zero bytes)", remedy="Copy or download it again.")
    if is_truncated(data):
        raise SourceError(
            f"{path}: the picture is cut short", got=f"{len(data)} bytes", remedy="Copy or download it again."
        )
    pixels = _decode(data)
    if pixels is None:
        raise SourceError(f"{path}: not a picture, or a damaged one", expected="JPEG, PNG, BMP, WebP, TIFF, ...")
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise SourceError(f"{path}: unsupported sample type", got=pixels.dtype, expected="8 or 16 bits per channel")
    return np.ascontiguousarray(pixels)


def is_truncated(data: bytes) -> bool:
    """Whether the file's own structure says that its end is missing.

    OpenCV before 5.0 fills what is missing of a JPEG or PNG with grey or black and does not say so.
    """
    if data.startswith(b"\xff\xd8"):
        return jpeg_is_truncated(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data.rfind(b"IEND") < 0
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data.startswith(b"BM") and len(data) >= 34:
        return _bmp_is_truncated(data)
    return False


def _bmp_is_truncated(data: bytes) -> bool:
    offset, width, height = struct.unpack_from("<I4xii", data, 10)
    bits, compression = struct.unpack_from("<HI", data, 28)
    if compression not in (0, 3):
        return False  # run lengths: the size is not known beforehand
    size: int = offset + (width * bits + 31) // 32 * 4 * abs(height)
    return len(data) < size


def _decode(data: bytes) -> ImageU8 | None:
    with quiet_opencv():
        try:
            # ANYDEPTH, since OpenCV scales 16-bit TIFF to 8 bits in another way than 16-bit PNG.
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        except cv2.error:
            return None
    return pixels  # type: ignore[return-value]  # None for what it cannot read, whatever the stubs say


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV's own log lines off standard error; yolotrt reports bad pictures and cameras itself."""
    logging = getattr(cv2.utils, "logging", None)
    if logging is None:
        yield
        return
    with _quiet.lock:
        if not _quiet.count:
            _quiet.level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        _quiet.count += 1
    try:
        yield
    finally:
        with _quiet.lock:
            _quiet.count -= 1
            if not _quiet.count:
                logging.setLogLevel(_quiet.level)


@dataclass
class _Quiet:
    """How many threads want OpenCV to be quiet, and how loud it was before the first of them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0
    level: int = 0


_quiet = _Quiet()
