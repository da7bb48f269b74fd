"""One run: a reader thread, the detector in the calling thread, a writer thread, bounded queues between them.

Reading and decoding, the model, and drawing and encoding overlap. Memory does not grow with the length of a video.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Protocol

from yolotrt.errors import SourceError
from yolotrt.model_spec import ModelSpec
from yolotrt.pipeline.channel import CancelledError, Channel
from yolotrt.pipeline.prefetch import ahead_of, feed
from yolotrt.pipeline.statistics import RunStatistics
from yolotrt.sinks.base import Sink
from yolotrt.sources.base import Source
from yolotrt.types import Frame, FrameResult


class FrameDetector(Protocol):
    """What a run needs of a `Detector`."""

    @property
    def spec(self) -> ModelSpec: ...

    def detect_batches(self, batches: Iterable[Sequence[Frame]]) -> Generator[FrameResult]: ...


class Pipeline:
    """Runs a detector over a source, once.

    Args:
        detector: stays open.
        source: stays open; its `on_problem` is taken over.
        sinks: get every result in order, and are closed at the end of the run, whichever way it ends.
        on_result: called in the calling thread after each frame.
        on_problem: called in the reader thread with each damage that did not stop the run.

    Attributes:
        statistics: filled while it runs; also there after an interrupt.
    """

    def __init__(
        self,
        detector: FrameDetector,
        source: Source,
        sinks: Sequence[Sink] = (),
        *,
        on_result: Callable[[FrameResult], None] | None = None,
        on_problem: Callable[[SourceError], None] | None = None,
    ) -> None:
        self._detector, self._source, self._sinks = detector, source, tuple(sinks)
        self._on_result, self._on_problem = on_result, on_problem
        self.statistics = RunStatistics()
        batch = detector.spec.batch.opt
        self._batch = batch
        self._frames: Channel[Frame] = Channel(ahead_of(batch))
        self._results: Channel[FrameResult] = Channel(ahead_of(batch))
        self._writer_error: BaseException | None = None

    def run(self) -> RunStatistics:
        """Run to the end of the source.

        Where it ends early, what was detected until then is written. On an interrupt (KeyboardInterrupt) only what
        is already written is finished, so that it ends soon; outputs are whole in every case.

        Raises:
            SourceError: there is nothing to go on with.
            BackendError: the model failed.
            SinkError: an output cannot be written.
        """
        threads = [
            threading.Thread(target=feed, args=(self._frames, self._source), name="yolotrt-reader", daemon=True),
            threading.Thread(target=self._write, name="yolotrt-writer", daemon=True),
        ]
        self._source.on_problem = self._problem
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        try:
            self._detect()
        except BaseException as e:
            self.statistics.interrupted = not isinstance(e, Exception)
            self._frames.cancel()
            if self.statistics.interrupted:
                self._results.cancel()
            raise
        finally:
            self._join(threads)
            self.statistics.wall_s = time.perf_counter() - started
        if self._writer_error is not None:
            raise self._writer_error
        return self.statistics

    def _detect(self) -> None:
        try:
            batches = iter(partial(self._frames.take, self._batch), [])
            with contextlib.closing(self._detector.detect_batches(batches)) as results:
                for result in results:
                    self.statistics.add(result)
                    self._results.put(result)
                    if self._on_result is not None:
                        self._on_result(result)
        finally:
            self._results.finish()

    def _join(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for the threads; an interrupt meanwhile makes them hurry."""
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            self.statistics.interrupted = True
            self._frames.cancel()
            self._results.cancel()
            for thread in threads:
                thread.join()
            raise

    def _write(self) -> None:
        try:
            while taken := self._results.take():
                began = time.perf_counter()
                for sink in self._sinks:
                    sink.write(taken[0])
                self.statistics.seconds["write"] += time.perf_counter() - began
            for sink in self._sinks:
                sink.close()
        except CancelledError:
            self._abort()
        except BaseException as e:  # noqa: BLE001
            self._writer_error = e
            self._results.cancel(e)
            self._abort()

    def _abort(self) -> None:
        for sink in self._sinks:
            # The first error is the one that is reported.
            with contextlib.suppress(Exception):
                sink.abort()

    def _problem(self, error: SourceError) -> None:
        self.statistics.problems.append(str(error))
        if self._on_problem is not None:
            self._on_problem(error)
