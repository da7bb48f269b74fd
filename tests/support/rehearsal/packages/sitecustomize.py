"""Python runs this at its start: kernels that the driver of the host is told to launch run as host code."""

import contextlib
import ctypes
import sys
from pathlib import Path


def _rehearse() -> None:
    sys.path.append(str(Path(__file__).resolve().parents[4]))
    from tests.support.cuda_host import launches

    launches.take()


with contextlib.suppress(OSError):  # another process, with another driver or none
    ctypes.CDLL("libcuda.so.1").host_set_launcher  # noqa: B018 - looked up to see whose driver it is
    _rehearse()
