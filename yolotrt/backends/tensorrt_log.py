"""TensorRT's messages: forwarded to `logging` (`yolotrt.tensorrt`) and kept for the errors that explain them.

TensorRT takes one logger per process and library: it ignores any later one. So there is one per flavour, made once,
and `capture` collects what it hears meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from yolotrt.backends.flavours import Flavour
from yolotrt.backends.tensorrt_api import EnumMember, ILogger

log = logging.getLogger("yolotrt.tensorrt")
# Without a handler of the program, Python would print each warning on standard error beside our own error.
log.addHandler(logging.NullHandler())

_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,
    "VERBOSE": logging.NOTSET,
}
# CUDA's codes for a driver older than the library: 35 (runtime API) and 222 (driver API, code it does not know).
_DRIVER_TOO_OLD = ("cudaError 35", "CUDA driver version is insufficient", "CUDA error 222")
# Complaints about itself that say nothing of the plan.
_NOISE = ("Thread context has not been set", "catchCudaError")


@dataclass(frozen=True, eq=False)
class Messages:
    """What TensorRT said during one `capture`, oldest first."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def summary(self, *, otherwise: str = "TensorRT gives no reason") -> str:
        """The errors as one line, each once."""
        telling = dict.fromkeys(
            error.rstrip(". ") for error in self.errors if not any(noise in error for noise in _NOISE)
        )
        return "; ".join(telling) or otherwise

    def mention(self, text: str) -> bool:
        """Whether an error holds `text`."""
        return any(text in error for error in self.errors)

    @property
    def driver_too_old(self) -> bool:
        """Whether an error says that the NVIDIA driver is older than the library needs."""
        return any(self.mention(phrase) for phrase in _DRIVER_TOO_OLD)


@contextlib.contextmanager
def capture(flavour: Flavour) -> Iterator[tuple[ILogger, Messages]]:
    """Yield the logger to give to TensorRT, and the messages that arrive until the block ends.

    A message of another thread is taken too unless that thread captures for itself: TensorRT builds with threads of
    its own.
    """
    entry = (threading.get_ident(), Messages())
    with _lock:
        _captures.append(entry)
    try:
        yield _logger(flavour), entry[1]
    finally:
        with _lock:
            _captures.remove(entry)


_lock = threading.RLock()  # what the garbage collector frees inside may have something to say
_captures: list[tuple[int, Messages]] = []


def _receive(severity: str, text: str) -> None:
    level = _LEVELS.get(severity, logging.WARNING)
    if level == logging.NOTSET:
        return
    text = " ".join(text.split())
    log.log(level, "%s", text)
    if level < logging.WARNING:
        return
    with _lock:
        own = [messages for thread, messages in _captures if thread == threading.get_ident()]
        for messages in own[-1:] or [messages for _, messages in _captures]:
            (messages.errors if level == logging.ERROR else messages.warnings).append(text)


def _logger(flavour: Flavour) -> ILogger:
    # Imported here, not in the cached function, so that a broken installation is not remembered as a logger.
    _ = flavour.module
    return _make_logger(flavour)


@functools.cache
def _make_logger(flavour: Flavour) -> ILogger:
    base = flavour.module.ILogger

    class Logger(base):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: EnumMember, msg: str) -> None:
            # An exception must not cross into C++; there is nothing here that raises one.
            _receive(severity.name, msg)

    made: ILogger = Logger()
    return made
