"""An engine for `HostMachine`: ONNX Runtime in place of TensorRT, on the same addresses."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from tests.support.cuda_host.machine import HostMachine, HostQueue
from yolotrt.backends.base import BackendInfo
from yolotrt.cuda.machine import Queue
from yolotrt.errors import CudaError
from yolotrt.model_spec import BatchRange, ModelSpec
from yolotrt.model_spec_infer import read_onnx_spec


class OnnxEngine:
    """A model with a dynamic or static batch.

    Attributes:
        prepared: batch sizes, in the order they were asked for.
        out_of_memory_from: preparing this batch size or a larger one fails.
        cannot_be_recorded: as some engines.
    """

    def __init__(self, path: Path, machine: HostMachine, *, batch: BatchRange | None = None) -> None:
        spec = read_onnx_spec(path)
        self.spec: ModelSpec = spec if batch is None else dataclasses.replace(spec, batch=batch)
        self.info = BackendInfo(backend="host", flavour="host", version="0", device="cpu", precision="fp32")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.machine = machine
        self.prepared: list[int] = []
        self.out_of_memory_from = 1000
        self.cannot_be_recorded = False
        self.closed = False

    def output_shapes(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        return {
            tensor.name: (batch, *(side for side in tensor.shape[1:] if side is not None))
            for tensor in self.spec.outputs
        }

    def lane(self, queue: Queue) -> OnnxLane:
        assert isinstance(queue, HostQueue)
        return OnnxLane(self, queue)

    def close(self) -> None:
        self.closed = True


class OnnxLane:
    def __init__(self, engine: OnnxEngine, queue: HostQueue) -> None:
        self._engine, self._queue = engine, queue
        engine.machine.open += 1

    def prepare(self, batch: int, addresses: Mapping[str, int]) -> Callable[[], None]:
        engine = self._engine
        if batch >= engine.out_of_memory_from:
            raise CudaError("out of GPU memory")
        engine.prepared.append(batch)
        picture = engine.spec.input
        shape = (batch, 3, *engine.spec.imgsz)
        images = at(addresses[picture.name], shape, picture.dtype)
        outputs = engine.output_shapes(batch)

        def run() -> None:
            results = engine.session.run(list(outputs), {picture.name: images})
            for (name, output), result in zip(outputs.items(), results, strict=True):
                np.copyto(at(addresses[name], output, "float32"), result)

        def enqueue() -> None:
            if engine.cannot_be_recorded and self._queue.is_recording:
                raise CudaError("a CUDA graph cannot be recorded")
            self._queue.do(run)

        return enqueue

    def close(self) -> None:
        self._engine.machine.open -= 1


def at(address: int, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """The array that lies at an address."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = memoryview((ctypes.c_ubyte * size).from_address(address))
    array: npt.NDArray[Any] = np.frombuffer(raw, np.dtype(dtype)).reshape(shape)
    return array
