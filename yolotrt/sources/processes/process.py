"""One process that decodes, with its sources."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from yolotrt.errors import CudaError
from yolotrt.sources.device_images import Downloads
from yolotrt.sources.nvdec import Nvdec
from yolotrt.sources.processes.messages import LIVE_WINDOW, WINDOW, Begin, SetUp, Stop
from yolotrt.sources.processes.remote import Line
from yolotrt.sources.processes.slots import Slots
from yolotrt.sources.processes.wanted import Wanted

_logger = logging.getLogger(__name__)

_SLOTS = 1024
_PATIENCE_S = 2.0
# Seconds without a sign of life: twice what a camera may be silent for, unless it is said otherwise. A process that is
# ended for nothing costs more than the wait: this one would have to decode all that it did.
_SILENT = 10
_STARTING = 60  # the same up to the first one: Python, CUDA and their libraries may come from a slow disk
# Without the current folder, where a file may have the name of a module.
_PROGRAM = """
import sys
sys.path[:] = filter(None, sys.path)
from yolotrt.sources.processes.child import main
main({})
"""


class Process:
    """A process that reads sources.

    Attributes:
        lines: its connections, one per source.
    """

    def __init__(self, wanted: Sequence[Wanted], nvdec: Nvdec) -> None:
        """Start it.

        Args:
            wanted: the sources.
            nvdec: of this process: where their pictures go.
        """
        with contextlib.ExitStack() as opened:
            begins = [_begin(each, nvdec) for each in wanted]
            descriptor = opened.enter_context(_shared_memory(len(wanted) * _SLOTS))
            flags = mmap.mmap(descriptor, 0)
            said = opened.enter_context(tempfile.TemporaryFile())
            pairs = [socket.socketpair() for _ in range(len(wanted) + 1)]
            for pair in pairs:
                for end in pair:
                    opened.enter_context(end)
            control, *lines = [theirs.fileno() for _, theirs in pairs]
            # Not a fork, which CUDA does not survive; nor multiprocessing, which would run the caller's program again.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(control)],
                pass_fds=[control, *lines, descriptor],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
                start_new_session=True,  # Ctrl-C is this process's business, which then ends that one
            )
            told, *connections = [Connection(ours.detach()) for ours, _ in pairs]
            self._said = os.fdopen(os.dup(said.fileno()), "rb")
        self._told, self._downloads, self._silent_s = told, Downloads(nvdec.machine), 0
        told.send(SetUp(device=nvdec.machine.handle.index, flags=descriptor, lines=lines))
        self.lines = [
            Line(
                connection,
                begin,
                Slots(nvdec.machine, nvdec.budget, flags, range(n * _SLOTS, (n + 1) * _SLOTS)),
                self._downloads,
                self._fate,
            )
            for n, (begin, connection) in enumerate(zip(begins, connections, strict=True))
        ]
        self._watch = threading.Thread(target=self._end_if_silent, name="yolotrt-watch", daemon=True)
        self._watch.start()

    def end(self) -> None:
        """Tell it to end."""
        with contextlib.suppress(OSError):  # it has
            self._told.send(Stop())

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    def has_ended(self, until: float) -> bool:
        """Wait for its end, up to a moment of `time.monotonic()`."""
        try:
            self._process.wait(max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self, until: float) -> None:
        """Wait for its end, see `has_ended`, and free what nobody holds."""
        if not self.has_ended(until):  # a driver that does not return keeps even those that are killed
            _logger.warning("process %d, which decodes, cannot be ended; its GPU memory stays taken", self._process.pid)
            for line in self.lines:
                line.abandon()
            return
        self._watch.join()
        self._told.close()
        for line in self.lines:
            line.close()
        self._said.close()
        with contextlib.suppress(CudaError):
            self._downloads.close()

    def _end_if_silent(self) -> None:
        """Kill it where it hangs. All that wait for it then see that it is gone, whatever they wait for; unless its
        driver keeps it even then, until the end of the run.
        """
        silent, limit = 0, _STARTING
        with contextlib.suppress(EOFError, OSError):  # it has ended
            while silent < limit:
                # Waits are counted, not time: after a pause of the whole machine it need not be the first to go on.
                if self._told.poll(1.0):
                    self._told.recv()
                    silent, limit = 0, _SILENT
                else:
                    silent += 1
            self._silent_s = silent
            self.kill()

    def _fate(self) -> str:
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return "it answers no more"
        if self._silent_s:
            return f"no sign of life for {self._silent_s} s"
        fate = _signal(-code) if code < 0 else f"exit code {code}"
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            self._said.seek(0)
            said = self._said.read().decode("utf-8", "replace").strip().splitlines()
            return f"{fate}: {said[-1][:200]}" if said else fate
        return fate


@contextlib.contextmanager
def _shared_memory(size: int) -> Iterator[int]:
    """Memory that another process may see, as the descriptor of a file. On no disk, which may be slow or full."""
    try:
        opened = os.fdopen(os.memfd_create("yolotrt-slots"), "w+b")
    except (AttributeError, OSError):  # a Python for older systems, or a sandbox without them
        opened = tempfile.TemporaryFile()  # noqa: SIM115 (closed below)
    with opened as file:
        file.truncate(size)
        yield file.fileno()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # those for real-time have no names
        return f"signal {number}"


def _begin(wanted: Wanted, nvdec: Nvdec) -> Begin:
    recipe = wanted.source.recipe
    assert recipe is not None
    window = LIVE_WINDOW if wanted.source.info.live else WINDOW
    return Begin(
        recipe=pickle.dumps(recipe),
        selection=wanted.selection,
        forced=wanted.source.decoders.forced,
        limit=min(nvdec.limit + window, _SLOTS),
        window=window,
    )
