"""Kernels to machine code with NVRTC. Needs no GPU and no CUDA toolkit, only the package `nvidia-cuda-nvrtc`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolotrt import files
from yolotrt.cache import cache_folder, keep_newest
from yolotrt.cuda.driver import translated
from yolotrt.cuda.kernel_source import KernelSource
from yolotrt.errors import CudaError, MissingExtraError, SinkError

# Products are not fused into sums: the kernels give the bits that NumPy gives on the CPU.
OPTIONS = ("--std=c++17", "--fmad=false")
_KEPT = 64  # files in the cache: some kernels for some GPUs and versions
_DIGEST = 32  # bytes of SHA-256 before the code in a cached file


@dataclass(frozen=True)
class Architecture:
    """A target of the compiler.

    Attributes:
        name: `sm_90` for code that runs on that GPU, `compute_120` for code that the driver compiles further.
    """

    name: str

    @property
    def is_binary(self) -> bool:
        return self.name.startswith("sm_")

    @classmethod
    def of(cls, compute_capability: str) -> Architecture:
        """The best that the installed compiler has for a GPU, such as `8.9`.

        Raises:
            MissingExtraError: the compiler is not installed.
            CudaError: the GPU is older than all that it knows.
        """
        own = _number(compute_capability)
        known = _known()
        # Code for one generation runs on its later members too.
        fitting = [number for number in known if number // 10 == own // 10 and number <= own]
        if fitting:
            return cls(f"sm_{fitting[-1]}")
        older = [number for number in known if number <= own]
        if older:
            return cls(f"compute_{older[-1]}")
        raise CudaError(
            "the GPU is older than the CUDA compiler supports",
            got=f"compute capability {compute_capability}",
            expected=f"at least {known[0] // 10}.{known[0] % 10}",
            remedy="Use --device cpu.",
        )


def compiled(source: KernelSource, compute_capability: str, *, again: bool = False) -> bytes:
    """The code of a kernel source: from the user's cache, or compiled and put there.

    The cache goes by the content of the source, and what it holds needs no compiler. A damaged file is made again, and
    so is every file if `again`; a folder that cannot be written costs a compilation each time and nothing else.

    Args:
        source: what to compile.
        compute_capability: of the GPU, such as `8.9`.
        again: compile, whatever the cache holds.

    Raises:
        MissingExtraError: the compiler is not installed.
        CudaError: the source does not compile (the compiler's log is in the message), or not for this GPU.
    """
    path = cached_path(source, compute_capability)
    if not again and (code := _read(path)) is not None:
        keep_newest(path, _KEPT)
        return code
    code = compile_source(source, Architecture.of(compute_capability))
    with contextlib.suppress(SinkError):
        files.write_bytes(path, hashlib.sha256(code).digest() + code)
        keep_newest(path, _KEPT)
    return code


def compiler_version() -> tuple[int, int]:
    """Of NVRTC, such as (13, 0). Raises MissingExtraError where it is not installed."""
    major, minor = _call(_nvrtc().nvrtcVersion(), "the CUDA compiler")
    return major, minor


def cached_path(source: KernelSource, compute_capability: str) -> Path:
    """Where the code of a source for a GPU is kept."""
    key = hashlib.sha256("\0".join((source.digest, compute_capability, *OPTIONS)).encode()).hexdigest()
    return cache_folder() / "kernels" / f"{source.path.stem}-{compute_capability}-{key[:32]}"


def compile_source(source: KernelSource, architecture: Architecture) -> bytes:
    """Compile, without the cache. Raises as `compiled` does."""
    nvrtc = _nvrtc()
    (name, text), *headers = source.texts.items()
    texts, names = [text.encode() for _, text in headers], [name.encode() for name, _ in headers]
    program = _call(nvrtc.nvrtcCreateProgram(text.encode(), name.encode(), len(headers), texts, names), name)
    try:
        options = [option.encode() for option in (f"--gpu-architecture={architecture.name}", *OPTIONS)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if int(status) != 0:
            raise CudaError(f"{name} does not compile for {architecture.name}: {_log(nvrtc, program)}")
        if architecture.is_binary:
            return _output(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program, name)
        return _output(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program, name)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


@functools.cache
def _nvrtc() -> Any:
    """The compiler, loaded. Raises MissingExtraError."""
    try:
        from cuda.bindings import nvrtc
    except ImportError as e:
        raise MissingExtraError("cuda-bindings", "gpu", needed_for="Compiling kernels for the GPU") from e
    try:
        with translated("the CUDA compiler cannot be loaded"):
            _call(nvrtc.nvrtcVersion(), "the CUDA compiler")
    except CudaError as e:
        if type(e.__cause__).__name__ == "DynamicLibNotFoundError":
            raise MissingExtraError("nvidia-cuda-nvrtc", "gpu", needed_for="Compiling kernels for the GPU") from e
        raise
    return nvrtc


@functools.cache
def _known() -> list[int]:
    """Compute capabilities that the compiler has, ten times each, rising."""
    return sorted(_call(_nvrtc().nvrtcGetSupportedArchs(), "the CUDA compiler"))


def _number(compute_capability: str) -> int:
    found = re.fullmatch(r"(\d+)\.(\d)", compute_capability)
    assert found is not None, compute_capability
    return 10 * int(found[1]) + int(found[2])


def _read(path: Path) -> bytes | None:
    """The code in a cached file; None where there is none or it is not whole."""
    try:
        held = path.read_bytes()
    except OSError:
        return None
    code = held[_DIGEST:]
    return code if code and hashlib.sha256(code).digest() == held[:_DIGEST] else None


def _output(size: Any, get: Any, program: Any, name: str) -> bytes:
    code: bytes = b" " * _call(size(program), name)
    _call(get(program, code), name)
    return code


def _log(nvrtc: Any, program: Any) -> str:
    return _output(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program, "the log").rstrip(b"\0").decode()


def _call(result: tuple[Any, ...], what: str) -> Any:
    """The value of a call of NVRTC."""
    status, *values = result
    if int(status) != 0:
        raise CudaError(f"{what}: {status.name}")
    return values[0] if len(values) == 1 else tuple(values)
