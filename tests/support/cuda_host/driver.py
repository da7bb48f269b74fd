"""A driver in the memory of the host, below the real `cuda.core` and `cuda.bindings`: see `libcuda.c`."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cuda_host import launches
from tests.support.cuda_host.launches import NAME

SOURCE = Path(__file__).with_name("libcuda.c")
HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def build(folder: Path) -> Path:
    """Make the library in a folder, for LD_LIBRARY_PATH. Skips the test on machines without gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("the driver of the host needs gcc")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", str(SOURCE), "-o", str(folder / NAME), "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


class HostDriver:
    """What a test sets and reads, in a process that was started with the library."""

    def __init__(self) -> None:
        self._library = library()
        launches.take()

    @property
    def open(self) -> int:
        """Memories, streams, events and recordings that are not freed yet."""
        return int(self._library.host_open())

    @property
    def loads(self) -> int:
        """Modules that were loaded so far."""
        return int(self._library.host_loads())

    @property
    def primary(self) -> int:
        """The context that the GPU's users share."""
        return int(self._library.host_primary_context())

    @property
    def context_flags(self) -> int:
        """How threads wait in contexts that are made from now on."""
        return int(self._library.host_context_flags())

    @property
    def foreign(self) -> int:
        """A context of somebody else."""
        return int(self._library.host_foreign_context())

    def set_version(self, version: int) -> None:
        """What CUDA version the driver runs: 12080 for 12.8."""
        self._library.host_set_version(version)


@functools.cache
def library() -> ctypes.CDLL:
    """The library that the process was started with."""
    found = ctypes.CDLL(NAME)
    for name in ("host_primary_context", "host_foreign_context"):
        getattr(found, name).restype = ctypes.c_void_p
    return found


def host_function(work: Callable[[], None]) -> Any:
    """A function that a stream can call (`cuLaunchHostFunc`); to be kept as long as it may be."""
    return HostFunction(lambda _: work())
