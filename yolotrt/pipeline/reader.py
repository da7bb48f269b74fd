"""The readers: a thread per stream, each with its own troubles."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from yolotrt.errors import SourceError, YolotrtError
from yolotrt.pipeline.batcher import Batcher, Inlet, Taken
from yolotrt.pipeline.channel import CancelledError
from yolotrt.pipeline.stream_state import StreamRecord, StreamState, StreamStatus
from yolotrt.sources.base import Source, Watcher
from yolotrt.sources.processes.spread import Spread
from yolotrt.sources.processes.wanted import Wanted
from yolotrt.sources.selection import Selection
from yolotrt.unique import unique

if TYPE_CHECKING:
    from typing_extensions import Self

    from yolotrt.sources.processes.remote import Line

_logger = logging.getLogger(__name__)

_PATIENCE_S = 1.0  # for a reader that is told to stop while it waits for a camera; it ends by itself at its time-out


class StreamReader(Watcher):
    """Reads one source into its inlet, in a thread of its own, and counts what it is told.

    Args:
        source: stays open; its `watcher` is taken over.
        inlet: where its frames go.
        batcher: that the inlet belongs to.
        stride: use every n-th frame of a video or a camera.
        fps: use at most so many frames per second of the source's own time.

    Attributes:
        error: what ended it early.
    """

    def __init__(
        self, source: Source, inlet: Inlet, batcher: Batcher, *, stride: int = 1, fps: float | None = None
    ) -> None:
        self.error: BaseException | None = None
        self.source, self._inlet, self._batcher = source, inlet, batcher
        self.selection = Selection(stride=stride, fps=fps)
        self._line: Line | None = None
        self._thread = threading.Thread(target=self._read, name="yolotrt-reader", daemon=True)
        source.watcher = self

    def start(self, line: Line | None = None) -> None:
        """Begin to read; by the process at the other end of a line, if there is one."""
        self._line = line
        self._thread.start()

    def stop(self) -> None:
        """Read no more; from any thread."""
        self.source.stop()
        if self._line is not None:
            self._line.stop()  # files as well, which end by themselves here

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended; one that waits for a camera or another process is left to its time-out."""
        # What comes by a network may be silent, also a recording, which is not live.
        is_bounded = self.source.stall_s is not None or self._line is not None
        self._join(timeout_s if is_bounded else None)

    def join_process(self) -> None:
        """Wait until it has ended, if it reads from a process that has."""
        if self._line is not None and self._line.is_remote:
            self._join(None)

    def _join(self, timeout_s: float | None) -> None:
        if self._thread.ident is not None:  # it was started
            self._thread.join(timeout_s)

    @property
    def problem(self) -> str | None:
        """What ended it early, for people."""
        if self.error is None:
            return None
        if isinstance(self.error, YolotrtError):
            return str(self.error)
        what = str(self.error).strip().rpartition("\n")[2]  # one of another process brings its traceback
        return f"{self.source.info.name}: cannot be read ({type(self.error).__name__}: {what})"

    def state(self, state: StreamState, error: str = "") -> None:
        self._inlet.record.become(state, error)

    def corrupt(self) -> None:
        self._inlet.record.count(corrupt=1)
        self._batcher.raise_if_over(self._inlet)  # what is damaged may go on for long

    def decoder(self, name: str, why: str) -> None:
        self._inlet.record.decodes(f"{name} ({why})" if why else name)

    def late(self) -> None:
        self._inlet.record.count(read=1, dropped=1)

    def wants(self, index: int, timestamp_s: float) -> bool:
        if self.selection.takes(index, timestamp_s):
            return True
        self.skipped(1)
        return False

    def skipped(self, count: int) -> None:
        self._inlet.record.become(StreamState.LIVE)
        self._inlet.record.count(read=count, skipped=count)
        self._batcher.raise_if_over(self._inlet)  # the next one that is wanted may be far

    def _read(self) -> None:
        try:
            with self.source.decoders.held():
                for frame in self.source if self._line is None else self._line.frames(self.source):
                    self._batcher.put(self._inlet, frame)
        except CancelledError:
            pass
        except BaseException as e:  # noqa: BLE001
            self.error = e
            if _ends_all(e):
                self._batcher.cancel()
        self._inlet.record.become(StreamState.ENDED, self.problem or "")
        self._batcher.finish(self._inlet)


class Reading:
    """Sources being read: an iterable of batches of frames, each with the stream that it came by.

    A context manager, which ends the threads.

    Args:
        readers: one per stream, not yet started.
        batcher: that they feed.
    """

    def __init__(self, readers: Sequence[StreamReader], batcher: Batcher) -> None:
        self._readers, self._batcher = tuple(readers), batcher

    @classmethod
    def of(cls, sources: Sequence[Source], batch: int) -> Self:
        """Read sources as they are, each under a name of its own; what befalls the live ones is logged."""
        taken: set[str] = set()
        inlets = [
            Inlet(
                StreamRecord(unique(source.info.name, taken), stall_s=source.stall_s, on_change=_log),
                live=source.info.live,
                max_latency_s=source.max_latency_s,
            )
            for source in sources
        ]
        batcher = Batcher(inlets, batch)
        readers = [StreamReader(s, inlet, batcher) for s, inlet in zip(sources, inlets, strict=True)]
        return cls(readers, batcher)

    def __iter__(self) -> Iterator[list[Taken]]:
        while taken := self._batcher.take():
            yield taken

    def cancel(self) -> None:
        """End the iteration, from any thread."""
        self._batcher.cancel()

    def problems(self) -> list[str]:
        """What ended streams early, a line each."""
        return [r.problem for r in self._readers if r.problem is not None and not _ends_all(r.error)]

    def raise_error(self) -> None:
        """Raise what ended the only stream early; of several, only what ends all of them."""
        for reader in self._readers:
            if reader.error is not None and (len(self._readers) == 1 or _ends_all(reader.error)):
                raise reader.error
            if reader.error is not None and not isinstance(reader.error, SourceError):
                _logger.debug("%s", reader.problem, exc_info=reader.error)

    def __enter__(self) -> Self:
        self._spread = Spread([Wanted(reader.source, reader.selection) for reader in self._readers])
        try:
            for reader, line in zip(self._readers, self._spread.lines, strict=True):
                reader.start(line)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._batcher.cancel()
        for reader in self._readers:
            reader.stop()
        until = time.monotonic() + _PATIENCE_S
        for reader in self._readers:
            reader.join(max(until - time.monotonic(), 0.0))
        self._spread.close()
        for reader in self._readers:
            reader.join_process()


def _ends_all(error: BaseException | None) -> bool:
    """Whether it is more than one source's, as a lost GPU is. An error that nobody foresaw counts as its source's."""
    if error is None or isinstance(error, SourceError):
        return False
    return isinstance(error, YolotrtError) or not isinstance(error, Exception)


def _log(status: StreamStatus, error: str) -> None:  # noqa: ARG001 (a signature that is given)
    if error:
        _logger.warning("%s", error)
