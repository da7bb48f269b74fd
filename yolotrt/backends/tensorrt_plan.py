"""A plan in the memory of a GPU: its engine, its tensors, and the contexts that run it."""

from __future__ import annotations

from yolotrt.backends.base import BackendInfo
from yolotrt.backends.flavours import Flavour
from yolotrt.backends.runtime_cache import RuntimeCacheFile
from yolotrt.backends.tensorrt_api import (
    ICudaEngine,
    IExecutionContext,
    ILogger,
    IRuntimeCache,
    IRuntimeConfig,
    Runtime,
)
from yolotrt.backends.tensorrt_engine import InputRange, load_engine, tensors
from yolotrt.backends.tensorrt_log import Messages
from yolotrt.cuda.device import Device
from yolotrt.errors import BackendError, CudaError
from yolotrt.model_spec import ModelSpec
from yolotrt.plan_file import PlanFile


class LoadedPlan:
    """A plan on one GPU. Everything of it happens inside of `Device.active` and `tensorrt_log.capture`.

    Attributes:
        flavour: the TensorRT that runs it.
        device: the GPU.
        engine: the model.
        input, outputs: its tensors, as the engine has them.
        range: the shapes that the input takes.
    """

    def __init__(
        self, plan_file: PlanFile, flavour: Flavour, device: Device, logger: ILogger, messages: Messages
    ) -> None:
        """Load a plan that `find_plan` found. Raises what `load_engine` and `tensors` raise."""
        self.flavour, self.device = flavour, device
        self._plan_file = plan_file
        self._cache: _KernelCache | None = None
        loaded: tuple[Runtime, ICudaEngine] = load_engine(plan_file, flavour, device, logger, messages)
        self._runtime: Runtime | None = loaded[0]
        self._engine: ICudaEngine | None = loaded[1]
        inputs, self.outputs = tensors(self.engine, flavour, str(plan_file.path))
        self.input = inputs[0]
        self.range = InputRange.of(self.engine, self.input)
        if flavour.can.compiles_when_loaded:
            self._cache = _KernelCache(RuntimeCacheFile.of(plan_file.plan, flavour, device))

    @property
    def engine(self) -> ICudaEngine:
        """Raises BackendError once it is closed."""
        if self._engine is None:
            raise BackendError("the model is closed")
        return self._engine

    @property
    def spec(self) -> ModelSpec:
        """What the plan's file and its tensors say of the model."""
        return self._plan_file.spec(
            inputs=[self.input],
            outputs=self.outputs,
            batch=self.range.batch,
            imgsz=(self.range.opt[2], self.range.opt[3]) if len(self.range.opt) == 4 else None,
        )

    @property
    def info(self) -> BackendInfo:
        precision = self._plan_file.precision
        return BackendInfo(
            backend="tensorrt",
            flavour=self.flavour.key,
            version=self.flavour.version,
            device=str(self.device),
            precision=precision if precision != "unknown" else "unknown precision",
        )

    def check_recordable(self) -> None:
        """Raise BackendError where this TensorRT makes no contexts that can be recorded."""
        if not hasattr(self.engine, "create_runtime_config"):
            raise BackendError(
                "this TensorRT cannot be recorded",
                got=self.flavour.title,
                expected="one that has IRuntimeConfig",
                remedy="Install a newer one, or run the plan without CUDA graphs.",
            )

    def context(self, messages: Messages, *, to_record: bool = False) -> IExecutionContext:
        """One more context.

        Args:
            messages: what TensorRT said, for errors.
            to_record: its inferences are recorded; its memory is set by the caller.

        Raises BackendError, CudaError: TensorRT refuses; out of memory.
        """
        context = self.engine.create_execution_context(*self._config(to_record))
        if context is None:
            raise self.failure("cannot prepare the plan", messages)
        return context

    def keep_first_kernels(self) -> None:
        """Put on disk what was compiled for contexts so far, for the next start, unless there is something already.

        What a later batch size adds can wait for the end: to find out takes longer than to make a context.
        """
        if self._cache is not None and not self._cache.has_any:
            self._cache.keep()

    def keep_kernels(self) -> None:
        """Put on disk whatever was compiled. Not while TensorRT-RTX may be compiling in the background."""
        if self._cache is not None:
            self._cache.keep()

    def failure(self, what: str, messages: Messages) -> BackendError:
        """What TensorRT said, as an error."""
        text = f"{self.flavour.title} {what}: {messages.summary()}"
        if messages.mention("out of memory") or messages.mention("OutOfMemory"):
            return CudaError(text, remedy="Use a smaller batch or input size, or free the GPU.")
        return BackendError(text)

    def close(self) -> None:
        """Free it, once its contexts are gone: each part before what it belongs to."""
        self._cache = None
        self._engine = None
        self._runtime = None

    def _config(self, to_record: bool) -> tuple[IRuntimeConfig, ...]:
        if not to_record and self._cache is None:
            return ()
        trt = self.flavour.module
        config = self.engine.create_runtime_config()
        if to_record:
            config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self._cache is not None:
            if to_record:
                # A recording keeps the kernels that there were, so the best ones have to be there from the start.
                eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
                config.dynamic_shapes_kernel_specialization_strategy = eager
            self._cache.attach(config)
        return (config,)


class _KernelCache:
    """What one engine's contexts compile for the GPU, and have from an earlier start."""

    def __init__(self, file: RuntimeCacheFile) -> None:
        self._file = file
        self._held = file.read()
        self._cache: IRuntimeCache | None = None

    @property
    def has_any(self) -> bool:
        """Whether something that fits is on disk."""
        return self._held is not None

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
        if self._cache is None:
            return
        content = bytes(memoryview(self._cache.serialize()))
        if content != self._held:
            self._held = content
            self._file.write(content)
