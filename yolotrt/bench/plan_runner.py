"""A TensorRT plan with nothing around it, timed by the GPU's clock, and layer by layer if asked.

`TensorRTBackend` copies its input and its outputs at every call. Here the input is copied once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.backends.flavours import Flavour
from yolotrt.backends.tensorrt_api import IExecutionContext, IProfiler
from yolotrt.backends.tensorrt_engine import find_plan
from yolotrt.backends.tensorrt_log import Messages, capture
from yolotrt.backends.tensorrt_plan import LoadedPlan
from yolotrt.bench.cuda_events import EventPair
from yolotrt.cuda.device import Device
from yolotrt.cuda.memory import StagedBuffer
from yolotrt.cuda.stream import Stream
from yolotrt.errors import BackendError
from yolotrt.plan_file import PlanFile

if TYPE_CHECKING:
    from typing_extensions import Self


class PlanRunner:
    """One plan on one GPU. For one thread. Close it, or use it as a context manager."""

    def __init__(self, plan_file: PlanFile, flavour: Flavour, device: Device) -> None:
        """Load a plan; `open` does so from its path. Raises what `open` raises."""
        self._flavour, self._device = flavour, device
        self._plan: LoadedPlan | None = None
        self._context: IExecutionContext | None = None
        self._stream: Stream | None = None
        self._buffers: dict[str, StagedBuffer] = {}
        self._profiler: IProfiler | None = None
        with device.active(), capture(flavour) as (logger, messages):
            try:
                self._plan = LoadedPlan(plan_file, flavour, device, logger, messages)
                self._input, self._outputs = self._plan.input, self._plan.outputs
                self._context = self._plan.context(messages)
                if not self._plan.range.is_open:
                    self._plan.keep_first_kernels()
                self._stream = Stream(device.index)
                self._events = EventPair(self._stream)
            except BaseException:
                self._free()
                raise

    @classmethod
    def open(cls, path: Path, *, device: int = 0) -> PlanRunner:
        """Load a plan file on a GPU. Raises as `TensorRTBackend.open`."""
        return cls(*find_plan(path, device=device))

    def load(self, images: npt.NDArray[Any]) -> None:
        """Copy the input, `[N, 3, H, W]` in the model's dtype, to the GPU for every run to come.

        Raises:
            BackendError: the plan does not take it.
            CudaError: out of memory.
        """
        context, stream = self._open()
        with self._device.active(), capture(self._flavour) as (_, messages):
            if not context.set_input_shape(self._input.name, images.shape):
                raise self._failure(f"refuses the input shape {images.shape}", messages)
            self._bind(self._input.name, images.nbytes)
            for tensor in self._outputs:
                shape = tuple(context.get_tensor_shape(tensor.name))
                self._bind(tensor.name, int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize)
            staged = self._buffers[self._input.name]
            np.copyto(staged.host(images.shape, images.dtype), images)
            staged.upload(images.nbytes)
            stream.synchronize()

    def run(self) -> float:
        """Run once; the seconds from the first kernel to the last, waits for the host between them included.

        Raises BackendError, CudaError.
        """
        context, stream = self._open()
        with self._device.active(), capture(self._flavour) as (_, messages):
            self._events.start()
            if not context.execute_async_v3(stream.handle):
                raise self._failure("failed to run", messages)
            self._events.stop()
            return self._events.seconds()

    def profile(self, on_layer: Callable[[str, float], None]) -> None:
        """Call `on_layer` with the name and the milliseconds of each layer, in order, in every run from now on.

        The runtime waits after every layer for that, so a run takes longer than it does without.
        """
        context, _ = self._open()
        self._profiler = _make_profiler(self._flavour, on_layer)  # TensorRT does not keep it alive
        context.profiler = self._profiler

    def layer_information(self) -> list[dict[str, Any]]:
        """What the engine inspector says of each layer; empty where the plan or the runtime holds no details."""
        if not self._flavour.can.can_build or self._plan is None:
            return []
        with self._device.active(), capture(self._flavour):
            inspector = self._plan.engine.create_engine_inspector()
            text = inspector.get_engine_information(self._flavour.module.LayerInformationFormat.JSON)
            del inspector
        return read_layer_information(text)

    def close(self) -> None:
        """Free the model. Calling it again does nothing."""
        if self._plan is not None:
            with self._device.active(), capture(self._flavour):
                self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> tuple[IExecutionContext, Stream]:
        if self._context is None or self._stream is None:
            raise BackendError("the model is closed")
        return self._context, self._stream

    def _bind(self, name: str, size: int) -> None:
        """A buffer of at least `size` bytes for a tensor."""
        context, stream = self._open()
        held = self._buffers.get(name)
        if held is None or held.capacity < size:
            if held is not None:
                self._buffers.pop(name).close()
            self._buffers[name] = StagedBuffer(max(size, 1), index=self._device.index, stream=stream)
        if not context.set_tensor_address(name, self._buffers[name].address):
            raise BackendError(f"{self._flavour.title} refuses the buffer of {name}")

    def _failure(self, what: str, messages: Messages) -> BackendError:
        assert self._plan is not None
        return self._plan.failure(what, messages)

    def _free(self) -> None:
        self._context = None
        self._profiler = None
        while self._buffers:
            self._buffers.popitem()[1].close()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._plan is not None:
            self._plan.close()
            self._plan = None


def read_layer_information(text: str) -> list[dict[str, Any]]:
    """The layers in the inspector's JSON text that are described, not only named."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    layers = found.get("Layers", []) if isinstance(found, dict) else []
    return [layer for layer in layers if isinstance(layer, dict)]


def _make_profiler(flavour: Flavour, on_layer: Callable[[str, float], None]) -> IProfiler:
    base = flavour.module.IProfiler

    class Profiler(base):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            base.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            # An exception must not cross into C++; there is nothing here that raises one.
            on_layer(layer_name, ms)

    made: IProfiler = Profiler()
    return made
