"""`Machine` on CUDA: one GPU, its primary context, and what is loaded into it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.cuda.compile import compiled, compiler_version
from yolotrt.cuda.device import Device
from yolotrt.cuda.driver import check, driver, driver_version, translated
from yolotrt.cuda.kernel_source import KernelSource
from yolotrt.cuda.machine import DeviceArray, Dim, GpuHandle, Kernel, Memory, Queue, Recording
from yolotrt.cuda.uncollected import uncollected
from yolotrt.errors import CudaError, SourceError

_NAME = 64  # bytes of a CUipcMemHandle, whose only field has a name in some versions of cuda.bindings
_DLPACK_KINDS = (2, 3, 13)  # memory of a GPU, pinned and managed memory


@functools.cache
def gpu(device: Device) -> Gpu:
    """The machine of a GPU: one for the whole process, so that kernels are loaded once."""
    return Gpu(device)


class Gpu:
    """One GPU. May be shared by threads. Use `gpu` rather than making one."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._context: Any = None
        self._modules: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()

    def active(self) -> AbstractContextManager[None]:
        return _AS_IT_IS if getattr(self._thread, "is_held", False) else self._active()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._active():
            self._thread.is_held = True
            try:
                yield
            finally:
                self._thread.is_held = False

    def _active(self) -> _Active:
        if self._context is None:
            with self.device.active():
                self._context = check(driver().cuCtxGetCurrent(), "the CUDA context of a GPU cannot be read")
        return _Active(self._context)

    @property
    def handle(self) -> GpuHandle:
        with self.active():
            return GpuHandle(index=self.device.index, context=int(self._context), memory_size=self.device.memory_bytes)

    def allocate(self, size: int) -> GpuMemory:
        with self._active():  # made sure of even where a thread is held: memory elsewhere would crash the kernels
            return GpuMemory(size)

    @property
    def can_share(self) -> bool:
        # Jetsons have no memory of their own, and WSL and Windows no names for it.
        return sys.platform == "linux" and "microsoft" not in platform.release().lower() and not self._is_integrated()

    def exported(self, memory: Memory) -> bytes:
        name = check(driver().cuIpcGetMemHandle(memory.address), "GPU memory cannot be shared with another process")
        return ctypes.string_at(name.getPtr(), _NAME)

    def adopted(self, name: bytes, size: int) -> AdoptedMemory:
        return AdoptedMemory(name, size)

    def pin(self, size: int) -> HostMemory:
        return HostMemory(size)

    def queue(self) -> GpuQueue:
        return GpuQueue()

    def kernel(self, source: KernelSource, name: str) -> GpuKernel:
        api = driver()
        with self._lock:
            if source.digest not in self._modules:
                self._modules[source.digest] = self._load(source)
            module = self._modules[source.digest]
        function = check(api.cuModuleGetFunction(module, name.encode()), f"the kernel {name} cannot be found")
        return GpuKernel(name, function)

    def is_pinned(self, address: int) -> bool:
        api = driver()
        attribute = api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
        code, kind = api.cuPointerGetAttribute(attribute, address)
        # An address that CUDA does not know is an invalid value to it.
        return int(code) == 0 and int(kind) == int(api.CUmemorytype.CU_MEMORYTYPE_HOST)

    def view(self, array: object, queue: Queue) -> DeviceArray:
        from cuda.core.utils import StridedMemoryView

        what = "a picture in the GPU's memory cannot be read"
        kind = getattr(array, "__dlpack_device__", None)
        if kind is not None and int(kind()[0]) not in _DLPACK_KINDS:
            raise self._elsewhere("host memory")  # asked for its memory, NumPy would complain of the stream
        try:
            with translated(what):
                view = StridedMemoryView.from_any_interface(array, stream_ptr=queue.handle)
        except (BufferError, TypeError, ValueError, RuntimeError) as e:
            raise SourceError(f"{what}: {e}", remedy="Hand over an array with DLPack, such as one of CuPy.") from e
        if not view.is_device_accessible or view.device_id not in (-1, self.device.index):
            raise self._elsewhere(f"cuda:{view.device_id}" if view.is_device_accessible else "host memory")
        dtype = np.dtype(view.dtype)
        shape = tuple(view.shape)
        strides = _contiguous(shape) if view.strides is None else tuple(view.strides)
        strides = tuple(stride * dtype.itemsize for stride in strides)
        return DeviceArray(address=int(view.ptr), shape=shape, strides=strides, dtype=dtype, owner=view)

    def _is_integrated(self) -> bool:
        api = driver()
        attribute = api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED
        found = api.cuDeviceGetAttribute(attribute, check(api.cuDeviceGet(self.device.index), "a GPU cannot be opened"))
        return bool(check(found, "what a GPU is cannot be read"))

    def _elsewhere(self, where: str) -> SourceError:
        return SourceError(
            "a picture is not in the memory of the GPU that runs the model",
            got=where,
            expected=f"cuda:{self.device.index}",
            remedy="Copy it there, or open the model with that device.",
        )

    def _load(self, source: KernelSource) -> Any:
        api = driver()
        capability = self.device.compute_capability
        code, module = api.cuModuleLoadData(compiled(source, capability))
        if int(code) == 0:
            return module
        # What the cache holds may come from a compiler that this driver does not know.
        code, module = api.cuModuleLoadData(compiled(source, capability, again=True))
        what = f"the kernels of {source.path.name} cannot be loaded"
        if int(code) != 0 and driver_version()[0] < compiler_version()[0]:
            raise CudaError(
                f"{what}: the NVIDIA driver is older than the compiler",
                got="CUDA {}.{}".format(*driver_version()),
                expected="CUDA {}.{}".format(*compiler_version()),
                remedy="Update the NVIDIA driver, or run the ONNX file with --device cpu.",
            )
        return check((code, module), what)


