"""A TensorRT plan for `yolotrt.backends.cuda_graph`: contexts on memory that is not theirs, recorded with the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from yolotrt.backends.base import Backend, BackendInfo
from yolotrt.backends.cuda_graph import GraphOptions, GraphRunner
from yolotrt.backends.cuda_lane import Enqueue
from yolotrt.backends.flavours import Flavour
from yolotrt.backends.pictures import PictureBackend, ReadyPicture
from yolotrt.backends.tensorrt_api import IExecutionContext
from yolotrt.backends.tensorrt_engine import find_plan
from yolotrt.backends.tensorrt_log import capture
from yolotrt.backends.tensorrt_plan import LoadedPlan
from yolotrt.cuda.device import Device
from yolotrt.cuda.gpu import gpu
from yolotrt.cuda.machine import Machine, Queue
from yolotrt.detections import Detections
from yolotrt.errors import ModelError
from yolotrt.options import DetectOptions
from yolotrt.plan_file import PlanFile


def open_graphs(path: Path, *, device: int = 0, options: GraphOptions | None = None) -> GraphRunner:
    """Load a plan file to run it as CUDA graphs, from pictures to boxes.

    Args:
        path: plain, or with Ultralytics' header.
        device: number of the GPU.
        options: how it works.

    Raises:
        ModelError: no such file, damaged, not a YOLO detection plan, or one of changing height and width.
        PlanMismatchError: built by another TensorRT or for another GPU; both are named.
        MissingExtraError: no TensorRT, or no CUDA packages, are installed.
        CudaError: no driver, no such GPU, or out of memory.
        BackendError: TensorRT cannot start, or is one that cannot be recorded.
    """
    plan_file, flavour, found = find_plan(path, device=device)
    machine = gpu(found)
    engine = TensorRTGraphEngine(plan_file, flavour, found, machine)
    try:
        return GraphRunner(machine, engine, options)
    except BaseException:
        engine.close()
        raise


class TensorRTGraphBackend(PictureBackend):
    """A plan as CUDA graphs, as `Detector` takes it."""

    def __init__(self, runner: GraphRunner) -> None:
        """Make it of a runner, which is closed with it, and record its usual batch size."""
        try:
            runner.warm_up()
        except BaseException:
            runner.close()
            raise
        self.runner, self.machine = runner, runner.machine
        super().__init__(runner.spec, runner.info)

    @property
    def info(self) -> BackendInfo:
        """What runs it. Whether it can be recorded turns out while it runs, so the note is the runner's of now."""
        note = self.runner.info.note
        return dataclasses.replace(self._info, note=note) if note else self._info

    @info.setter
    def info(self, info: BackendInfo) -> None:
        live = self.runner.info.note
        self._info = dataclasses.replace(info, note="" if info.note == live else info.note)

    @classmethod
    def open(cls, path: Path, *, device: int = 0) -> TensorRTGraphBackend:
        """Load a plan file. Raises as `open_graphs`."""
        return cls(open_graphs(path, device=device))

    def _detect(self, images: Sequence[ReadyPicture], options: Sequence[DetectOptions]) -> list[Detections]:
        return self.runner(images, options)

    def _side_by_side(self) -> tuple[Backend, ...]:
        return (self,) * self.runner.lanes

    def _get_ready(self, options: Sequence[DetectOptions]) -> None:
        self.runner.get_ready(options)

    def _close(self) -> None:
        self.runner.close()


