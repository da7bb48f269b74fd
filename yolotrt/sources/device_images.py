"""Pictures in the memory of a GPU: a bounded number of NV12 surfaces, and the way to the host for who wants pixels."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from yolotrt.cuda.machine import Machine, Memory, Queue
from yolotrt.errors import CudaError
from yolotrt.preprocess.surface import Matrix, Surface
from yolotrt.sources.afterwards import Afterwards
from yolotrt.sources.pixels import Converter
from yolotrt.types import DeviceImage, ImageU8

if TYPE_CHECKING:
    import av


T = TypeVar("T")

_MOST_IN_SLAB = 16  # pictures: 50 MB at 1080p


@dataclass(frozen=True, kw_only=True)
class Colours:
    """What the numbers of a stream's pictures mean, as FFmpeg and as the kernels name it.

    Attributes:
        pix_fmt: FFmpeg's name of the pixel format, 4:2:0 with 8 bits.
        colorspace, color_range: FFmpeg's numbers of matrix and range.
        matrix, full_range: the same for `Surface`.
    """

    pix_fmt: str
    colorspace: int
    color_range: int
    matrix: Matrix
    full_range: bool


class Budget:
    """Bytes of a GPU's memory that all streams together may take for pictures."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.RLock()  # a lease may end anywhere, and in here as well

    def allocate(self, machine: Machine, size: int) -> Memory | None:
        """Memory of a GPU, to be freed by `free`; None where it is too much, or there is not enough."""
        with self._lock:
            if size > self._left:
                return None
            self._left -= size
        try:
            return machine.allocate(size)
        except CudaError:
            self._give_back(size)
            return None

    def free(self, memory: Memory) -> None:
        """Free what `allocate` gave. To be called inside of `Machine.active`, as that."""
        self._give_back(memory.size)
        memory.close()

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._left += size


class _Slab:
    """Memory for several pictures of one size: to make and to free it costs more than to decode a picture."""

    def __init__(self, memory: Memory, size: int, count: int) -> None:
        self.memory, self.size = memory, size
        self.places = count
        self.left = count  # places that are in use, or may be again

    def addresses(self) -> Iterator[int]:
        return (self.memory.address + place * aligned(self.size) for place in range(self.places))


class _Place(NamedTuple):
    """Where one picture lies."""

    slab: _Slab
    address: int


class Held(Protocol):
    """Memory that a picture has for as long as somebody holds this.

    Attributes:
        address: of its first byte.
    """

    @property
    def address(self) -> int: ...


class Pool(Protocol):
    """Memory for the pictures of one stream. One thread takes it."""

    def take(self, size: tuple[int, int]) -> Held | None:
        """Room for NV12 of (height, width); None where there is no more. To be called inside of `Machine.active`."""

    def written(self, queue: Queue) -> None:
        """What was queued so far fills the room that was taken last. Waits for it, if nobody does so later."""

    def settle(self) -> None:
        """Wait for all that was queued: the queues end."""

    def close(self) -> None:
        """No more pictures come."""


class SurfacePool:
    """The surfaces of one stream. Each comes back by itself once nobody holds it any more, in whichever thread.

    They are made when they are needed, as many again as there are already, and used again. Those made at a time are
    freed together, once the stream is closed and nobody holds any of them. One thread takes them.
    """

    def __init__(self, machine: Machine, *, limit: int, budget: Budget) -> None:
        """Args:
        machine: the GPU.
        limit: surfaces at a time.
        budget: shared with other streams.
        """
        self.machine = machine
        self._limit, self._budget = limit, budget
        self._idle: deque[_Place] = deque()  # appended to from `__del__`: a deque needs no lock
        self._retired = Afterwards(self._retire)  # guards what follows, and the counts of slabs
        self._made = 0
        self._closed = False

    def take(self, size: tuple[int, int]) -> Lease | None:
        """Room for NV12 of (height, width); None where as many are out as may be, or the GPU's memory is full.

        To be called inside of `Machine.active`.
        """
        wanted = size[0] * size[1] * 3 // 2
        while self._idle:
            place = self._idle.pop()
            if place.slab.size == wanted:
                return Lease(self, place)
            self._retired.hand_in(place)  # the size of the pictures has changed
        count = next_slab(self._made, self._limit)
        while count > 0:
            slab = self._slab(wanted, count)
            if slab is not None:
                first, *others = slab.addresses()
                self._idle.extend(_Place(slab, address) for address in others)
                return Lease(self, _Place(slab, first))
            count //= 2
        return None

    def written(self, queue: Queue) -> None:
        queue.wait()

    def settle(self) -> None:
        pass  # each picture was waited for

    def back(self, place: _Place) -> None:
        """A lease ends."""
        self._idle.append(place)
        if self._closed:
            self._empty()

    def close(self) -> None:
        """Free what is idle; what is still out is freed when it comes back."""
        self._closed = True
        self._empty()

    def _slab(self, size: int, count: int) -> _Slab | None:
        whole = aligned(size) * (count - 1) + size
        memory = self._budget.allocate(self.machine, whole)
        if memory is None:
            return None
        with self._retired:
            self._made += count
        return _Slab(memory, size, count)

    def _empty(self) -> None:
        for place in _taken(self._idle):
            self._retired.hand_in(place)

    def _retire(self, place: _Place) -> None:
        """A place is not used again; with its last one, the memory of a slab is free."""
        slab = place.slab
        slab.left -= 1
        if slab.left:
            return
        self._made -= slab.places
        # A GPU that is lost frees nothing any more, and takes all it had with it.
        with contextlib.suppress(CudaError), self.machine.active():
            self._budget.free(slab.memory)


