"""What a batch of pictures takes to the GPU: the table that a recording reads, and the pixels of host pictures."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.cuda.machine import Machine, Memory, PinnedMemory, Queue
from yolotrt.decode.detect_cuda import THRESHOLDS, DecodeLayout
from yolotrt.errors import SourceError
from yolotrt.options import DetectOptions
from yolotrt.preprocess.letterbox_cuda import PICTURE, Rows
from yolotrt.preprocess.surface import Surface
from yolotrt.types import ImageU8

_PIECE = 512 << 10  # bytes: a large picture is handed to the GPU in pieces, the first while the next is copied


@dataclass(frozen=True)
class HostPicture:
    """A picture on the host, and which of its rows go to the GPU."""

    image: ImageU8
    rows: Rows
    is_pinned: bool

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    @property
    def count(self) -> int:
        """Rows that are sent."""
        return len(self.image) if self.rows.index is None else len(self.rows.index)

    @property
    def staged_size(self) -> int:
        """Bytes that are sent."""
        return 3 * int(self.image.shape[1]) * self.count


class Table:
    """What a recorded batch reads: pictures, thresholds and class filters, on the host and on the GPU."""

    def __init__(self, machine: Machine, layout: DecodeLayout, batch: int) -> None:
        sizes = [batch * PICTURE.itemsize, batch * THRESHOLDS.itemsize, 4 * batch * layout.class_words]
        starts = _starts(sizes)
        self._size = starts[-1]
        with contextlib.ExitStack() as made:
            self._host = made.enter_context(contextlib.closing(machine.pin(self._size)))
            self._device = made.enter_context(contextlib.closing(machine.allocate(self._size)))
            self._memory = made.pop_all()
        addresses = [self._device.address + start for start in starts]
        self.pictures_address, self.thresholds_address, self.classes_address = addresses[:3]
        parts = [self._host.array[start : start + size] for start, size in zip(starts[:3], sizes, strict=True)]
        self.pictures: npt.NDArray[Any] = parts[0].view(PICTURE)
        self.thresholds: npt.NDArray[Any] = parts[1].view(THRESHOLDS)
        self.classes: npt.NDArray[np.uint32] = parts[2].view(np.uint32).reshape(batch, layout.class_words)
        self._pixels, self._chroma = self.pictures["pixels"], self.pictures["chroma"]
        # What the slots hold, so that of the next frame of a video no more is written than where it lies.
        self._kinds: list[tuple[object, ...] | None] = [None] * batch
        self._options: list[DetectOptions | None] = [None] * batch

    def clear(self, slots: range) -> None:
        """No picture in these slots: they are padding of the batch."""
        for slot in slots:
            self.forget(slot)
        if slots:
            self.pictures[slots.start : slots.stop] = 0
            self.thresholds[slots.start : slots.stop] = 0

    def forget(self, slot: int) -> None:
        """The slot is to be written as a whole."""
        self._kinds[slot] = self._options[slot] = None

    def move(self, slot: int, surface: Surface, options: DetectOptions) -> bool:
        """Put a surface into a slot that holds another one of its kind; False where all is to be written."""
        kind = surface.kind
        if self._options[slot] is options and self._kinds[slot] == kind:
            self._pixels[slot], self._chroma[slot] = surface.address, surface.chroma_address
            return True
        self._kinds[slot], self._options[slot] = kind, options
        return False

    def upload(self, queue: Queue) -> None:
        queue.copy(self._device.address, self._host.address, self._size)

    def close(self) -> None:
        self._memory.close()


class Staging:
    """The way of host pictures to the GPU: pinned memory and its twin there, which grow with the pictures."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._memory = contextlib.ExitStack()
        self._host: PinnedMemory | None = None
        self._device: Memory | None = None
        self._starts: list[int] = []

    def reserve(self, sizes: Sequence[int]) -> None:
        """Make room for pictures of these sizes in bytes. Nothing may be queued from here."""
        self._starts = _starts(sizes)
        whole = self._starts[-1]
        if whole <= (self._host.size if self._host else 0):
            return
        self.close()
        self._host = self._memory.enter_context(contextlib.closing(self._machine.pin(whole)))
        self._device = self._memory.enter_context(contextlib.closing(self._machine.allocate(whole)))

    def pack(self, index: int, picture: HostPicture, queue: Queue) -> int:
        """Copy the rows of a picture that count to the GPU; return their address there."""
        assert self._host is not None
        assert self._device is not None
        image, rows = picture.image, picture.rows
        start, row = self._starts[index], 3 * image.shape[1]
        pinned = self._host.array[start : start + picture.staged_size].reshape(picture.count, *image.shape[1:])
        step = max(_PIECE // row, 1)
        for first in range(0, picture.count, step):
            piece = pinned[first : first + step]
            if rows.index is None:
                np.copyto(piece, image[first : first + step])
            else:
                # "clip" copies at once where the default would go through memory of its own; all rows are inside.
                np.take(image, rows.index[first : first + step], axis=0, out=piece, mode="clip")
            at = start + first * row
            queue.copy(self._device.address + at, self._host.address + at, piece.nbytes)
        return self._device.address + start

    def send(self, index: int, picture: HostPicture, queue: Queue) -> int:
        """Copy a picture that is in pinned memory already to the GPU; return its address there."""
        assert self._device is not None
        at = self._device.address + self._starts[index]
        source, blocks = picture.image.ctypes.data, picture.rows.blocks
        if blocks is None:
            queue.copy(at, source, picture.staged_size)
        else:
            row = 3 * picture.image.shape[1]
            queue.copy_blocks(at, source + blocks.first * row, blocks.rows * row, blocks.count, blocks.step * row)
        return at

    def close(self) -> None:
        self._host = self._device = None
        self._memory.close()


def check_image(image: object) -> None:
    if not isinstance(image, np.ndarray):
        got = f"an object of type {type(image).__name__}"
    elif image.dtype != np.uint8 or image.shape[2:] != (3,) or not image.size:
        got = f"an array of {image.dtype} {image.shape}"
    else:
        return
    raise SourceError("not a picture", got=got, expected="uint8 (H, W, 3) in BGR, or a DevicePicture")


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where parts of these sizes start, each aligned to 256 bytes; at the end where the last one ends."""
    return list(itertools.accumulate((-(-size // 256) * 256 for size in sizes), initial=0))
