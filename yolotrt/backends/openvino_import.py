"""Importing OpenVINO, quietly, and its core."""

from __future__ import annotations

import functools
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING

from yolotrt.errors import MissingExtraError

if TYPE_CHECKING:
    import openvino

_TELEMETRY = "openvino_telemetry"
_lock = threading.Lock()


def import_openvino(*, needed_for: str) -> ModuleType:
    """The package openvino.

    Its own import starts a process that reports the use to Google Analytics, unless its telemetry package is missing;
    then it goes on without. For this import it is: nobody who runs a detector has agreed to that, and a process forked
    while threads run is a risk of its own. A program that imported OpenVINO before keeps what it has.

    Raises:
        MissingExtraError: it is not installed.
    """
    with _lock:
        hide = "openvino" not in sys.modules and _TELEMETRY not in sys.modules
        if hide:
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's own mark for "cannot be imported"
        try:
            import openvino
        except ImportError as e:
            raise MissingExtraError("openvino", "openvino", needed_for=needed_for) from e
        finally:
            if hide:
                del sys.modules[_TELEMETRY]
        # Its table of types is made at the first use, while the interpreter's lock comes and goes: two threads that
        # are the first at the same time wait for each other for ever. Here there is only one.
        openvino.Type.f32.to_dtype()
    module: ModuleType = openvino
    return module


def openvino_core(*, needed_for: str) -> openvino.Core:
    """The one `openvino.Core` of this process.

    OpenVINO 2026.4's CPU plug-in gives the thread that first uses it a stack for signal handlers, and frees that stack
    with the core, also in another thread, where it stays in use: the next Ctrl-C is a segmentation fault. So the core
    is never let go of.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    return _core(import_openvino(needed_for=needed_for))


@functools.cache
def _core(module: ModuleType) -> openvino.Core:
    return module.Core()