_AS_IT_IS = contextlib.nullcontext()


class _Active:
    """`Device.active` for a context that is there already, at a fraction of the cost: every picture passes here."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._before: Any = None

    def __enter__(self) -> None:
        api = driver()
        before = check(api.cuCtxGetCurrent(), "the current CUDA context cannot be read")
        if int(before) != int(self._context):
            self._before = before
            check(api.cuCtxSetCurrent(self._context), "the GPU cannot be used")

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            check(driver().cuCtxSetCurrent(self._before), "the CUDA context cannot be put back")


class GpuMemory:
    """Memory of the GPU, zeroed."""

    def __init__(self, size: int) -> None:
        api = driver()
        what = f"{size / 2**20:.1f} MiB of GPU memory cannot be allocated"
        self.size = size
        self._pointer = check(api.cuMemAlloc(size), what)
        self.address = int(self._pointer)
        try:
            # In a stream of its own: the default one would wait for the work of others, or they for it.
            queue = GpuQueue()
            check(api.cuMemsetD8Async(self._pointer, 0, size, queue.handle), what)
            queue.wait()
            queue.close()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        check(driver().cuMemFree(self._pointer), "GPU memory cannot be freed")


class AdoptedMemory:
    """Memory of the GPU that belongs to another process."""

    def __init__(self, name: bytes, size: int) -> None:
        api = driver()
        handle = api.CUipcMemHandle()
        ctypes.memmove(handle.getPtr(), name, _NAME)
        flags = api.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
        self.size = size
        self._pointer = check(api.cuIpcOpenMemHandle(handle, flags), "another process's GPU memory cannot be used")
        self.address = int(self._pointer)

    def close(self) -> None:
        check(driver().cuIpcCloseMemHandle(self._pointer), "another process's GPU memory cannot be let go")


class HostMemory:
    """Pinned memory of the host, zeroed."""

    def __init__(self, size: int) -> None:
        api = driver()
        # Portable: pinned for all GPUs.
        pointer = api.cuMemHostAlloc(size, api.CU_MEMHOSTALLOC_PORTABLE)
        self.size = size
        self.address = int(check(pointer, f"{size / 2**20:.1f} MiB of host memory cannot be pinned"))
        raw = (ctypes.c_ubyte * size).from_address(self.address)
        self.array: npt.NDArray[np.uint8] = np.frombuffer(memoryview(raw), np.uint8)
        self.array[:] = 0

    def close(self) -> None:
        check(driver().cuMemFreeHost(self.address), "pinned memory cannot be freed")


@dataclass(frozen=True)
class GpuKernel:
    name: str
    function: Any


class Graph:
    """A recording: an instantiated CUDA graph."""

    def __init__(self, graph: Any) -> None:
        api = driver()
        try:
            self.executable = check(api.cuGraphInstantiate(graph, 0), "a CUDA graph cannot be made ready")
        finally:
            check(api.cuGraphDestroy(graph), "a CUDA graph cannot be freed")

    def close(self) -> None:
        check(driver().cuGraphExecDestroy(self.executable), "a CUDA graph cannot be freed")


class GpuQueue:
    """A CUDA stream of the current GPU. Not one of cuda.core, which takes as long to import as a plan to load."""

    def __init__(self) -> None:
        api = driver()
        flags = int(api.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._stream = check(api.cuStreamCreate(flags), "a CUDA stream cannot be made")
        self.handle = int(self._stream)
        self._blocks = api.CUDA_MEMCPY2D()  # filled in for each copy: to make one costs more than the copy
        self._blocks.srcMemoryType = self._blocks.dstMemoryType = api.CUmemorytype.CU_MEMORYTYPE_UNIFIED

    def copy(self, to: int, source: int, size: int) -> None:
        # Addresses tell where they are, so one call serves all directions.
        check(driver().cuMemcpyAsync(to, source, size, self.handle), "a copy to or from the GPU failed")

    def copy_blocks(self, to: int, source: int, size: int, count: int, pitch: int) -> None:
        copy = self._blocks
        copy.srcDevice, copy.srcPitch = source, pitch
        copy.dstDevice, copy.dstPitch = to, size
        copy.WidthInBytes, copy.Height = size, count
        check(driver().cuMemcpy2DAsync(copy, self.handle), "a copy to or from the GPU failed")

    def launch(self, kernel: Kernel, grid: Dim, block: Dim, arguments: npt.NDArray[Any]) -> None:
        assert isinstance(kernel, GpuKernel)
        structure = np.ascontiguousarray(arguments)
        parameters = np.array([structure.ctypes.data], np.uint64)
        result = driver().cuLaunchKernel(kernel.function, *grid, *block, 0, self.handle, int(parameters.ctypes.data), 0)
        check(result, f"the kernel {kernel.name} cannot be launched")

    def record(self, work: Callable[[], None]) -> Graph:
        with uncollected:
            return self._record(work)

    def _record(self, work: Callable[[], None]) -> Graph:
        api = driver()
        # Other threads may go on allocating and loading meanwhile.
        mode = api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check(api.cuStreamBeginCapture(self.handle, mode), "a CUDA graph cannot be recorded")
        try:
            work()
        except BaseException:
            # The stream records until it is told to stop, even what failed.
            code, graph = api.cuStreamEndCapture(self.handle)
            if int(code) == 0 and int(graph):
                api.cuGraphDestroy(graph)
            raise
        return Graph(check(api.cuStreamEndCapture(self.handle), "a CUDA graph cannot be recorded"))

    def replay(self, recording: Recording) -> None:
        assert isinstance(recording, Graph)
        check(driver().cuGraphLaunch(recording.executable, self.handle), "a CUDA graph cannot be launched")

    def wait(self) -> None:
        check(driver().cuStreamSynchronize(self.handle), "work on the GPU failed")

    def close(self) -> None:
        with contextlib.suppress(CudaError):
            self.wait()
        check(driver().cuStreamDestroy(self._stream), "a CUDA stream cannot be closed")


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a contiguous array."""
    return tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
