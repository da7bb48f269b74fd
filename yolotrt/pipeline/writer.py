"""The writers: a thread per set of sinks, so that drawing and encoding hold nobody else up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from yolotrt.pipeline.batcher import Batcher, Gate
from yolotrt.pipeline.channel import CancelledError, Channel
from yolotrt.pipeline.stream_state import StreamRecord
from yolotrt.sinks.base import Sink
from yolotrt.types import FrameResult


class Delivery:
    """A result on its way to one or two writers; it is counted when the last of them is done with it."""

    def __init__(self, result: FrameResult, record: StreamRecord, writers: int) -> None:
        self.result = result
        self._record, self._left, self._whole = record, writers, True
        self._lock = threading.Lock()
        if not writers:
            self._count()

    def done(self, *, whole: bool = True) -> None:
        """One writer is done; `whole` if it could write it."""
        with self._lock:
            self._left -= 1
            self._whole &= whole
            if self._left:
                return
        self._count()

    def _count(self) -> None:
        received_s = self.result.frame.received_s
        if self._whole:
            self._record.processed(latency_s=None if received_s is None else time.monotonic() - received_s)
        else:
            self._record.count(running=-1, failed=1)


class Writer:
    """Hands results to sinks, in order, in a thread of its own, and closes the sinks at the end.

    Args:
        sinks: get each result; closed, or aborted after an error or `cancel`.
        batcher: told when there is room again at `gate`.
        gate: how many results may be under way.
        on_error: called in the writer's thread with what ended it early.

    Attributes:
        error: what ended it early.
        seconds: busy time.
    """

    def __init__(
        self, sinks: Sequence[Sink], batcher: Batcher, gate: Gate, *, on_error: Callable[[BaseException], None]
    ) -> None:
        self.error: BaseException | None = None
        self.seconds = 0.0
        self._sinks, self._batcher, self._gate, self._on_error = tuple(sinks), batcher, gate, on_error
        # The gate keeps it from growing; the thread that runs the detector never waits for a writer.
        self._deliveries: Channel[Delivery] = Channel(1 << 30)
        self._thread = threading.Thread(target=self._run, name="yolotrt-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, delivery: Delivery) -> None:
        """Hand over a result that has passed the gate."""
        with contextlib.suppress(CancelledError):
            self._deliveries.put(delivery)

    def finish(self) -> None:
        """There is nothing more."""
        self._deliveries.finish()

    def cancel(self) -> None:
        """Give up what is not written yet; the outputs are finished as they are."""
        self._deliveries.cancel()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            while taken := self._deliveries.take():
                self._write(taken[0])
            for sink in self._sinks:
                sink.close()
        except CancelledError:
            self._abort()
        except BaseException as e:  # noqa: BLE001 (the run decides what becomes of it)
            self.error = e
            self._abort()
            try:
                self._on_error(e)
            finally:
                self._let_go()

    def _let_go(self) -> None:
        """Nobody waits for what is not written."""
        with contextlib.suppress(CancelledError):
            while taken := self._deliveries.take():
                self._done(taken[0], whole=False)

    def _write(self, delivery: Delivery) -> None:
        began = time.perf_counter()
        whole = False
        try:
            for sink in self._sinks:
                sink.write(delivery.result)
            whole = True
        finally:
            self.seconds += time.perf_counter() - began
            self._done(delivery, whole=whole)

    def _done(self, delivery: Delivery, *, whole: bool) -> None:
        delivery.done(whole=whole)
        self._batcher.release(self._gate)

    def _abort(self) -> None:
        for sink in self._sinks:
            # The first error is the one that is reported.
            with contextlib.suppress(Exception):
                sink.abort()
