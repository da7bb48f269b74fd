"""As much of CUDA's driver API as `yolotrt.cuda.gpu` calls, on the host: what calls give back, refuse and leave open.

Kernels run as host code. A stream that records refuses to be waited for, as a real one does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.support.cuda_host.build import run
from yolotrt.cuda.kernel_source import KernelSource

_LARGEST = 320  # bytes of a kernel's parameters
OWN, FOREIGN = 0xC0FFEE, 0xF00D


class Status:
    """A code as `cuda.bindings` gives it."""

    def __init__(self, code: int, name: str) -> None:
        self._code, self.name = code, name

    def __int__(self) -> int:
        return self._code


OK = (Status(0, "CUDA_SUCCESS"),)


def error(name: str) -> tuple[Status]:
    return (Status(1, name),)


class FakeDriver:
    """The functions of `cuda.bindings.driver`.

    Attributes:
        current: the calling thread's context.
        open: addresses and objects that are not freed yet.
        loads: images of modules that are accepted: all but those that start with b"bad".
    """

    CU_MEMHOSTALLOC_PORTABLE = 1
    CUpointer_attribute = SimpleNamespace(CU_POINTER_ATTRIBUTE_MEMORY_TYPE=2)
    CUmemorytype = SimpleNamespace(CU_MEMORYTYPE_HOST=1, CU_MEMORYTYPE_UNIFIED=4)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    CUDA_MEMCPY2D = SimpleNamespace

    def __init__(self, sources: tuple[KernelSource, ...]) -> None:
        self._sources = sources
        self.current = FOREIGN
        self.free_bytes = 2**30
        self.open: dict[int, Any] = {}
        self.pinned: set[int] = set()
        self.recorded: list[Callable[[], None]] | None = None
        self.loads: list[bytes] = []

    def cuCtxGetCurrent(self) -> Any:  # noqa: N802
        return (*OK, self.current)

    def cuCtxSetCurrent(self, context: int) -> Any:  # noqa: N802
        self.current = context
        return OK

    def cuDriverGetVersion(self) -> Any:  # noqa: N802
        return (*OK, 12080)

    def cuMemAlloc(self, size: int) -> Any:  # noqa: N802
        assert self.current == OWN
        if size > self.free_bytes:
            return (*error("CUDA_ERROR_OUT_OF_MEMORY"), None)
        memory = np.full(size, 0xAA, np.uint8)
        self.open[memory.ctypes.data] = memory
        return (*OK, memory.ctypes.data)

    def cuMemHostAlloc(self, size: int, flags: int) -> Any:  # noqa: N802
        status, address = self.cuMemAlloc(size)
        self.pinned.add(address)
        return status, address

    def cuMemFree(self, address: int) -> Any:  # noqa: N802
        assert address not in self.pinned
        del self.open[address]
        return OK

    def cuMemFreeHost(self, address: int) -> Any:  # noqa: N802
        self.pinned.remove(address)
        del self.open[address]
        return OK

    def cuMemsetD8Async(self, address: int, value: int, size: int, stream: int) -> Any:  # noqa: N802
        ctypes.memset(address, value, size)
        return OK

    def cuPointerGetAttribute(self, attribute: int, address: int) -> Any:  # noqa: N802
        return (*OK, 1) if address in self.pinned else (*error("CUDA_ERROR_INVALID_VALUE"), None)

    def cuMemcpyAsync(self, to: int, source: int, size: int, stream: int) -> Any:  # noqa: N802
        return self.do(lambda: ctypes.memmove(to, source, size))

    def cuMemcpy2DAsync(self, c: Any, stream: int) -> Any:  # noqa: N802
        for row in range(c.Height):
            self.cuMemcpyAsync(c.dstDevice + row * c.dstPitch, c.srcDevice + row * c.srcPitch, c.WidthInBytes, stream)
        return OK

    def cuModuleLoadData(self, image: bytes) -> Any:  # noqa: N802
        self.loads.append(image)
        return (*error("CUDA_ERROR_INVALID_IMAGE"), None) if image.startswith(b"bad") else (*OK, image)

    def cuModuleGetFunction(self, module: bytes, name: bytes) -> Any:  # noqa: N802
        source = next((s for s in self._sources if name in s.path.read_bytes() and name in module), None)
        return (*OK, (source, name.decode())) if source else (*error("CUDA_ERROR_NOT_FOUND"), None)

    def cuLaunchKernel(  # noqa: N802
        self, function: Any, gx: int, gy: int, gz: int, bx: int, by: int, bz: int,
        shared: int, stream: int, parameters: int, extra: int,
    ) -> Any:  # fmt: skip
        source, name = function
        structure = ctypes.c_uint64.from_address(parameters).value
        # A launch copies its parameters at once.
        held = np.frombuffer(ctypes.string_at(structure, _LARGEST), np.uint8)
        return self.do(lambda: run(source, name, (gx, gy, gz), (bx, by, bz), held))

    def cuStreamBeginCapture(self, stream: int, mode: int) -> Any:  # noqa: N802
        assert self.recorded is None
        self.recorded = []
        return OK

    def cuStreamEndCapture(self, stream: int) -> Any:  # noqa: N802
        assert self.recorded is not None
        graph, self.recorded = self.recorded, None
        self.open[id(graph)] = graph
        return (*OK, id(graph))

    def cuGraphInstantiate(self, graph: int, flags: int) -> Any:  # noqa: N802
        executable = list(self.open[graph])
        self.open[id(executable)] = executable
        return (*OK, id(executable))

    def cuGraphDestroy(self, graph: int) -> Any:  # noqa: N802
        del self.open[graph]
        return OK

    cuGraphExecDestroy = cuGraphDestroy  # noqa: N815

    def cuGraphLaunch(self, executable: int, stream: int) -> Any:  # noqa: N802
        for step in self.open[executable]:
            step()
        return OK

    def cuStreamSynchronize(self, stream: int) -> Any:  # noqa: N802
        return error("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED") if self.recorded is not None else OK

    def do(self, step: Callable[[], Any]) -> Any:
        """Queue anything."""
        if self.recorded is not None:
            self.recorded.append(step)
        else:
            step()
        return OK
