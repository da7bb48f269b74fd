"""A TensorRT plan for `yolotrt.backends.cuda_graph`: contexts on memory that is not theirs, recorded with the rest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from yolotrt.backends.base import Backend, BackendInfo
from yolotrt.backends.cuda_graph import GraphOptions, GraphRunner
from yolotrt.backends.cuda_lane import Enqueue
from yolotrt.backends.flavours import Flavour
from yolotrt.backends.pictures import PictureBackend, ReadyPicture
from yolotrt.backends.runtime_cache import RuntimeCacheFile
from yolotrt.backends.tensorrt_api import (
    ICudaEngine,
    IExecutionContext,
    ILogger,
    IRuntimeCache,
    IRuntimeConfig,
    Runtime,
)
from yolotrt.backends.tensorrt_engine import InputRange, find_plan, load_engine, tensors
from yolotrt.backends.tensorrt_log import Messages, capture
from yolotrt.cuda.device import Device
from yolotrt.cuda.gpu import gpu
from yolotrt.cuda.machine import Machine, Queue
from yolotrt.detections import Detections
from yolotrt.errors import BackendError, CudaError, ModelError
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
        BackendError: TensorRT cannot start.
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
        super().__init__(runner.spec, runner.info)
        self.runner, self.machine = runner, runner.machine

    @classmethod
    def open(cls, path: Path, *, device: int = 0) -> TensorRTGraphBackend:
        """Load a plan file. Raises as `open_graphs`."""
        return cls(open_graphs(path, device=device))

    def _detect(self, images: Sequence[ReadyPicture], options: Sequence[DetectOptions]) -> list[Detections]:
        return self.runner(images, options)

    def _side_by_side(self) -> tuple[Backend, ...]:
        return (self,) * self.runner.lanes

    def _close(self) -> None:
        self.runner.close()


class TensorRTGraphEngine:
    """A plan on one GPU. Its lanes work side by side."""

    def __init__(self, plan_file: PlanFile, flavour: Flavour, device: Device, machine: Machine) -> None:
        """Load a plan; `open_graphs` does so from its path. Raises what that raises."""
        self._flavour, self._device, self._machine = flavour, device, machine
        # TensorRT makes contexts of one engine one after the other.
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None
        self._engine: ICudaEngine | None = None
        self._cache: _Cache | None = None
        with device.active(), capture(flavour) as (logger, messages):
            try:
                self._load(plan_file, logger, messages)
            except BaseException:
                self._free()
                raise
        self.info = BackendInfo(
            backend="tensorrt",
            flavour=flavour.key,
            version=flavour.version,
            device=str(device),
            precision=plan_file.precision if plan_file.precision != "unknown" else "unknown precision",
        )

    def output_shapes(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        """Of all outputs for a batch. Raises ModelError where more than the batch changes."""
        found = {}
        for name, (first, *rest) in self._shapes.items():
            fixed = [side for side in rest if side is not None]
            if len(fixed) != len(rest) or first not in (None, batch):
                raise ModelError(f"output {name} has a size that only the run tells", got=f"shape {(first, *rest)}")
            found[name] = (batch, *fixed)
        return found

    def lane(self, queue: Queue) -> TensorRTLane:
        return TensorRTLane(self, self._machine, queue)

    def close(self) -> None:
        """Free the model, once its lanes are closed."""
        with self._device.active(), capture(self._flavour):
            self._free()

    def _load(self, plan_file: PlanFile, logger: ILogger, messages: Messages) -> None:
        flavour, device = self._flavour, self._device
        self._runtime, self._engine = load_engine(plan_file, flavour, device, logger, messages)
        inputs, outputs = tensors(self._engine, flavour, str(plan_file.path))
        shapes = InputRange.of(self._engine, inputs[0])
        self.spec = plan_file.spec(
            inputs=inputs,
            outputs=outputs,
            batch=shapes.batch,
            imgsz=(shapes.opt[2], shapes.opt[3]) if len(shapes.opt) == 4 else None,
        )
        self._input = inputs[0].name
        self._shapes = {tensor.name: tensor.shape for tensor in outputs}
        if flavour.can.compiles_when_loaded:
            self._cache = _Cache(RuntimeCacheFile.of(plan_file.plan, flavour, device))

    def _free(self) -> None:
        # Each before what it belongs to.
        self._cache = None
        self._engine = None
        self._runtime = None

    @property
    def scratch_size(self) -> int:
        """Bytes that a context works in."""
        assert self._engine is not None
        return self._engine.device_memory_size_v2

    @property
    def side_queues(self) -> int:
        """How many queues a context uses beside the one that it is given."""
        assert self._engine is not None
        return self._engine.num_aux_streams

    def prepare(self, lane: TensorRTLane, batch: int, addresses: Mapping[str, int]) -> _Prepared:
        """A context for batches of this size, which has run once: what it sets up then could not be recorded."""
        with self._lock, capture(self._flavour) as (_, messages):
            context = self._context(messages)
            context.set_device_memory(lane.scratch.address, self.scratch_size)
            context.set_aux_streams([queue.handle for queue in lane.sides])
            if not context.set_input_shape(self._input, (batch, 3, *self.spec.imgsz)):
                raise self._failure(f"refuses a batch of {batch}", messages)
            for name in (self._input, *self._shapes):
                if not context.set_tensor_address(name, addresses[name]):
                    raise self._failure(f"refuses the buffer of {name}", messages)
            prepared = _Prepared(self, context, lane.queue)
            prepared()
            lane.queue.wait()
            if self._cache is not None:
                self._cache.keep()
            return prepared

    def run(self, context: IExecutionContext, queue: Queue) -> None:
        """Queue one inference. Raises BackendError with what TensorRT says."""
        with capture(self._flavour) as (_, messages):
            if not context.execute_async_v3(queue.handle):
                raise self._failure("failed to run", messages)

    def _context(self, messages: Messages) -> IExecutionContext:
        assert self._engine is not None
        trt = self._flavour.module
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self._cache is not None:
            # A recording keeps the kernels that there were, so the best ones have to be there from the start.
            eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
            self._cache.attach(config)
        context = self._engine.create_execution_context(config)
        if context is None:
            raise self._failure("cannot prepare the plan", messages)
        return context

    def _failure(self, what: str, messages: Messages) -> BackendError:
        text = f"{self._flavour.title} {what}: {messages.summary()}"
        if messages.mention("out of memory") or messages.mention("OutOfMemory"):
            return CudaError(text, remedy="Use a smaller batch or input size, or free the GPU.")
        return BackendError(text)


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


class _Cache:
    """The runtime cache of one engine, shared by its contexts."""

    def __init__(self, file: RuntimeCacheFile) -> None:
        self._file = file
        self._held = file.read()
        self._cache: IRuntimeCache | None = None

    def attach(self, config: IRuntimeConfig) -> None:
        """Let contexts of this configuration take kernels from the cache and put them there."""
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            # False for one of another driver or GPU: it is filled anew.
            if self._held is not None and not self._cache.deserialize(self._held):
                self._held = None
        config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write to the disk what is new."""
        assert self._cache is not None
        content = bytes(memoryview(self._cache.serialize()))
        if content != self._held:
            self._held = content
            self._file.write(content)
