"""Kernels that `libcuda.c` is told to launch, run as host code."""

from __future__ import annotations

import ctypes
import sys
import traceback
from typing import Any

NAME = "libcuda.so.1"
LARGEST = 320  # bytes of a kernel's arguments

_Launcher = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(ctypes.c_uint), ctypes.c_void_p
)
failed: list[BaseException] = []
"""What kernels raised: nothing passes through C."""


def _launch(kernel: bytes, grid: Any, block: Any, arguments: int) -> None:
    try:
        import numpy as np

        from tests.support.cuda_host.build import run
        from yolotrt.decode.detect_cuda import CANDIDATES, NMS
        from yolotrt.preprocess.letterbox_cuda import SOURCE as LETTERBOX

        name = kernel.decode()
        source = next(s for s in (LETTERBOX, CANDIDATES, NMS) if f"KERNEL({name}," in s.texts[s.path.name])
        held = np.frombuffer(ctypes.string_at(arguments, LARGEST), np.uint8)
        run(source, name, tuple(grid[:3]), tuple(block[:3]), held)
    except BaseException as e:  # noqa: BLE001 - see `failed`
        failed.append(e)
        traceback.print_exc(file=sys.stderr)


_launcher = _Launcher(_launch)


def take() -> None:
    """Let the driver launch its kernels here."""
    ctypes.CDLL(NAME).host_set_launcher(_launcher)
