"""Pictures to boxes on the GPU, as one recording per batch size: letterbox, engine, decode, one small copy back.

What changes from batch to batch (addresses and sizes of pictures, thresholds) stands in a table that the recording
itself copies to the GPU, so that nothing is recorded again for pictures of other sizes. The boxes are those of the
ordinary path, given the same outputs of the engine.

A `Lane` does one batch at a time in memory of its own; `GraphRunner` has several, so that threads run side by side. All
recordings of a lane share its memory, since they never run together. Written against `yolotrt.cuda.machine`, so the
tests run all of it without a GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from yolotrt.backends.base import BackendInfo
from yolotrt.cuda.machine import Machine, Memory, PinnedMemory, Queue, Recording
from yolotrt.decode.detect_cuda import THRESHOLDS, DecodeKernels, DecodeLayout
from yolotrt.detections import Detections
from yolotrt.errors import BackendError, CudaError, ModelError, NonFiniteOutputError, SourceError
from yolotrt.model_spec import BatchRange, ModelSpec
from yolotrt.options import DetectOptions
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.preprocess.letterbox_cuda import PICTURE, LetterboxKernel, Rows, describe_host, describe_surface
from yolotrt.preprocess.surface import DevicePicture, Surface
from yolotrt.types import ImageU8

GraphPicture: TypeAlias = "ImageU8 | DevicePicture | Surface"
"""A picture: BGR `uint8 [H, W, 3]` on the host (pinned memory saves a copy), or in the memory of the GPU."""

Enqueue = Callable[[], None]

_PIECE = 512 << 10  # bytes: a large picture is handed to the GPU in pieces, the first while the next is copied


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


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """How a `GraphRunner` works.

    Attributes:
        lanes: batches that may run at a time; each has its own memory.
        max_det: boxes per picture that there is room for at the start; more are made room for when asked for.
    """

    lanes: int = 2
    max_det: int = 300


@dataclass(frozen=True)
class DeviceArrayView:
    """Memory of the GPU as other libraries read it, by `__cuda_array_interface__`."""

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
            "data": (self.address, True),
            "strides": None,
            "stream": self.queue or None,
        }


@dataclass(frozen=True, kw_only=True)
class DeviceResults:
    """The boxes of one batch, on the GPU, while the `with` block of `GraphRunner.on_device` lasts.

    Readers through `__cuda_array_interface__` wait for the boxes on the GPU; the host does not.

    Attributes:
        header: uint32 `[N, 2]`: boxes per picture, and 1 where the model gave NaN or infinity.
        boxes: float32 `[N, max_det, 6]`: x1, y1, x2, y2 in source pixels, confidence, class id. Rows beyond the
            picture's number of boxes are left over from before.
    """

    header: DeviceArrayView
    boxes: DeviceArrayView


@dataclass(frozen=True)
class _Room:
    """What a lane's memory is made for."""

    max_det: int
    every_class: bool

    def widened(self, options: Sequence[DetectOptions]) -> _Room:
        needed = _Room(max(o.max_det for o in options), any(o.multi_label for o in options))
        return self.merged(needed)

    def merged(self, other: _Room) -> _Room:
        return _Room(max(self.max_det, other.max_det), self.every_class or other.every_class)


