"""The TensorRT back-end: one for the whole family. Host arrays in, host arrays out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.backends.base import Backend
from yolotrt.backends.flavours import Flavour
from yolotrt.backends.tensorrt_api import IExecutionContext
from yolotrt.backends.tensorrt_engine import find_plan
from yolotrt.backends.tensorrt_log import Messages, capture
from yolotrt.backends.tensorrt_plan import LoadedPlan
from yolotrt.cuda.device import Device
from yolotrt.cuda.memory import StagedBuffer
from yolotrt.cuda.stream import Stream
from yolotrt.errors import BackendError, CudaError
from yolotrt.model_spec import TensorSpec
from yolotrt.plan_file import PlanFile
from yolotrt.types import Batch, RawOutputs

Shape = tuple[int, ...]


class TensorRTBackend(Backend):
    """A plan on one GPU, with a stream and buffers of its own.

    One instance serves one thread at a time, any thread. Several instances work side by side in threads. The calling
    thread's CUDA context, PyTorch's included, is the same after each call as before.
    """

    def __init__(self, plan_file: PlanFile, flavour: Flavour, device: Device) -> None:
        """Load a plan; `open` does so from its path. Raises what `open` raises."""
        self._flavour, self._device = flavour, device
        self._plan: LoadedPlan | None = None
        self._context: IExecutionContext | None = None
        self._stream: Stream | None = None
        self._buffers: dict[str, StagedBuffer] = {}
        self._shape: Shape | None = None
        self._output_shapes: dict[str, Shape] = {}
        with device.active(), capture(flavour) as (logger, messages):
            try:
                self._plan = plan = LoadedPlan(plan_file, flavour, device, logger, messages)
                spec = plan.spec
                # The buffers take the tensors as the engine has them, whatever the description says.
                self._input, self._range = plan.input, plan.range
                self._outputs = {tensor.name: tensor for tensor in plan.outputs}
                self._context = plan.context(messages)
                self._stream = Stream(device.index)
                self._allocate(self._context, self._stream, messages)
                if not self._range.is_open:
                    plan.keep_first_kernels()
            except BaseException:
                self._free()
                raise
        super().__init__(spec, plan.info)

    @classmethod
    def open(cls, path: Path, *, device: int = 0, flavour: Flavour | None = None) -> TensorRTBackend:
        """Load a plan file.

        Args:
            path: plain, or with Ultralytics' header.
            device: number of the GPU.
            flavour: which TensorRT loads it; None takes the installed one that reads it.

        Raises:
            ModelError: no such file, damaged, or not a YOLO plan.
            PlanMismatchError: built by another TensorRT or for another GPU; both are named.
            MissingExtraError: no TensorRT, or no CUDA packages, are installed.
            CudaError: no driver, no such GPU, or out of memory.
            BackendError: TensorRT cannot start.
        """
        return cls(*find_plan(path, device=device, flavour=flavour))

    def _allocate(self, context: IExecutionContext, stream: Stream, messages: Messages) -> None:
        """Buffers for the largest input the plan takes, and the outputs of it."""
        self._set_shape(context, self._range.max, messages)
        largest = {self._input.name: (self._input, self._range.max)}
        largest |= {name: (self._outputs[name], shape) for name, shape in self._output_shapes.items()}
        for name, (tensor, shape) in largest.items():
            buffer = StagedBuffer(_size(tensor, shape), index=self._device.index, stream=stream)
            self._buffers[name] = buffer
            if not context.set_tensor_address(name, buffer.address):
                raise self._failure(f"refuses the buffer of {name}", messages)

    def _set_shape(self, context: IExecutionContext, shape: Shape, messages: Messages) -> None:
        if shape == self._shape:
            return
        # Unknown until all of it is known: after a failure the next call sets it again.
        self._shape = None
        if not context.set_input_shape(self._input.name, shape):
            raise self._failure(f"refuses the input shape {shape}", messages)
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in self._outputs}
        for name, output in shapes.items():
            if min(output, default=0) < 0:
                raise BackendError(f"output {name} has a size that only the run tells", got=f"shape {output}")
        self._shape, self._output_shapes = shape, shapes

    def _check(self, batch: Batch) -> None:
        super()._check(batch)
        if not self._range.takes(batch.images.shape):
            raise BackendError(
                "input of a shape that the plan does not take",
                got=batch.images.shape,
                expected=f"{self._range.min} to {self._range.max}",
                remedy="Export with another --batch-range or --imgsz.",
            )

    def _infer(self, batch: Batch) -> RawOutputs:
        context, stream = self._context, self._stream
        assert context is not None
        assert stream is not None
        with self._device.active(), capture(self._flavour) as (_, messages):
            shape: Shape = batch.images.shape
            self._set_shape(context, shape, messages)
            staged = self._buffers[self._input.name]
            try:
                np.copyto(staged.host(shape, self._input.dtype), batch.images)
                staged.upload(batch.images.nbytes)
                if not context.execute_async_v3(stream.handle):
                    raise self._failure("failed to run", messages)
                for name, output in self._output_shapes.items():
                    self._buffers[name].download(_size(self._outputs[name], output))
            finally:
                # Also on an error: the next call writes into what may still be read.
                stream.synchronize()
            return RawOutputs(arrays={name: self._result(name) for name in self._order()}, spec=self.spec)

    def _result(self, name: str) -> npt.NDArray[Any]:
        return self._buffers[name].host(self._output_shapes[name], self._outputs[name].dtype).copy()

    def _order(self) -> list[str]:
        return [tensor.name for tensor in self.spec.outputs]

    def _failure(self, what: str, messages: Messages) -> BackendError:
        assert self._plan is not None
        return self._plan.failure(what, messages)

    def _close(self) -> None:
        with self._device.active(), capture(self._flavour):
            self._free(keep=True)

    def _free(self, *, keep: bool = False) -> None:
        """Free everything in order, each part before what it needs. Safe on a half-loaded plan."""
        if self._stream is not None:
            # What failed in it was reported where it was started; here it only has to be over.
            with contextlib.suppress(CudaError):
                self._stream.synchronize()
        self._context = None
        while self._buffers:
            self._buffers.popitem()[1].close()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._plan is not None:
            if keep:  # only now: kernels for shapes that came later are compiled in the background
                self._plan.keep_kernels()
            self._plan.close()
            self._plan = None


def _size(tensor: TensorSpec, shape: Shape) -> int:
    """Bytes of a tensor of this shape."""
    return int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize
