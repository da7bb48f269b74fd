"""One run: a reader thread per stream, the detector in the calling thread, a writer thread per stream.

Reading and decoding, the model, and drawing and encoding overlap. Memory does not grow with the length of a video, and
no stream waits for another one's camera or disk.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from yolotrt.errors import SinkError, SourceError
from yolotrt.model_spec import ModelSpec
from yolotrt.options import DetectOptions
from yolotrt.pipeline.batcher import Batcher, Gate, Inlet, Taken
from yolotrt.pipeline.prefetch import ahead_of
from yolotrt.pipeline.reader import Reading, StreamReader
from yolotrt.pipeline.statistics import RunStatistics
from yolotrt.pipeline.stream import Stream
from yolotrt.pipeline.stream_state import OnState, StreamRecord, StreamState, StreamStatus
from yolotrt.pipeline.writer import Delivery, Writer
from yolotrt.sinks.base import Sink
from yolotrt.sources.base import Source
from yolotrt.types import Frame, FrameResult


class FrameDetector(Protocol):
    """What a run needs of a `Detector`."""

    @property
    def spec(self) -> ModelSpec: ...

    def get_ready(self, options: Sequence[DetectOptions] = ()) -> None: ...

    def detect_batches(
        self, batches: Iterable[Sequence[Frame]], *, ahead: int = 1, cancel: Callable[[], None] | None = None
    ) -> Generator[FrameResult]: ...


class Pipeline:
    """Runs a detector over streams, once.

    Args:
        detector: stays open.
        streams: a single source, or streams with their own options and sinks. Sources stay open; what they tell
            (`on_problem`, `watcher`) is taken over.
        sinks: get the results of all streams, in the order in which they were detected. Like those of the streams,
            they are closed at the end of the run, whichever way it ends.
        on_result: called in the calling thread after each frame.
        on_problem: called in a reader thread with each damage that did not stop the run.
        on_state: called with each change of a stream's state and each new error, in the thread that notices it.

    Attributes:
        statistics: filled while it runs; also there after an interrupt.
    """

    def __init__(
        self,
        detector: FrameDetector,
        streams: Source | Sequence[Stream],
        sinks: Sequence[Sink] = (),
        *,
        on_result: Callable[[FrameResult], None] | None = None,
        on_problem: Callable[[SourceError], None] | None = None,
        on_state: OnState | None = None,
    ) -> None:
        self.statistics = RunStatistics()
        self._detector = detector
        self._on_result, self._on_problem = on_result, on_problem
        self._lines = [_Line.of(s, on_state) for s in ([Stream(streams)] if isinstance(streams, Source) else streams)]
        self._line_of = {line.inlet: line for line in self._lines}
        batch = detector.spec.batch.opt
        self._batcher = Batcher([line.inlet for line in self._lines], batch)
        self._readers = [line.reader(self._batcher) for line in self._lines]
        self._reading = Reading(self._readers, self._batcher)
        self._writers: list[Writer] = []
        alone = len(self._lines) == 1  # then one writer keeps all outputs at the same frame
        for line in self._lines:
            line.stream.source.on_problem = partial(self._problem, line)
            own = (*line.stream.sinks, *sinks) if alone else line.stream.sinks
            self._connect([line], own, ahead_of(batch), partial(self._stream_failed, line))
        self._connect(self._lines, () if alone else sinks, ahead_of(batch), self._run_failed)
        self._running: deque[Taken] = deque()
        self._fatal: BaseException | None = None
        self._is_ready = self._interrupted = False

    def status(self) -> tuple[StreamStatus, ...]:
        """Where each stream stands; from any thread, also before and after the run."""
        return tuple(line.record.snapshot() for line in self._lines)

    def stop(self) -> None:
        """End the run as if all its streams had ended; from any thread."""
        self._batcher.cancel()

    def interrupt(self) -> None:
        """End the run as KeyboardInterrupt does, which `run` then raises; from any thread.

        Better than to raise it: where it comes just as a lock was taken, the lock stays taken.
        """
        self._interrupted = True
        self._batcher.cancel()
        for writer in self._writers:
            writer.cancel()

    def get_ready(self) -> None:
        """Prepare the model for cameras, which do not wait for it. `run` does so itself, but cannot be interrupted.

        Raises BackendError: the model failed.
        """
        if self._has_live() and not self._is_ready:
            own = [line.stream.options.detect for line in self._lines]
            self._detector.get_ready([options for options in own if options is not None])
            self._is_ready = True

    def run(self) -> RunStatistics:
        """Run until all streams have ended.

        Where it ends early, what was detected until then is written. On an interrupt (KeyboardInterrupt) only what
        is already written is finished, so that it ends soon; outputs are whole in every case. Of several streams, one
        whose source or sink fails ends by itself: `statistics.problems` says so.

        Raises:
            SourceError: the only stream has nothing to go on with.
            BackendError: the model failed.
            SinkError: an output of all streams, or of the only one, cannot be written.
        """
        started = time.perf_counter()
        failed = False
        for writer in self._writers:
            writer.start()
        try:
            self.get_ready()
            with self._reading:
                self._detect()
        except BaseException as e:
            failed = isinstance(e, Exception)
            self.statistics.interrupted = not failed
            if not failed:
                for writer in self._writers:
                    writer.cancel()
            raise
        finally:
            for writer in self._writers:
                writer.finish()
            self._join()
            for line in self._lines:
                line.record.settle(failed=failed)
            self.statistics.seconds["write"] = sum(writer.seconds for writer in self._writers)
            self.statistics.wall_s = time.perf_counter() - started
        if self._interrupted:
            self.statistics.interrupted = True
            self.statistics.problems += self._reading.problems()
            raise KeyboardInterrupt
        self._raise_errors()
        return self.statistics

    def _detect(self) -> None:
        ahead = 0 if self._has_live() else 1
        running = self._detector.detect_batches(self._batches(), ahead=ahead, cancel=self._batcher.cancel)
        with contextlib.closing(running) as results:
            for result in results:
                self._deliver(result)

    def _has_live(self) -> bool:
        return any(line.stream.source.info.live for line in self._lines)

    def _batches(self) -> Iterator[list[Frame]]:
        while taken := self._batcher.take():
            self._running.extend(taken)
            yield [self._line_of[item.inlet].stream.prepared(item.frame) for item in taken]

    def _deliver(self, found: FrameResult) -> None:
        taken = self._running.popleft()  # results come in the order of the frames
        line = self._line_of[taken.inlet]
        result = line.stream.finished(found, taken.frame)
        self.statistics.add(result)
        delivery = Delivery(result, line.record, len(line.writers))
        for writer in line.writers:
            writer.put(delivery)
        if self._on_result is not None:
            self._on_result(result)

    def _connect(
        self, lines: Sequence[_Line], sinks: Sequence[Sink], limit: int, on_error: Callable[[BaseException], None]
    ) -> None:
        """Let sinks get the results of these lines."""
        if not sinks:
            return
        gate = Gate(limit)
        writer = Writer(sinks, self._batcher, gate, on_error=on_error)
        self._writers.append(writer)
        for line in lines:
            line.writers.append(writer)
            line.inlet.gates = (*line.inlet.gates, gate)

    def _join(self) -> None:
        """Wait for the writers; an interrupt meanwhile makes them hurry."""
        try:
            for writer in self._writers:
                writer.join()
        except BaseException:
            self.statistics.interrupted = True
            for writer in self._writers:
                writer.cancel()
            for writer in self._writers:
                writer.join()
            raise

    def _stream_failed(self, line: _Line, error: BaseException) -> None:
        """The outputs of one stream cannot be written: the others go on, if there are any."""
        if len(self._lines) == 1 or not isinstance(error, SinkError):
            self._run_failed(error)
            return
        self.statistics.problems.append(str(error))
        line.record.become(StreamState.ENDED, str(error))
        self._batcher.close(line.inlet)
        self._readers[self._lines.index(line)].stop()

    def _run_failed(self, error: BaseException) -> None:
        self._fatal = self._fatal or error
        self._batcher.cancel()

    def _raise_errors(self) -> None:
        if self._fatal is not None:
            raise self._fatal
        self._reading.raise_error()
        self.statistics.problems += self._reading.problems()

    def _problem(self, line: _Line, error: SourceError) -> None:
        self.statistics.problems.append(str(error))
        if self._on_problem is not None:
            self._on_problem(error)
        self._batcher.raise_if_over(line.inlet)  # a folder of pictures that cannot be read is long, too


@dataclass(frozen=True, kw_only=True, eq=False)
class _Line:
    """A stream with what belongs to it in one run."""

    stream: Stream
    record: StreamRecord
    inlet: Inlet
    writers: list[Writer] = field(default_factory=list)

    @classmethod
    def of(cls, stream: Stream, on_state: OnState | None) -> _Line:
        source = stream.source
        record = StreamRecord(stream.name, stall_s=source.stall_s, on_change=on_state)
        inlet = Inlet(record, live=source.info.live, max_latency_s=source.max_latency_s)
        return cls(stream=stream, record=record, inlet=inlet)

    def reader(self, batcher: Batcher) -> StreamReader:
        options = self.stream.options
        return StreamReader(self.stream.source, self.inlet, batcher, stride=options.stride, fps=options.fps)
