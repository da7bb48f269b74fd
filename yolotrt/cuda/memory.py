"""Memory of the GPU, and pinned memory of the host that the GPU copies from and to by itself."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.cuda.driver import check, driver, translated
from yolotrt.cuda.stream import Stream


class StagedBuffer:
    """A buffer on the GPU and its pinned twin on the host.

    Make, use and close it inside `Device.active`, with the stream of its copies.
    """

    def __init__(self, capacity: int, *, index: int, stream: Stream) -> None:
        """Args:
        capacity: size in bytes, at least 1.
        index: the GPU, which must be the current one.
        stream: for every copy.

        Raises:
            CudaError: out of GPU memory, or of host memory that can be pinned.
        """
        from cuda.core import Device, LegacyPinnedMemoryResource

        self.capacity, self._stream = capacity, stream
        mib = capacity / 2**20
        with translated(f"{mib:.1f} MiB of GPU memory cannot be allocated"):
            self._device = Device(index).allocate(capacity, stream=stream.core)
        try:
            with translated(f"{mib:.1f} MiB of host memory cannot be pinned"):
                self._host = LegacyPinnedMemoryResource().allocate(capacity)
        except BaseException:
            self._device.close(stream.core)
            raise
        self.address = int(self._device.handle)
        self._host_address = int(self._host.handle)

    def host(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The front of the host side as an array: a view, valid until `close`."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        assert size <= self.capacity
        raw = (ctypes.c_ubyte * size).from_address(self._host_address)
        array: npt.NDArray[Any] = np.frombuffer(memoryview(raw), dtype=dtype).reshape(shape)
        return array

    def upload(self, size: int) -> None:
        """Queue a copy of the first `size` bytes, host to GPU."""
        api = driver()
        result = api.cuMemcpyHtoDAsync(self.address, self._host_address, size, self._stream.handle)
        check(result, "a copy to the GPU failed")

    def download(self, size: int) -> None:
        """Queue a copy of the first `size` bytes, GPU to host."""
        api = driver()
        result = api.cuMemcpyDtoHAsync(self._host_address, self.address, size, self._stream.handle)
        check(result, "a copy from the GPU failed")

    def close(self) -> None:
        """Free both sides, once nothing in the stream uses them any more."""
        with translated("memory cannot be freed"):
            self._device.close(self._stream.core)
            self._host.close()
