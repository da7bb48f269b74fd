"""Letterboxing on the GPU: `letterbox.cu` and the description of the pictures that it reads.

All pictures of a batch are made in one launch. Addresses and sizes stand in a table in the GPU's memory, one `PICTURE`
each, so a recorded launch serves pictures of any size and place.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.cuda.kernel_source import KernelSource
from yolotrt.cuda.machine import Dim, Kernel, Machine, Queue
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.preprocess.surface import Matrix, Surface

SOURCE = KernelSource(Path(__file__).with_name("letterbox.cu"))

_FORMATS = {"bgr": 1, "rgb": 2, "nv12": 3}
_TILE, _BLOCK = (64, 16), (32, 8, 1)
ALL_ROWS, PAIRS_OF_ROWS, SINGLE_ROWS = 0, 1, 2
# What V adds to red, U to blue, and U and V take from green, of 65536, with chroma in 16..240: swscale's table.
_COLOURS: dict[Matrix, tuple[int, int, int, int]] = {
    "bt601": (104597, 132201, 25675, 53279),
    "bt709": (117489, 138438, 13975, 34925),
    "bt2020": (110013, 140363, 12277, 42626),
    "fcc": (104448, 132798, 24759, 53109),
    "smpte240m": (117579, 136230, 16907, 35559),
}

PICTURE = np.dtype(
    [
        ("pixels", np.uint64),
        ("chroma", np.uint64),
        ("scale_x", np.float64),
        ("scale_y", np.float64),
        ("width", np.int32),
        ("height", np.int32),
        ("pitch", np.int32),
        ("format", np.int32),
        ("resized_width", np.int32),
        ("resized_height", np.int32),
        ("left", np.int32),
        ("top", np.int32),
        ("rows", np.int32),
        ("halved", np.int32),
        ("luma_offset", np.int32),
        ("luma", np.int32),
        ("red_v", np.int32),
        ("green_u", np.int32),
        ("green_v", np.int32),
        ("blue_u", np.int32),
        ("pad", np.float32),
        ("unused", np.int32),
    ],
    align=True,
)
"""`Picture` of `letterbox.cu`. All zeros is a slot of the batch that is left as it is."""

_LETTERBOX = np.dtype(
    [("pictures", np.uint64), ("output", np.uint64), ("width", np.int32), ("height", np.int32)], align=True
)


@dataclass(frozen=True)
class Blocks:
    """Rows at equal distances.

    Attributes:
        first: the first row.
        rows: that lie together.
        step: from one such block to the next, in rows.
        count: blocks.
    """

    first: int
    rows: int
    step: int
    count: int

    @classmethod
    def of(cls, index: npt.NDArray[np.int64]) -> Blocks | None:
        """Of rows `[count, rows]`, if they lie so."""
        count, rows = index.shape
        step = int(index[1, 0] - index[0, 0]) if count > 1 else rows
        expected = index[0, 0] + step * np.arange(count)[:, None] + np.arange(rows)
        return cls(int(index[0, 0]), rows, step, count) if (index == expected).all() else None


@dataclass(frozen=True)
class Rows:
    """The rows of a picture that a resize reads.

    Attributes:
        mode: how the kernel finds them: `ALL_ROWS`, `PAIRS_OF_ROWS` or `SINGLE_ROWS` of each row of the result.
        index: int64, the rows to be sent, in order; None for all.
        blocks: the same rows where they lie at equal distances, as in a reduction by 3 or 4; else None.
    """

    mode: int
    index: npt.NDArray[np.int64] | None = None
    blocks: Blocks | None = None

    @classmethod
    @functools.lru_cache(maxsize=64)  # the frames of a video all have the same ones
    def of(cls, source: int, resized: int) -> Rows:
        """Of a picture with `source` rows that becomes one with `resized`.

        A reduction by more than 2 leaves out rows, and one by 3, 5, 7, ... needs a single row for each.
        """
        exact = ((np.arange(resized) + 0.5) * _scale(source, resized) - 0.5).astype(np.float32)
        near = np.floor(exact)
        pair = np.clip(np.stack((near, near + 1), axis=1), 0, source - 1).astype(np.int64)
        has_far = np.rint((exact - near) * np.float32(2048)) > 0
        if resized < source and not has_far.any():
            return cls(SINGLE_ROWS, np.ascontiguousarray(pair[:, 0]), Blocks.of(pair[:, :1]))
        if 2 * resized < source:
            return cls(PAIRS_OF_ROWS, pair.ravel(), Blocks.of(pair))
        return cls.all()

    @classmethod
    def all(cls) -> Rows:
        """Every row, in order."""
        return cls(ALL_ROWS)


def describe_host(address: int, rows: Rows, geometry: LetterboxGeometry, pad_value: int) -> npt.NDArray[Any]:
    """The `PICTURE` of a host picture (BGR `uint8 [H, W, 3]`) whose `rows` were copied to `address`."""
    found = _placed(geometry, pad_value).copy()
    found["pixels"], found["pitch"] = address, 3 * geometry.source_size[1]
    found["format"], found["rows"] = _FORMATS["bgr"], rows.mode
    return found


def describe_surface(surface: Surface, geometry: LetterboxGeometry, pad_value: int) -> npt.NDArray[Any]:
    """The `PICTURE` of a surface."""
    found = _placed(geometry, pad_value).copy()
    found["pixels"], found["pitch"] = surface.address, surface.pitch
    found["format"] = _FORMATS[surface.format]
    if surface.format == "nv12":
        found["chroma"] = surface.chroma_address
        for name, value in _colours(surface.matrix, full_range=surface.full_range).items():
            found[name] = value
    return found


class LetterboxKernel:
    """The kernel for inputs of one dtype."""

    def __init__(self, machine: Machine, dtype: str) -> None:
        """Args:
        machine: which compiles and loads it.
        dtype: of the model's input, `float32` or `float16`.
        """
        self._kernel: Kernel = machine.kernel(SOURCE, f"letterbox_{dtype}")

    def launch(self, queue: Queue, *, pictures: int, output: int, shape: tuple[int, int, int, int]) -> None:
        """Queue the making of a batch.

        Args:
            queue: to launch in.
            pictures: address of `PICTURE[N]`.
            output: address of the model's input.
            shape: of it, (N, 3, H, W), W even.
        """
        n, _, height, width = shape
        assert width % 2 == 0, "every YOLO's stride is even"
        arguments = np.array((pictures, output, width, height), _LETTERBOX)
        queue.launch(self._kernel, grid(n, height, width), _BLOCK, arguments)


def grid(n: int, height: int, width: int) -> Dim:
    """Blocks for a batch of this size."""
    return -(-width // _TILE[0]), -(-height // _TILE[1]), n


@functools.lru_cache(maxsize=64)
def _placed(geometry: LetterboxGeometry, pad_value: int) -> npt.NDArray[Any]:
    """What the geometry alone says of a `PICTURE`; to be copied."""
    (height, width), (resized_height, resized_width) = geometry.source_size, geometry.resized_size
    found = np.zeros((), PICTURE)
    found["height"], found["width"] = height, width
    found["resized_height"], found["resized_width"] = resized_height, resized_width
    found["scale_y"], found["scale_x"] = _scale(height, resized_height), _scale(width, resized_width)
    found["top"], found["left"] = geometry.pad_top, geometry.pad_left
    found["halved"] = height == 2 * resized_height and width == 2 * resized_width
    found["pad"] = np.float32(pad_value) / np.float32(255)
    return found


def _scale(source: int, resized: int) -> float:
    # OpenCV divides twice, and the last bit of a position decides on a weight.
    return 1.0 / (resized / source)


def _colours(matrix: Matrix, *, full_range: bool) -> dict[str, int]:
    """The numbers of YUV to RGB, of 8192, rounded as swscale rounds them."""
    luma, offset = (65536, 0) if full_range else (65536 * 255 // 219, 16)
    red_v, blue_u, green_u, green_v = (c * 224 // 255 if full_range else c for c in _COLOURS[matrix])
    numbers = {"luma": luma, "red_v": red_v, "green_u": -green_u, "green_v": -green_v, "blue_u": blue_u}
    return {"luma_offset": 8 * offset, **{name: (value + 4) >> 3 for name, value in numbers.items()}}
