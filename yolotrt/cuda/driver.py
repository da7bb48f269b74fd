"""The CUDA driver API, with its failures as `CudaError`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from yolotrt.errors import CudaError, MissingExtraError, YolotrtError

_NO_DRIVER = "Install the NVIDIA driver, or run the ONNX file with --device cpu."
_DRIVER_TOO_OLD = "Update the NVIDIA driver, or run the ONNX file with --device cpu."
# What a CUDA error means to somebody who did not write the program, by the name of its code.
_MEANINGS = {
    "CUDA_ERROR_NO_DEVICE": (
        "no usable NVIDIA GPU was found",
        "Check nvidia-smi and CUDA_VISIBLE_DEVICES, or run the ONNX file with --device cpu.",
    ),
    "CUDA_ERROR_INVALID_DEVICE": ("there is no such GPU", "yolotrt doctor lists the GPUs."),
    "CUDA_ERROR_OUT_OF_MEMORY": (
        "out of GPU memory",
        "Use a smaller batch or input size, or free the GPU: nvidia-smi shows what runs on it.",
    ),
    "CUDA_ERROR_STUB_LIBRARY": ("the CUDA driver found is only a stub", _NO_DRIVER),
    "CUDA_ERROR_INSUFFICIENT_DRIVER": ("the NVIDIA driver is too old", _DRIVER_TOO_OLD),
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": (
        "the NVIDIA driver's kernel module and its library are of different versions",
        "Restart the machine after a driver update.",
    ),
    **dict.fromkeys(
        (
            "CUDA_ERROR_ILLEGAL_ADDRESS",
            "CUDA_ERROR_LAUNCH_FAILED",
            "CUDA_ERROR_LAUNCH_TIMEOUT",
            "CUDA_ERROR_CONTEXT_IS_DESTROYED",
            "CUDA_ERROR_ECC_UNCORRECTABLE",
            "CUDA_ERROR_HARDWARE_STACK_ERROR",
            "CUDA_ERROR_MISALIGNED_ADDRESS",
        ),
        (
            "the GPU stopped in the middle of its work and is lost to this process",
            "Start the program again; if it happens again, nvidia-smi and the system's log (Xid) say what the GPU has.",
        ),
    ),
    "CUDA_ERROR_DEVICE_UNAVAILABLE": (
        "the GPU is busy or in exclusive use by another process",
        "nvidia-smi shows what runs on it.",
    ),
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": ("the NVIDIA driver is too old for this code", _DRIVER_TOO_OLD),
    "CUDA_ERROR_NO_BINARY_FOR_GPU": ("there is no code for this GPU", "Export the model again for this GPU."),
}


@functools.cache
def driver() -> Any:
    """The initialized driver API (`cuda.bindings.driver`).

    Raises:
        MissingExtraError: its packages are not installed.
        CudaError: there is no driver, or it cannot start.
    """
    try:
        from cuda.bindings import driver as api
    except ImportError as e:
        raise MissingExtraError("cuda-bindings", "gpu", needed_for="Running on a GPU") from e
    # Looked for and not imported, which takes a sixth of a second and is not always needed: half an installation fails
    # here all the same, not midway.
    if find_spec("cuda.core") is None:
        raise MissingExtraError("cuda-core", "gpu", needed_for="Running on a GPU")
    with translated("CUDA cannot start"):
        check(api.cuInit(0), "CUDA cannot start")
    return api


def check(result: tuple[Any, ...], what: str) -> Any:
    """The value of a driver call. Raises CudaError, saying `what` was tried, for any code but success."""
    code, *values = result
    if int(code) != 0:
        raise _error(code.name, what)
    return values[0] if len(values) == 1 else tuple(values)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what `cuda.core` and `cuda.bindings` raise in the block into CudaError, saying `what` was tried."""
    try:
        yield
    except YolotrtError:
        raise
    except Exception as e:
        # cuda.bindings looks functions up in libcuda one by one: an old driver lacks some.
        if isinstance(e, RuntimeError) and str(e).startswith("Function ") and "not found" in str(e):
            raise _error("CUDA_ERROR_INSUFFICIENT_DRIVER", what) from e
        if not type(e).__module__.startswith("cuda."):
            raise
        # cuda.core puts the code's name first ("CUDA_ERROR_OUT_OF_MEMORY: ..."); the loader of libcuda has no code.
        if type(e).__name__ == "DynamicLibNotFoundError":
            raise CudaError(f"{what}: no NVIDIA driver was found", remedy=_NO_DRIVER) from e
        name = next((name for name in _MEANINGS if name in str(e)), None)
        raise (_error(name, what) if name else CudaError(f"{what}: {e}")) from e


def driver_version() -> tuple[int, int]:
    """The newest CUDA version that the driver runs, such as (13, 0). Raises as `driver` does."""
    api = driver()
    version = check(api.cuDriverGetVersion(), "the driver's version cannot be read")
    return version // 1000, version % 1000 // 10


def _error(name: str, what: str) -> CudaError:
    meaning, remedy = _MEANINGS.get(name, (name, None))
    # A lost GPU has many causes, and their names are what is searched for.
    cause = f" ({name})" if "is lost" in meaning else ""
    return CudaError(f"{what}: {meaning}{cause}", remedy=remedy)
