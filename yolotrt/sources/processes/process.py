"""One process that decodes, with its sources."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from yolotrt.errors import CudaError
from yolotrt.sources.device_images import Downloads
from yolotrt.sources.nvdec import Nvdec
from yolotrt.sources.processes.messages import LIVE_WINDOW, WINDOW, Begin, SetUp
from yolotrt.sources.processes.remote import Line
from yolotrt.sources.processes.slots import Slots
from yolotrt.sources.processes.wanted import Wanted

_SLOTS = 1024
_PATIENCE_S = 2.0
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
        self._told, self._downloads = told, Downloads(nvdec.machine)
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

    def end(self) -> None:
        """Tell it to end."""
        self._told.close()

    def close(self) -> None:
        """Wait for its end, and free what nobody holds."""
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for line in self.lines:
            line.close()
        self._said.close()
        with contextlib.suppress(CudaError):
            self._downloads.close()

    def _fate(self) -> str:
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return "it answers no more"
        fate = _signal(-code) if code < 0 else f"exit code {code}"
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            self._said.seek(0)
            said = self._said.read().decode("utf-8", "replace").strip().splitlines()
            return f"{fate}: {said[-1][:200]}" if said else fate
        return fate


@contextlib.contextmanager
def _shared_memory(size: int) -> Iterator[int]:
    """Memory that another process may see, as the descriptor of a file. On no disk, which may be slow or full."""
    # A Python that was built for an old Linux does not know these.
    has_memory = hasattr(os, "memfd_create")
    with os.fdopen(os.memfd_create("yolotrt-slots"), "w+b") if has_memory else tempfile.TemporaryFile() as file:
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
