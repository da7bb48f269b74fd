"""Which sources are read by other processes, and these processes."""

from __future__ import annotations

import logging
import math
import os
import pickle
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from yolotrt.sources.base import Source
from yolotrt.sources.processes.wanted import Wanted

if TYPE_CHECKING:
    from yolotrt.sources.nvdec import Nvdec
    from yolotrt.sources.processes.process import Process
    from yolotrt.sources.processes.remote import Line

_logger = logging.getLogger(__name__)

_FILES = 2  # that a process reads: a session of NVDEC takes a fifth to a third of Python's lock
_CAMERAS = 34
_BESIDE = 16  # cameras that a process reads which also runs the model
_END_S = 0.5  # for all of them together to end by themselves: a run ends within 2 s, and its readers had their time
_KILL_S = 5.0  # for those that are killed; the driver frees what they had on the GPU
_MOST = 6  # processes by themselves: each has a CUDA context, and the GPU turns from one to the next


def processes_for(files: int, cameras: int, cores: int) -> int:
    """How many processes decode so many video files and live streams; 0 leaves all to this one.

    Each costs a second at the start and memory, so one stream more than this process decodes at its full speed is the
    least that they pay for.
    """
    if files / _FILES + cameras / _BESIDE <= 1:
        return 0
    return min(math.ceil(files / _FILES + cameras / _CAMERAS), max(cores // 2, 1), _MOST)


class Spread:
    """Processes that decode, until `close`.

    Attributes:
        lines: for each source the connection that it is read by, None for those that this process reads.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        """Start as many processes as these sources are worth, or as `Decoders.processes` says."""
        self.lines: list[Line | None] = [None] * len(wanted)
        self._processes: list[Process] = []
        by = {n: nvdec for n, each in enumerate(wanted) if (nvdec := _nvdec_of(each.source)) is not None}
        places, count = list(by), _count([wanted[n].source for n in by])
        try:
            for first in range(count):
                self._start(wanted, places[first::count], by[places[first]])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the processes, also those that hang. Pictures that somebody holds stay."""
        for process in self._processes:
            process.end()
        until = time.monotonic() + _END_S
        for process in [each for each in self._processes if not each.has_ended(until)]:
            process.kill()
        until = time.monotonic() + _KILL_S
        for process in self._processes:
            process.close(until)
        self._processes = []

    def _start(self, wanted: Sequence[Wanted], places: Sequence[int], nvdec: Nvdec) -> None:
        from yolotrt.sources.processes.process import Process

        try:
            process = Process([wanted[n] for n in places], nvdec)
        # No more processes or files, or a source that only this process knows: slower, not wrong.
        except (OSError, pickle.PicklingError, AttributeError, TypeError) as e:
            _logger.warning("this process decodes, since another one cannot be started: %s", str(e))
            return
        self._processes.append(process)
        for n, line in zip(places, process.lines, strict=True):
            self.lines[n] = line


def _nvdec_of(source: Source) -> Nvdec | None:
    """What decodes a source, if another process can read it."""
    from yolotrt.sources.decoder_choice import OnNvdec

    by = source.decoders.nvdec
    # A program that was made into one file is its own interpreter, and would begin again.
    is_packed = getattr(sys, "frozen", False) or not sys.executable
    if is_packed or not isinstance(by, OnNvdec) or source.recipe is None:
        return None
    return by.nvdec if by.nvdec.machine.can_share else None


def _count(sources: Sequence[Source]) -> int:
    if not sources:
        return 0
    asked = sources[0].decoders.processes
    if asked is not None:
        return min(asked, len(sources))
    cameras = sum(source.info.live for source in sources)
    return processes_for(len(sources) - cameras, cameras, _cores())


def _cores() -> int:
    """Of the CPU, that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
