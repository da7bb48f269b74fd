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
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from yolotrt.backends.base import BackendInfo
from yolotrt.backends.cuda_lane import (
    DeviceResults,
    GraphEngine,
    GraphPicture,
    Lane,
    Room,
    fitting_size,
    graph_sizes,
    layout_of,
    quietly,
)
from yolotrt.cuda.machine import Machine
from yolotrt.detections import Detections
from yolotrt.errors import BackendError, ModelError, NonFiniteOutputError, SourceError, UsageError
from yolotrt.options import DetectOptions


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """How a `GraphRunner` works.

    Attributes:
        lanes: batches that may run at a time; each has its own memory.
        max_det: boxes per picture that there is room for at the start; more are made room for when asked for.
    """

    lanes: int = 2
    max_det: int = 300

    def __post_init__(self) -> None:
        for name in ("lanes", "max_det"):
            if getattr(self, name) < 1:
                raise UsageError(f"option {name} is out of range", got=getattr(self, name), expected="at least 1")


class GraphRunner:
    """A model on one GPU. May be shared by threads; as many run side by side as there are lanes.

    Attributes:
        machine: the GPU.
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
        self.machine, self._engine, self.spec = machine, engine, spec
        self._room = Room(options.max_det, every_class=False)
        layout_of(engine, self._room)  # refuses what cannot be decoded
        self._lock = threading.Lock()
        self._readying = threading.Lock()  # two who wait for all lanes would wait for each other
        self._idle = _Idle()
        self.lanes = options.lanes
        for _ in range(self.lanes):
            self._idle.put(None)
        self._closed = False
        self._made: set[Lane] = set()  # that are not closed

    @property
    def info(self) -> BackendInfo:
        """What runs it; its note says why, where batches of some size are not recorded at the moment."""
        with self._lock:
            notes = [note for lane in self._made for note in list(lane.notes.values())]
        return dataclasses.replace(self._engine.info, note=notes[0] if notes else "")

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
        with self.machine.active():
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
        """One batch whose results stay on the GPU; `DeviceResults` says how they are read.

        The end of the block waits for all that the results' queue holds, and for nothing that reads them elsewhere.

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
            lane.recording(fitting_size(self.spec.batch, batch or self.spec.batch.opt))

    def get_ready(self, options: Sequence[DetectOptions] = ()) -> None:
        """Record for batches of all sizes in all lanes, so that no later call with these options has to."""
        with self._readying, contextlib.ExitStack() as held:
            for lane in [held.enter_context(self._lane(options)) for _ in range(self.lanes)]:
                for size in graph_sizes(self.spec.batch):
                    lane.recording(size)

    def close(self) -> None:
        """Free everything, once what runs has ended. Calling it again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        with self._readying:
            lanes = [self._idle.get() for _ in range(self.lanes)]
        # A GPU that is lost frees nothing any more, and takes all it had with it.
        quietly(functools.partial(self._free, lanes))
        for _ in range(self.lanes):
            self._idle.put(None)  # whoever waits is told that it is closed

    def _free(self, lanes: Sequence[Lane | None]) -> None:
        with self.machine.active(), contextlib.ExitStack() as parts:
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
            with self.machine.active():
                before, lane = lane, None  # `_ready` closes it where it does not give it back
                try:
                    lane = self._ready(before, options)
                    yield lane
                except (SourceError, NonFiniteOutputError):
                    raise  # found before anything ran, or after all of it
                except BaseException:
                    # Whatever the GPU still does is waited for, and the next call gets memory that is whole.
                    if lane is not None:
                        quietly(functools.partial(self._let_go, lane))
                        lane = None
                    raise
        finally:
            self._idle.put(lane)

    def _ready(self, lane: Lane | None, options: Sequence[DetectOptions]) -> Lane:
        room = self._room.widened(options) if options else self._room
        if lane is not None and lane.room != room:
            self._let_go(lane)
            lane = None
        if lane is None:
            lane = Lane(self.machine, self._engine, room)
            # Only now: what there is no memory for is not tried again for others.
            with self._lock:
                self._room = self._room.merged(room)
                self._made.add(lane)
        return lane

    def _let_go(self, lane: Lane) -> None:
        with self._lock:
            self._made.discard(lane)
        lane.close()


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
