"""Compile kernels as host C++."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from yolotrt.cuda.kernel_source import KernelSource

HEADER = Path(__file__).with_name("cuda_host.h")
FLAGS = ("-x", "c++", "-std=c++17", "-O2", "-g0", "-shared", "-fPIC", "-ffp-contract=off", "-w", "-U_FORTIFY_SOURCE")


@functools.cache
def library(source: KernelSource) -> ctypes.CDLL:
    """The kernels of a source as C functions. Skips the test on machines without g++."""
    if shutil.which("g++") is None:
        pytest.skip("kernels are tested as host code, which needs g++")
    folder = Path(tempfile.mkdtemp(prefix="yolotrt-kernels-"))
    try:
        built = folder / "kernels.so"
        includes = [f"-I{parent}" for parent in dict.fromkeys(path.parent for path in source.files)]
        command = ["g++", *FLAGS, "-include", str(HEADER), *includes, str(source.path), "-o", str(built)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(built))
    finally:
        shutil.rmtree(folder)


def run(
    source: KernelSource,
    name: str,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    arguments: npt.NDArray[Any],
    *,
    order: int = 0,
) -> None:
    """Run a kernel to its end, its threads in a forward (0), backward (1) or mixed order.

    Fails where the threads of a block do not all come to the same barriers.
    """
    function = getattr(library(source), name)
    dims = ctypes.c_uint * 3
    payload = np.ascontiguousarray(arguments)
    status = function(dims(*grid), dims(*block), ctypes.c_void_p(payload.ctypes.data), order)
    assert status == 0, f"{name}: threads of one block came to different barriers"
