"""One batch at a time on the GPU: a stream, its memory, and a recording per batch size."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from yolotrt.backends.base import BackendInfo
from yolotrt.backends.cuda_staging import HostPicture, Staging, Table, check_image
from yolotrt.cuda.machine import Machine, Memory, PinnedMemory, Queue, Recording
from yolotrt.decode.detect_cuda import DecodeKernels, DecodeLayout
from yolotrt.detections import Detections
from yolotrt.errors import BackendError, CudaError
from yolotrt.model_spec import BatchRange, ModelSpec
from yolotrt.options import DetectOptions
from yolotrt.preprocess.geometry import LetterboxGeometry, geometry_of
from yolotrt.preprocess.letterbox_cuda import LetterboxKernel, Rows, describe_host, describe_surface
from yolotrt.preprocess.surface import DevicePicture, Surface
from yolotrt.types import ImageU8

GraphPicture: TypeAlias = "ImageU8 | DevicePicture | Surface"
"""A picture: BGR `uint8 [H, W, 3]` on the host (pinned memory saves a copy), or in the memory of the GPU."""

Enqueue = Callable[[], None]

_ATTEMPTS = 3  # to record; what disturbs a recording may be over soon, and each attempt holds up all other lanes

_ONE_AT_A_TIME = threading.Lock()
"""Held by whoever prepares or records: TensorRT waits for all of the GPU then, which a recording elsewhere forbids."""


class EngineLane(Protocol):
    """An engine in one lane: scratch memory, and what it prepared for each batch size."""

    def prepare(self, batch: int, addresses: Mapping[str, int]) -> Enqueue:
        """Make ready to run batches of this size.

        Args:
            batch: how many pictures.
            addresses: of all inputs and outputs, by name.

        Returns:
            Queues one inference; may be recorded. Everything that cannot be, was done before.

        Raises BackendError, CudaError: the engine does not take it, or is out of memory.
        """

    def close(self) -> None: ...


class GraphEngine(Protocol):
    """A model that runs on addresses.

    Attributes:
        spec: of it; height and width are fixed.
        info: what runs it.
    """

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def info(self) -> BackendInfo: ...

    def output_shapes(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        """Of all outputs for a batch, by name."""

    def lane(self, queue: Queue) -> EngineLane:
        """One that queues in `queue`, beside all others."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class DeviceArrayView:
    """Memory of the GPU as other libraries read it, by `__cuda_array_interface__`.

    Attributes:
        address: of its first element.
        shape: of it; without gaps.
        dtype: of its elements, as NumPy writes it.
        queue: CUDA's stream in which it is written; 0 where it is written already.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    queue: int

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype,
            "data": (self.address, False),  # PyTorch takes no arrays that are read only
            "strides": None,
            "stream": self.queue or None,
        }


@dataclass(frozen=True, kw_only=True)
class DeviceResults:
    """The boxes of one batch, on the GPU, while the `with` block of `GraphRunner.on_device` lasts.

    The GPU may still be at work on them: the host does not wait. Libraries that heed the stream of
    `__cuda_array_interface__`, as CuPy and Numba do, wait for it by themselves; PyTorch does not look at it, and has to
    be told. After the block the memory is another batch's. Its end waits for the results' own queue alone, so that one
    has to wait for whatever still reads. For PyTorch:

        queue, reader = torch.cuda.ExternalStream(results.boxes.queue), torch.cuda.current_stream()
        reader.wait_stream(queue)
        boxes = torch.as_tensor(results.boxes, device="cuda").clone()
        queue.wait_stream(reader)

    Attributes:
        header: uint32 `[N, 2]`: boxes per picture, and 1 where the model gave NaN or infinity.
        boxes: float32 `[N, max_det, 6]`: x1, y1, x2, y2 in source pixels, confidence, class id. Rows beyond the
            picture's number of boxes are left over from before.
    """

    header: DeviceArrayView
    boxes: DeviceArrayView


@dataclass(frozen=True)
class Room:
    """What a lane's memory is made for."""

    max_det: int
    every_class: bool

    def widened(self, options: Sequence[DetectOptions]) -> Room:
        needed = Room(max(o.max_det for o in options), any(o.multi_label for o in options))
        return self.merged(needed)

    def merged(self, other: Room) -> Room:
        return Room(max(self.max_det, other.max_det), self.every_class or other.every_class)


