"""GPUs: how many there are, what they are, and work in the context of one of them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from yolotrt.cuda.driver import check, driver, translated
from yolotrt.errors import CudaError, MissingExtraError

_LONGEST_NAME = 256


@dataclass(frozen=True, kw_only=True)
class Device:
    """One GPU. Holds no CUDA object, so it may be used from any thread.

    Attributes:
        index: CUDA's number of it, as `CUDA_VISIBLE_DEVICES` orders them.
        name: `NVIDIA H200`.
        compute_capability: `9.0`.
        memory_bytes: in all.
    """

    index: int
    name: str
    compute_capability: str
    memory_bytes: int

    @classmethod
    def open(cls, index: int = 0) -> Device:
        """The GPU number `index`.

        Raises:
            MissingExtraError: the CUDA packages are not installed.
            CudaError: no driver, or no such GPU.
        """
        api = driver()
        count = check(api.cuDeviceGetCount(), "the GPUs cannot be counted")
        if not 0 <= index < count:
            raise CudaError(
                f"there is no GPU number {index}",
                got=f"{count} GPU{'' if count == 1 else 's'}",
                expected=f"--device cuda:0 to cuda:{count - 1}" if count > 1 else "--device cuda:0 or cpu",
                remedy=None
                if count
                else "Check nvidia-smi and CUDA_VISIBLE_DEVICES, or run the ONNX file with --device cpu.",
            )
        what = f"GPU {index} cannot be opened"
        with translated(what):
            gpu = check(api.cuDeviceGet(index), what)
            attribute = api.CUdevice_attribute
            major = check(api.cuDeviceGetAttribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, gpu), what)
            minor = check(api.cuDeviceGetAttribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, gpu), what)
            return cls(
                index=index,
                name=check(api.cuDeviceGetName(_LONGEST_NAME, gpu), what).split(b"\0")[0].decode("utf-8", "replace"),
                compute_capability=f"{major}.{minor}",
                memory_bytes=int(check(api.cuDeviceTotalMem(gpu), what)),
            )

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Make this GPU the calling thread's current one; whichever context was current before is put back."""
        api = driver()
        before = check(api.cuCtxGetCurrent(), "the current CUDA context cannot be read")
        check(api.cuCtxSetCurrent(_primary_context(self.index)), f"GPU {self.index} cannot be used")
        try:
            yield
        finally:
            check(api.cuCtxSetCurrent(before), "the CUDA context cannot be put back")

    def __str__(self) -> str:
        return f"cuda:{self.index} ({self.name})"


def waits_asleep(index: int) -> None:
    """Let threads that wait for a GPU sleep instead of keeping a core busy, from its next context on.

    For many that wait most of the time; a single one is woken later than it would have noticed by itself.
    """
    api = driver()
    flags = int(api.CUctx_flags.CU_CTX_SCHED_BLOCKING_SYNC)
    what = f"GPU {index} cannot be set up"
    check(api.cuDevicePrimaryCtxSetFlags(check(api.cuDeviceGet(index), what), flags), what)


@functools.cache
def _primary_context(index: int) -> Any:
    """The context that all libraries share on a GPU; kept until the process ends."""
    api, what = driver(), f"GPU {index} cannot be used"
    with translated(what):
        return check(api.cuDevicePrimaryCtxRetain(check(api.cuDeviceGet(index), what)), what)


def device_count() -> int:
    """How many GPUs can be used; 0 without a driver or without the CUDA packages."""
    try:
        return int(check(driver().cuDeviceGetCount(), "the GPUs cannot be counted"))
    except (CudaError, MissingExtraError):
        return 0
