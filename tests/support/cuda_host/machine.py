"""A `Machine` without a GPU: kernels run as host code, memory is the host's. Work is done at once."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.cuda_host.build import run
from yolotrt.cuda.kernel_source import KernelSource
from yolotrt.cuda.machine import DeviceArray, Dim, GpuHandle, Kernel, Memory, Queue, Recording
from yolotrt.errors import CudaError

Step = Callable[[], None]


class HostMemory:
    """Zeroed and aligned to 256 bytes."""

    def __init__(self, size: int, machine: HostMachine) -> None:
        self.size, self._machine = size, machine
        whole = np.zeros(size + 256, np.uint8)
        start = -whole.ctypes.data % 256
        self.array = whole[start : start + size]
        self.address = self.array.ctypes.data
        machine.open += 1

    def close(self) -> None:
        self._machine.open -= 1
        self._machine.check()


@dataclass(frozen=True)
class HostKernel:
    source: KernelSource
    name: str


@dataclass
class HostRecording:
    steps: list[Step] = field(default_factory=list)

    def close(self) -> None:
        self.steps.clear()


class HostQueue:
    handle = 0

    def __init__(self, machine: HostMachine) -> None:
        self._machine = machine
        self._recording: HostRecording | None = None
        self._closed = False
        machine.open += 1

    @property
    def is_recording(self) -> bool:
        return self._recording is not None

    def do(self, step: Step) -> None:
        """Queue anything: now, or as part of what is recorded."""
        if self._recording is not None:
            self._recording.steps.append(step)
        else:
            step()

    def copy(self, to: int, source: int, size: int) -> None:
        def step() -> None:
            ctypes.memmove(to, source, size)

        self.do(step)

    def copy_blocks(self, to: int, source: int, size: int, count: int, pitch: int) -> None:
        for i in range(count):
            self.copy(to + i * size, source + i * pitch, size)

    def launch(self, kernel: Kernel, grid: Dim, block: Dim, arguments: npt.NDArray[Any]) -> None:
        assert isinstance(kernel, HostKernel)
        copied = arguments.copy()
        self.do(lambda: run(kernel.source, kernel.name, grid, block, copied, order=self._machine.order))

    def record(self, work: Callable[[], None]) -> HostRecording:
        assert self._recording is None
        recording = self._recording = HostRecording()
        try:
            work()
        finally:
            self._recording = None
        return recording

    def replay(self, recording: Recording) -> None:
        assert isinstance(recording, HostRecording)
        self._machine.replays += 1
        for step in recording.steps:
            step()

    def wait(self) -> None:
        assert self._recording is None, "a queue that records must not be waited for"
        assert not self._closed, "a queue that is closed must not be waited for"
        self._machine.on_wait()
        self._machine.check()

    def close(self) -> None:
        assert not self._closed
        self._closed = True
        self._machine.open -= 1


class HostMachine:
    """Counts what is open, can run out of memory and can fail.

    Attributes:
        memory: bytes that can be allocated in one piece.
        order: in which threads of a block run, see `run`.
        fails: waiting and freeing raise, as after a kernel that crashed.
        on_wait: called at every wait.
        pinned: pretend that every address of the host is pinned.
        open: memories and queues that are not closed yet.
        replays: recordings that were run.
    """

    def __init__(self, *, memory: int = 2**40, order: int = 0) -> None:
        self.memory, self.order, self.fails, self.pinned = memory, order, False, False
        self.on_wait: Step = lambda: None
        self.open = self.replays = 0

    def check(self) -> None:
        if self.fails:
            raise CudaError("work on the GPU failed: CUDA_ERROR_LAUNCH_FAILED")

    @property
    def handle(self) -> GpuHandle:
        return GpuHandle(index=0, context=0, memory_size=self.memory)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        yield

    held = active

    def allocate(self, size: int) -> HostMemory:
        if size > self.memory:
            raise CudaError(f"{size / 2**20:.1f} MiB of GPU memory cannot be allocated: out of GPU memory")
        return HostMemory(size, self)

    can_share = False

    def exported(self, memory: Memory) -> bytes:
        raise CudaError("the memory of this process is its own")

    def adopted(self, name: bytes, size: int) -> Memory:
        raise CudaError("the memory of this process is its own")

    def pin(self, size: int) -> HostMemory:
        return self.allocate(size)

    def queue(self) -> HostQueue:
        return HostQueue(self)

    def kernel(self, source: KernelSource, name: str) -> HostKernel:
        return HostKernel(source, name)

    def is_pinned(self, address: int) -> bool:
        return self.pinned

    def view(self, array: object, queue: Queue) -> DeviceArray:
        assert isinstance(array, np.ndarray)
        return DeviceArray(
            address=array.ctypes.data, shape=array.shape, strides=array.strides, dtype=array.dtype, owner=array
        )