class GraphRunner:
    """A model on one GPU. May be shared by threads; as many run side by side as there are lanes.

    Attributes:
        spec: what the model is.
        lanes: batches that may run at a time.
    """

    def __init__(self, machine: Machine, engine: GraphEngine, options: GraphOptions | None = None) -> None:
        """Args:
        machine: the GPU.
        engine: the model, which is closed with the runner.
        options: see there.

        Raises ModelError for a model that cannot run this way: another task, inputs of changing size or of integers.
        """
        options = options or GraphOptions()
        spec = engine.spec
        if spec.is_dynamic_size:
            raise ModelError(
                "a model whose height and width change is not recorded",
                expected="a fixed input size",
                remedy="Export it without dynamic sizes, or run it without recording.",
            )
        if spec.input.dtype not in ("float32", "float16"):
            raise ModelError(
                "an input that is not made on the GPU", got=spec.input.dtype, expected="float32 or float16"
            )
        self._machine, self._engine, self.spec = machine, engine, spec
        self._room = _Room(options.max_det, every_class=False)
        _layout(engine, self._room)  # refuses what cannot be decoded
        self._lock = threading.Lock()
        self._idle = _Idle()
        self.lanes = options.lanes
        for _ in range(self.lanes):
            self._idle.put(None)
        self._closed = False
        self._note = ""

    @property
    def info(self) -> BackendInfo:
        """What runs it; its note says so where it cannot be recorded, once that was tried."""
        return dataclasses.replace(self._engine.info, note=self._note)

    def __call__(
        self, pictures: Sequence[GraphPicture], options: DetectOptions | Sequence[DetectOptions]
    ) -> list[Detections]:
        """Detect in any number of pictures, in batches of the model's sizes.

        Args:
            pictures: of any sizes, on the host or on the GPU.
            options: for all pictures, or one per picture.

        Raises:
            SourceError: a picture that cannot be read.
            NonFiniteOutputError: the model gave NaN or infinity.
            CudaError, BackendError: the GPU failed. The next call starts afresh.
        """
        each = [options] * len(pictures) if isinstance(options, DetectOptions) else list(options)
        if len(each) != len(pictures):
            raise ValueError(f"options: got {len(each)}, expected one per picture ({len(pictures)})")
        found: list[Detections] = []
        most = self.spec.batch.max
        if 0 < len(pictures) <= most:
            with self._lane(each) as lane:
                lane.start(pictures, each)
                return lane.finish()
        # One batch is prepared while the one before it runs, if a second lane is free.
        ahead: _Running | None = None
        with self._machine.active():
            try:
                for start in range(0, len(pictures), most):
                    part = slice(start, start + most)
                    running = self._begin(pictures[part], each[part], wait=ahead is None)
                    if running is None:
                        # A call that has a lane does not wait for another: two such calls could wait for each other.
                        assert ahead is not None
                        before, ahead = ahead, None
                        found += before.finish()
                        running = self._begin(pictures[part], each[part], wait=True)
                    last, ahead = ahead, running
                    found += last.finish() if last is not None else []
                last, ahead = ahead, None
                return found + (last.finish() if last is not None else [])
            finally:
                if ahead is not None:
                    ahead.abandon()

    @contextlib.contextmanager
    def on_device(
        self, pictures: Sequence[GraphPicture], options: DetectOptions | Sequence[DetectOptions]
    ) -> Iterator[DeviceResults]:
        """One batch whose results stay on the GPU; see `DeviceResults`.

        Args:
            pictures: at most as many as the model takes in a batch.
            options: for all pictures, or one per picture.

        Raises what `__call__` does, except NonFiniteOutputError.
        """
        each = [options] * len(pictures) if isinstance(options, DetectOptions) else list(options)
        if not 1 <= len(pictures) <= self.spec.batch.max:
            raise BackendError("batch size out of range", got=len(pictures), expected=f"1 to {self.spec.batch.max}")
        with self._lane(each) as lane:
            lane.start(pictures, each)
            try:
                yield lane.on_device()
            finally:
                lane.wait()

    def warm_up(self, batch: int | None = None) -> None:
        """Record for a batch of this size (the one the model is tuned for), so that the first call need not."""
        with self._lane([]) as lane:
            lane.recording(_fitting(self.spec.batch, batch or self.spec.batch.opt))

    def close(self) -> None:
        """Free everything, once what runs has ended. Calling it again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        lanes = [self._idle.get() for _ in range(self.lanes)]
        # A GPU that is lost frees nothing any more, and takes all it had with it.
        _quietly(functools.partial(self._free, lanes))
        for _ in range(self.lanes):
            self._idle.put(None)  # whoever waits is told that it is closed

    def _free(self, lanes: Sequence[Lane | None]) -> None:
        with self._machine.active(), contextlib.ExitStack() as parts:
            parts.callback(self._engine.close)
            for lane in lanes:
                if lane is not None:
                    parts.callback(lane.close)

    def _begin(
        self, pictures: Sequence[GraphPicture], options: Sequence[DetectOptions], *, wait: bool
    ) -> _Running | None:
        """Start a batch in a lane; None where none is free and `wait` is off."""
        with contextlib.ExitStack() as opened:
            try:
                lane = opened.enter_context(self._lane(options, wait=wait))
            except Empty:
                return None
            lane.start(pictures, options)
            return _Running(opened.pop_all(), lane)

    @contextlib.contextmanager
    def _lane(self, options: Sequence[DetectOptions], *, wait: bool = True) -> Iterator[Lane]:
        """A lane that has room for these options, and the GPU made current. Raises Empty as `_Idle.get`."""
        lane = self._idle.get(wait=wait)
        try:
            if self._closed:
                raise BackendError("the model is closed", remedy="Make a new Detector.")
            with self._machine.active():
                try:
                    lane = self._ready(lane, options)
                    yield lane
                except (SourceError, NonFiniteOutputError):
                    raise  # found before anything ran, or after all of it
                except BaseException:
                    # Whatever the GPU still does is waited for, and the next call gets memory that is whole.
                    if lane is not None:
                        _quietly(lane.close)
                        lane = None
                    raise
        finally:
            self._idle.put(lane)

    def _ready(self, lane: Lane | None, options: Sequence[DetectOptions]) -> Lane:
        room = self._room.widened(options) if options else self._room
        if lane is not None and lane.room != room:
            lane.close()
            lane = None
        if lane is None:
            lane = Lane(self._machine, self._engine, room)
            lane.report = self._report
            # Only now: what there is no memory for is not tried again for others.
            with self._lock:
                self._room = self._room.merged(room)
        return lane

    def _report(self, note: str) -> None:
        self._note = note


class _Idle:
    """Lanes that do nothing at the moment. None is a place for one to be made when it is needed."""

    def __init__(self) -> None:
        # A permit to take one; the one used last is on top, so that no more are made than run at a time. The two need
        # no lock of their own, which would cost more than all of it.
        self._permits: SimpleQueue[None] = SimpleQueue()
        self._lanes: list[Lane | None] = []

    def get(self, *, wait: bool = True) -> Lane | None:
        """One of them, once there is one. Raises Empty where there is none at the moment and `wait` is off."""
        self._permits.get(block=wait)
        return self._lanes.pop()

    def put(self, lane: Lane | None) -> None:
        self._lanes.append(lane)
        self._permits.put(None)


class _Running:
    """A batch that was started."""

    def __init__(self, opened: contextlib.ExitStack, lane: Lane) -> None:
        self._opened, self._lane = opened, lane

    def finish(self) -> list[Detections]:
        """Its boxes; the lane is free for others then."""
        with self._opened:
            return self._lane.finish()

    def abandon(self) -> None:
        """Wait for it, and never mind what it found."""
        with contextlib.suppress(BackendError), self._opened:
            self._lane.wait()


class Lane:
    """One batch at a time: a queue, memory, and a recording per batch size."""

    def __init__(self, machine: Machine, engine: GraphEngine, room: _Room) -> None:
        """Args:
        machine: the GPU, which is the current one.
        engine: the model.
        room: what to make the memory for.

        Raises CudaError where there is not enough memory.
        """
        self.room, self._machine, self._spec = room, machine, engine.spec
        self.report: Callable[[str], None] = lambda _: None
        self._layout = _layout(engine, room)
        self._recordings: dict[int, Recording | Enqueue] = {}
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
            self._table = own(contextlib.closing(_Table(machine, self._layout, batch)))
            self._staging = own(contextlib.closing(_Staging(machine)))
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
        self._geometries = [self._geometry(surface.size) for surface in surfaces]
        self._owners = [*pictures, *surfaces]
        self._batch = _fitting(self._spec.batch, len(pictures))
        recording = self.recording(self._batch)
        self._table.clear(range(len(pictures), self._batch))
        self._staging.reserve([0 if isinstance(s, Surface) else s.staged_size for s in surfaces])
        for i, (surface, geometry) in enumerate(zip(surfaces, self._geometries, strict=True)):
            self._table.pictures[i] = self._describe(i, surface, geometry)
            self._table.thresholds[i] = self._layout.thresholds(geometry, options[i])
            if options[i].classes is not None:
                self._table.classes[i] = self._layout.classes(options[i])
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
        if batch not in self._recordings:
            addresses = {name: memory.address for name, memory in self._tensors.items()}
            enqueue = self._engine.prepare(batch, addresses)
            self._queue.wait()

            def work() -> None:
                self._queue_batch(batch, enqueue)

            try:
                self._recordings[batch] = self._queue.record(work)
            except BackendError as e:
                # Slower, not wrong: some engines cannot be recorded.
                self.report(f"without a CUDA graph: {e}")
                self._recordings[batch] = work
        return self._recordings[batch]

    def close(self) -> None:
        """Free everything, once what is queued is over. What failed in it was reported to whoever waited for it."""
        _quietly(self._queue.wait)
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
            output=self._tensors[spec.outputs[0].name].address,
            thresholds=self._table.thresholds_address,
            classes=self._table.classes_address,
            results=self._results.address,
            batch=batch,
        )
        queue.copy(self._host_results.address, self._results.address, self._layout.results_size(batch))

    def _surface(self, picture: GraphPicture) -> Surface | _HostPicture:
        if isinstance(picture, Surface):
            return picture
        if isinstance(picture, DevicePicture):
            return Surface.of(self._machine.view(picture.array, self._queue), picture)
        _check_image(picture)
        geometry = self._geometry((picture.shape[0], picture.shape[1]))
        rows = Rows.of(geometry.source_size[0], geometry.resized_size[0])
        if picture.flags.c_contiguous and self._machine.is_pinned(picture.ctypes.data):
            # The GPU picks rows at equal distances by itself, and no others.
            return _HostPicture(picture, rows if rows.blocks else Rows.all(), is_pinned=True)
        return _HostPicture(picture, rows, is_pinned=False)

    def _geometry(self, size: tuple[int, int]) -> LetterboxGeometry:
        spec = self._spec
        return LetterboxGeometry.compute(size, spec.imgsz, rule=spec.letterbox, stride=spec.stride)

    def _describe(self, index: int, surface: Surface | _HostPicture, geometry: LetterboxGeometry) -> npt.NDArray[Any]:
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
        self._recordings = {}


@dataclass(frozen=True)
class _HostPicture:
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


class _Table:
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

    def clear(self, slots: range) -> None:
        """No picture in these slots: they are padding of the batch."""
        if slots:
            self.pictures[slots.start : slots.stop] = 0
            self.thresholds[slots.start : slots.stop] = 0

    def upload(self, queue: Queue) -> None:
        queue.copy(self._device.address, self._host.address, self._size)

    def close(self) -> None:
        self._memory.close()


class _Staging:
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

    def pack(self, index: int, picture: _HostPicture, queue: Queue) -> int:
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

    def send(self, index: int, picture: _HostPicture, queue: Queue) -> int:
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


@functools.cache
def graph_sizes(batch: BatchRange) -> tuple[int, ...]:
    """The batch sizes that are recorded: the ends of the range, its best, and powers of two between."""
    powers = {2**i for i in range(batch.max.bit_length())}
    return tuple(sorted({batch.min, batch.opt, batch.max} | {p for p in powers if batch.min <= p <= batch.max}))


def _fitting(batch: BatchRange, n: int) -> int:
    """The smallest recorded size that takes `n` pictures."""
    return next(size for size in graph_sizes(batch) if size >= n)


def _check_image(image: object) -> None:
    if not isinstance(image, np.ndarray):
        got = f"an object of type {type(image).__name__}"
    elif image.dtype != np.uint8 or image.shape[2:] != (3,) or not image.size:
        got = f"an array of {image.dtype} {image.shape}"
    else:
        return
    raise SourceError("not a picture", got=got, expected="uint8 (H, W, 3) in BGR, or a DevicePicture")


def _layout(engine: GraphEngine, room: _Room) -> DecodeLayout:
    spec = engine.spec
    shape = engine.output_shapes(spec.batch.max)[spec.outputs[0].name]
    return DecodeLayout.of(spec, shape, max_det=room.max_det, every_class=room.every_class)


def _tensor_sizes(engine: GraphEngine) -> dict[str, int]:
    """Bytes of the input and of all outputs at the largest batch, by name."""
    spec = engine.spec
    shapes = {spec.input.name: (spec.batch.max, 3, *spec.imgsz), **engine.output_shapes(spec.batch.max)}
    dtypes = {tensor.name: np.dtype(tensor.dtype) for tensor in (spec.input, *spec.outputs)}
    return {name: math.prod(shape) * dtypes[name].itemsize for name, shape in shapes.items()}


def _quietly(step: Callable[[], None]) -> None:
    """Do what may fail as well after a failure that was reported."""
    with contextlib.suppress(CudaError):
        step()


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where parts of these sizes start, each aligned to 256 bytes; at the end where the last one ends."""
    return list(itertools.accumulate((-(-size // 256) * 256 for size in sizes), initial=0))