class Lane:
    """One batch at a time: a queue, memory, and a recording per batch size.

    Attributes:
        room: what its memory is made for.
        notes: why batches of a size are not recorded, of those that were tried.
    """

    def __init__(self, machine: Machine, engine: GraphEngine, room: Room) -> None:
        """Args:
        machine: the GPU, which is the current one.
        engine: the model.
        room: what to make the memory for.

        Raises CudaError where there is not enough memory.
        """
        self.room, self._machine, self._spec = room, machine, engine.spec
        self._layout = layout_of(engine, room)
        self._placed = functools.lru_cache(maxsize=64)(functools.partial(geometry_of, spec=engine.spec))
        self.notes: dict[int, str] = {}
        self._works: dict[int, Enqueue] = {}
        self._recordings: dict[int, Recording | Enqueue] = {}
        self._failures: Counter[int] = Counter()
        self._geometries: list[LetterboxGeometry] = []
        self._owners: list[object] = []
        self._batch = 0
        with contextlib.ExitStack() as made:
            own = made.enter_context
            self._queue: Queue = own(contextlib.closing(machine.queue()))
            self._engine = own(contextlib.closing(engine.lane(self._queue)))
            batch = self._spec.batch.max
            self._letterbox = LetterboxKernel(machine, self._spec.input.dtype)
            self._decode = own(contextlib.closing(DecodeKernels(machine, self._layout, batch)))
            self._table = own(contextlib.closing(Table(machine, self._layout, batch)))
            self._staging = own(contextlib.closing(Staging(machine)))
            self._tensors: dict[str, Memory] = {}
            for name, size in _tensor_sizes(engine).items():
                self._tensors[name] = own(contextlib.closing(machine.allocate(size)))
            size = self._layout.results_size(batch)
            self._results: Memory = own(contextlib.closing(machine.allocate(size)))
            self._host_results: PinnedMemory = own(contextlib.closing(machine.pin(size)))
            made.callback(self._close_recordings)
            self._memory = made.pop_all()

    def start(self, pictures: Sequence[GraphPicture], options: Sequence[DetectOptions]) -> None:
        """Queue the work for one batch. The pictures must stay as they are until it is done."""
        surfaces = [self._surface(picture) for picture in pictures]  # refuses bad ones before anything is queued
        self._geometries = [self._placed(surface.size) for surface in surfaces]
        self._owners = [*pictures, *surfaces]
        self._batch = fitting_size(self._spec.batch, len(pictures))
        recording = self.recording(self._batch)
        self._table.clear(range(len(pictures), self._batch))
        self._staging.reserve([0 if isinstance(s, Surface) else s.staged_size for s in surfaces])
        for i, (surface, geometry) in enumerate(zip(surfaces, self._geometries, strict=True)):
            self._fill(i, surface, geometry, options[i])
        if callable(recording):
            recording()
        else:
            self._queue.replay(recording)

    def finish(self) -> list[Detections]:
        """Wait for the batch and return its boxes."""
        self.wait()
        return self._layout.unpack(self._host_results.array, self._batch, self._geometries, self._spec.names)

    def wait(self) -> None:
        self._queue.wait()
        self._owners = []

    def on_device(self) -> DeviceResults:
        """Where the batch's boxes will be."""
        n, address = len(self._geometries), self._results.address
        boxes = (n, self._layout.max_det, 6)
        handle = self._queue.handle
        return DeviceResults(
            header=DeviceArrayView(address, (n, 2), "<u4", handle),
            boxes=DeviceArrayView(address + 8 * self._batch, boxes, "<f4", handle),
        )

    def recording(self, batch: int) -> Recording | Enqueue:
        """Of a whole batch of this size; what queues it step by step where it cannot be recorded."""
        if batch in self._recordings:
            return self._recordings[batch]
        with _ONE_AT_A_TIME:
            return self._record(batch)

    def _record(self, batch: int) -> Recording | Enqueue:
        work = self._prepared(batch)
        self._queue.wait()
        try:
            made = self._recordings[batch] = self._queue.record(work)
        except BackendError as e:
            # Slower, not wrong: some engines cannot be recorded. Others can, once whoever disturbed it is done.
            self.notes[batch] = f"without a CUDA graph: {e}"
            self._failures[batch] += 1
            if self._failures[batch] == _ATTEMPTS:
                self._recordings[batch] = work
            return work
        self.notes.pop(batch, None)
        return made

    def _prepared(self, batch: int) -> Enqueue:
        """What queues a batch of this size; made once, however often it is recorded."""
        if batch not in self._works:
            addresses = {name: memory.address for name, memory in self._tensors.items()}
            enqueue = self._engine.prepare(batch, addresses)
            self._works[batch] = functools.partial(self._queue_batch, batch, enqueue)
        return self._works[batch]

    def close(self) -> None:
        """Free everything, once what is queued is over. What failed in it was reported to whoever waited for it."""
        quietly(self._queue.wait)
        self._memory.close()

    def _queue_batch(self, batch: int, enqueue: Enqueue) -> None:
        spec, queue = self._spec, self._queue
        self._table.upload(queue)
        picture = self._tensors[spec.input.name].address
        self._letterbox.launch(
            queue, pictures=self._table.pictures_address, output=picture, shape=(batch, 3, *spec.imgsz)
        )
        enqueue()
        self._decode.launch(
            queue,
            outputs={name: memory.address for name, memory in self._tensors.items()},
            thresholds=self._table.thresholds_address,
            classes=self._table.classes_address,
            results=self._results.address,
            batch=batch,
        )
        queue.copy(self._host_results.address, self._results.address, self._layout.results_size(batch))

    def _surface(self, picture: GraphPicture) -> Surface | HostPicture:
        if isinstance(picture, Surface):
            return picture
        if isinstance(picture, DevicePicture):
            return Surface.of(self._machine.view(picture.array, self._queue), picture)
        check_image(picture)
        geometry = geometry_of((picture.shape[0], picture.shape[1]), self._spec)
        rows = Rows.of(geometry.source_size[0], geometry.resized_size[0])
        if picture.flags.c_contiguous and self._machine.is_pinned(picture.ctypes.data):
            # The GPU picks rows at equal distances by itself, and no others.
            return HostPicture(picture, rows if rows.blocks else Rows.all(), is_pinned=True)
        return HostPicture(picture, rows, is_pinned=False)

    def _fill(
        self, slot: int, surface: Surface | HostPicture, geometry: LetterboxGeometry, options: DetectOptions
    ) -> None:
        """Write a picture's place in the table."""
        table = self._table
        if not isinstance(surface, Surface):
            table.forget(slot)
        elif table.move(slot, surface, options):
            return
        table.pictures[slot] = self._describe(slot, surface, geometry)
        table.thresholds[slot] = self._layout.thresholds(geometry, options)
        if options.classes is not None:
            table.classes[slot] = self._layout.classes(options)

    def _describe(self, index: int, surface: Surface | HostPicture, geometry: LetterboxGeometry) -> npt.NDArray[Any]:
        pad = self._spec.letterbox.pad_value
        if isinstance(surface, Surface):
            return describe_surface(surface, geometry, pad)
        send = self._staging.send if surface.is_pinned else self._staging.pack
        address = send(index, surface, self._queue)
        return describe_host(address, surface.rows, geometry, pad)

    def _close_recordings(self) -> None:
        for recording in self._recordings.values():
            if not callable(recording):
                recording.close()
        self._recordings, self._works = {}, {}