class Lease:
    """Memory of a pool that is in use."""

    def __init__(self, pool: SurfacePool, place: _Place) -> None:
        self._pool, self._place = pool, place
        self.address = place.address

    def __del__(self) -> None:
        self._pool.back(self._place)


class Downloads:
    """NV12 to BGR on the host, as the CPU decoder's pictures are converted. May be shared by threads."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._idle: deque[_Station] = deque()
        self._closed = False

    def fetch(self, surface: Surface, colours: Colours) -> ImageU8:
        """BGR `uint8 [H, W, 3]`. Raises CudaError."""
        with self._machine.active():
            try:
                station = self._idle.pop()
            except IndexError:
                station = _Station(self._machine)
            try:
                return station.fetch(surface, colours)
            finally:
                self._idle.append(station)
                if self._closed:
                    self.close()

    def close(self) -> None:
        """Free what is idle. What is fetched afterwards takes longer."""
        self._closed = True
        with contextlib.suppress(CudaError), self._machine.active():
            for station in _taken(self._idle):
                station.close()


class _Station:
    """A queue, and pinned memory for one picture."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._queue = machine.queue()
        self._pinned = machine.pin(256)
        self._to_bgr = Converter(mirrored=False)

    def fetch(self, surface: Surface, colours: Colours) -> ImageU8:
        (height, width), pinned = surface.size, self._room(surface.size[0] * surface.size[1] * 3 // 2)
        chroma = surface.chroma or surface.address + surface.pitch * height
        self._queue.copy_blocks(pinned.ctypes.data, surface.address, width, height, surface.pitch)
        self._queue.copy_blocks(pinned.ctypes.data + height * width, chroma, width, height // 2, surface.pitch)
        self._queue.wait()
        luma, pairs = np.split(pinned[: height * width * 3 // 2].reshape(height * 3 // 2, width), [height])
        return self._to_bgr(_frame(luma, pairs, colours))

    def _room(self, size: int) -> npt.NDArray[np.uint8]:
        if self._pinned.size < size:
            before, self._pinned = self._pinned, self._machine.pin(size)
            before.close()
        return self._pinned.array

    def close(self) -> None:
        self._queue.close()
        self._pinned.close()


def next_slab(made: int, limit: int) -> int:
    """For how many pictures to make memory next, where there is some for so many: as many again, up to a limit."""
    return min(max(made, 1), _MOST_IN_SLAB, limit - made)


def aligned(size: int) -> int:
    """What a picture of so many bytes takes in memory that holds several."""
    return -(-size // 256) * 256


def _taken(items: deque[T]) -> Iterator[T]:
    """What is in it, which is nobody else's then."""
    with contextlib.suppress(IndexError):
        while True:
            yield items.popleft()


def _frame(luma: npt.NDArray[np.uint8], pairs: npt.NDArray[np.uint8], colours: Colours) -> av.VideoFrame:
    """The frame that the CPU decoder would give: three planes, so that the very same conversion follows."""
    import av

    height, width = luma.shape
    frame = av.VideoFrame(width, height, colours.pix_fmt)
    frame.colorspace, frame.color_range = colours.colorspace, colours.color_range
    for plane, values in zip(frame.planes, (luma, pairs[:, 0::2], pairs[:, 1::2]), strict=True):
        rows = np.frombuffer(cast("memoryview", plane), np.uint8)[: plane.line_size * plane.height]
        rows.reshape(plane.height, plane.line_size)[:, : plane.width] = values
    return frame


class PooledImage:
    """A decoded picture on the GPU. Its surface is free again once it is on the host, or nobody holds it any more."""

    def __init__(self, held: Held, size: tuple[int, int], colours: Colours, machine: Machine, by: Downloads) -> None:
        """Args:
        held: whose memory holds the picture already: NV12, rows without gaps.
        size: (height, width) in pixels.
        colours: what its numbers mean.
        machine: the GPU.
        by: brings it to the host.
        """
        self.size, self.colours = size, colours
        self._surface: Surface | None = Surface(
            address=held.address,
            size=size,
            pitch=size[1],
            format="nv12",
            matrix=colours.matrix,
            full_range=colours.full_range,
            owner=held,
        )
        self._machine, self._by = machine, by
        self._host: ImageU8 | None = None
        self._lock = threading.Lock()

    def surface(self, machine: Machine) -> Surface | None:
        return self._surface if machine is self._machine else None

    def on_host(self) -> ImageU8:
        with self._lock:
            if self._host is None:
                assert self._surface is not None
                self._host = self._by.fetch(self._surface, self.colours)
                self._surface = None
            return self._host

    def cropped(self, box: tuple[int, int, int, int]) -> DeviceImage:
        return _Part(self, box)


class _Part:
    """A part of a picture: the same memory."""

    def __init__(self, whole: DeviceImage, box: tuple[int, int, int, int]) -> None:
        x1, y1, x2, y2 = self._box = box
        assert not any(side % 2 for side in box), "chroma has half the resolution"
        self.size = (y2 - y1, x2 - x1)
        self._whole = whole

    def surface(self, machine: Machine) -> Surface | None:
        whole = self._whole.surface(machine)
        if whole is None:
            return None
        x1, y1, _, _ = self._box
        chroma = whole.chroma or whole.address + whole.pitch * whole.size[0]
        return dataclasses.replace(
            whole,
            address=whole.address + y1 * whole.pitch + x1,
            chroma=chroma + y1 // 2 * whole.pitch + x1,
            size=self.size,
        )

    def on_host(self) -> ImageU8:
        x1, y1, x2, y2 = self._box
        return np.ascontiguousarray(self._whole.on_host()[y1:y2, x1:x2])

    def cropped(self, box: tuple[int, int, int, int]) -> DeviceImage:
        return _Part(self, box)
