"""What a batch needs of a GPU, as protocols: memory, a queue of copies and kernels, and recordings of such a queue.

`yolotrt.cuda.gpu` is the implementation on CUDA. The tests have another that runs the same kernels as host code, so
that everything built on these protocols is run on machines without a GPU as well.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from yolotrt.cuda.kernel_source import KernelSource

Dim = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class DeviceArray:
    """An array of another library in the memory of this GPU.

    Attributes:
        address: of its first element.
        shape: of it.
        strides: bytes from one element to the next, per dimension.
        dtype: of its elements.
        owner: keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class GpuHandle:
    """A GPU as libraries know it that work on it beside us.

    Attributes:
        index: CUDA's number of it.
        context: of its primary context.
        memory_size: bytes of its memory, whoever uses it.
    """

    index: int
    context: int
    memory_size: int


class Memory(Protocol):
    """Memory of the GPU, zeroed when it was allocated.

    Attributes:
        address: of its first byte, aligned to 256.
        size: in bytes.
    """

    @property
    def address(self) -> int: ...

    @property
    def size(self) -> int: ...

    def close(self) -> None:
        """Free it. Nothing that uses it may still be queued."""


class PinnedMemory(Memory, Protocol):
    """Memory of the host that the GPU copies from and to by itself."""

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """All of it, `[size]`: a view, valid until `close`."""


class Kernel(Protocol):
    """A kernel that is ready to be launched."""

    @property
    def name(self) -> str: ...


class Recording(Protocol):
    """What a queue was given while it recorded, to be run as a whole, any number of times."""

    def close(self) -> None: ...


class Queue(Protocol):
    """A queue of work, done in order. One thread at a time.

    Attributes:
        handle: CUDA's stream, for libraries that queue work of their own.
    """

    @property
    def handle(self) -> int: ...

    def copy(self, to: int, source: int, size: int) -> None:
        """Queue a copy of `size` bytes between addresses of the GPU or of pinned memory, in any direction."""

    def copy_blocks(self, to: int, source: int, size: int, count: int, pitch: int) -> None:
        """Queue a copy of `count` blocks of `size` bytes that lie `pitch` apart; they come to lie side by side."""

    def launch(self, kernel: Kernel, grid: Dim, block: Dim, arguments: npt.NDArray[Any]) -> None:
        """Queue a kernel.

        Args:
            kernel: of the same machine.
            grid, block: blocks, and threads of each, as x, y, z.
            arguments: the one structure that the kernel takes, an array of no dimensions; copied at once.
        """

    def record(self, work: Callable[[], None]) -> Recording:
        """Record what `work` queues here, without running it. `work` must not wait for the GPU."""

    def replay(self, recording: Recording) -> None:
        """Queue all of a recording."""

    def wait(self) -> None:
        """Wait until everything in it is done. Raises CudaError for what failed meanwhile."""

    def close(self) -> None: ...


class Machine(Protocol):
    """One GPU. Everything but `active`, `held`, `handle` and `can_share` is used inside of `active`."""

    @property
    def handle(self) -> GpuHandle:
        """For other libraries. Raises CudaError where the GPU cannot be used."""

    def active(self) -> AbstractContextManager[None]:
        """Make it the calling thread's current GPU; what was current before is put back."""

    def held(self) -> AbstractContextManager[None]:
        """`active` for as long as a thread works in which nothing else changes its GPU: `active` is free inside."""

    def allocate(self, size: int) -> Memory:
        """Zeroed memory of the GPU. Raises CudaError where there is not enough."""

    @property
    def can_share(self) -> bool:
        """Whether other processes can use its memory (`exported`, `adopted`)."""

    def exported(self, memory: Memory) -> bytes:
        """A name of memory of its own, for `adopted` in one other process. Raises CudaError where there is none."""

    def adopted(self, name: bytes, size: int) -> Memory:
        """The memory of another process, which must not free it before it is closed here. Raises CudaError."""

    def pin(self, size: int) -> PinnedMemory:
        """Memory of the host. Raises CudaError where not as much can be pinned."""

    def queue(self) -> Queue: ...

    def kernel(self, source: KernelSource, name: str) -> Kernel:
        """Compile a source, or take it from the cache, and find a kernel in it.

        Raises:
            MissingExtraError: the compiler is needed and not installed.
            CudaError: it does not compile, or the driver does not load it.
        """

    def is_pinned(self, address: int) -> bool:
        """Whether the GPU can copy from this address of the host by itself."""

    def view(self, array: object, queue: Queue) -> DeviceArray:
        """What an array of another library holds; the queue waits for whatever still writes to it.

        Args:
            array: with `__dlpack__` or `__cuda_array_interface__`.
            queue: which will read it.

        Raises SourceError for an array that is not in this GPU's memory.
        """