@functools.cache
def graph_sizes(batch: BatchRange) -> tuple[int, ...]:
    """The batch sizes that are recorded: the ends of the range, its best, and powers of two between."""
    powers = {2**i for i in range(batch.max.bit_length())}
    return tuple(sorted({batch.min, batch.opt, batch.max} | {p for p in powers if batch.min <= p <= batch.max}))


def fitting_size(batch: BatchRange, n: int) -> int:
    """The smallest recorded size that takes `n` pictures."""
    return next(size for size in graph_sizes(batch) if size >= n)


def layout_of(engine: GraphEngine, room: Room) -> DecodeLayout:
    spec = engine.spec
    shapes = engine.output_shapes(spec.batch.max)
    return DecodeLayout.of(spec, shapes, max_det=room.max_det, every_class=room.every_class)


def _tensor_sizes(engine: GraphEngine) -> dict[str, int]:
    """Bytes of the input and of all outputs at the largest batch, by name."""
    spec = engine.spec
    shapes = {spec.input.name: (spec.batch.max, 3, *spec.imgsz), **engine.output_shapes(spec.batch.max)}
    dtypes = {tensor.name: np.dtype(tensor.dtype) for tensor in (spec.input, *spec.outputs)}
    return {name: math.prod(shape) * dtypes[name].itemsize for name, shape in shapes.items()}


def quietly(step: Callable[[], None]) -> None:
    """Do what may fail as well after a failure that was reported."""
    with contextlib.suppress(CudaError):
        step()