class TensorRTGraphEngine:
    """A plan on one GPU. Its lanes work side by side."""

    def __init__(self, plan_file: PlanFile, flavour: Flavour, device: Device, machine: Machine) -> None:
        """Load a plan; `open_graphs` does so from its path. Raises what that raises."""
        self._flavour, self._device, self._machine = flavour, device, machine
        # TensorRT makes contexts of one engine one after the other.
        self._lock = threading.Lock()
        with device.active(), capture(flavour) as (logger, messages):
            self._plan = LoadedPlan(plan_file, flavour, device, logger, messages)
            try:
                self._plan.check_recordable()
                self.spec = self._plan.spec
            except BaseException:
                self._plan.close()
                raise
        self.info = self._plan.info

    def output_shapes(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        """Of all outputs for a batch. Raises ModelError where more than the batch changes."""
        found = {}
        for tensor in self._plan.outputs:
            first, *rest = tensor.shape
            fixed = [side for side in rest if side is not None]
            if len(fixed) != len(rest) or first not in (None, batch):
                raise ModelError(
                    f"output {tensor.name} has a size that only the run tells", got=f"shape {tensor.shape}"
                )
            found[tensor.name] = (batch, *fixed)
        return found

    def lane(self, queue: Queue) -> TensorRTLane:
        return TensorRTLane(self, self._machine, queue)

    def close(self) -> None:
        """Free the model, once its lanes are closed."""
        with self._device.active(), capture(self._flavour):
            self._plan.keep_kernels()
            self._plan.close()

    @property
    def scratch_size(self) -> int:
        """Bytes that a context works in."""
        return self._plan.engine.device_memory_size_v2

    @property
    def side_queues(self) -> int:
        """How many queues a context uses beside the one that it is given."""
        return self._plan.engine.num_aux_streams

    def prepare(self, lane: TensorRTLane, batch: int, addresses: Mapping[str, int]) -> _Prepared:
        """A context for batches of this size, which has run once: what it sets up then could not be recorded."""
        plan = self._plan
        with self._lock, capture(self._flavour) as (_, messages):
            context = plan.context(messages, to_record=True)
            context.set_device_memory(lane.scratch.address, self.scratch_size)
            context.set_aux_streams([queue.handle for queue in lane.sides])
            if not context.set_input_shape(plan.input.name, (batch, 3, *self.spec.imgsz)):
                raise plan.failure(f"refuses a batch of {batch}", messages)
            for tensor in (plan.input, *plan.outputs):
                if not context.set_tensor_address(tensor.name, addresses[tensor.name]):
                    raise plan.failure(f"refuses the buffer of {tensor.name}", messages)
            prepared = _Prepared(self, context, lane.queue)
            prepared()
            lane.queue.wait()
            plan.keep_first_kernels()
            return prepared

    def run(self, context: IExecutionContext, queue: Queue) -> None:
        """Queue one inference. Raises BackendError with what TensorRT says."""
        with capture(self._flavour) as (_, messages):
            if not context.execute_async_v3(queue.handle):
                raise self._plan.failure("failed to run", messages)


class TensorRTLane:
    """The contexts of one lane, one per batch size, all in the same scratch memory: they never run together.

    Attributes:
        queue: what it works in.
        scratch: the memory that its contexts work in.
        sides: the queues that its contexts use beside. TensorRT's own ones would be tied to the default stream, which
            nobody in the process could use while they are recorded.
    """

    def __init__(self, engine: TensorRTGraphEngine, machine: Machine, queue: Queue) -> None:
        self._engine, self.queue = engine, queue
        # A recording uses what belongs to the context it was recorded from.
        self._prepared: list[_Prepared] = []
        with contextlib.ExitStack() as made:
            self.scratch = made.enter_context(contextlib.closing(machine.allocate(max(engine.scratch_size, 256))))
            self.sides = [made.enter_context(contextlib.closing(machine.queue())) for _ in range(engine.side_queues)]
            made.callback(self._close_prepared)
            self._made = made.pop_all()

    def prepare(self, batch: int, addresses: Mapping[str, int]) -> Enqueue:
        prepared = self._engine.prepare(self, batch, addresses)
        self._prepared.append(prepared)
        return prepared

    def close(self) -> None:
        self._made.close()

    def _close_prepared(self) -> None:
        for prepared in self._prepared:
            prepared.close()
        self._prepared = []


class _Prepared:
    """Queues one inference."""

    def __init__(self, engine: TensorRTGraphEngine, context: IExecutionContext, queue: Queue) -> None:
        self._engine, self._queue = engine, queue
        self._context: IExecutionContext | None = context

    def __call__(self) -> None:
        assert self._context is not None
        self._engine.run(self._context, self._queue)

    def close(self) -> None:
        """Let the context go, before the engine that it belongs to."""
        self._context = None
