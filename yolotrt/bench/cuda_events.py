"""Time by the GPU's own clock: events that a stream passes."""

from __future__ import annotations

from typing import Any

from yolotrt.cuda.driver import translated
from yolotrt.cuda.stream import Stream


class EventPair:
    """The start and the end of what is queued between `start` and `stop`. Make and use it inside `Device.active`."""

    def __init__(self, stream: Stream) -> None:
        from cuda.core import EventOptions

        self._stream, self._options = stream, EventOptions(timing_enabled=True)
        self._events: list[Any] = []

    def start(self) -> None:
        self._events = [self._record()]

    def stop(self) -> None:
        self._events.append(self._record())

    def seconds(self) -> float:
        """Between the two, once the GPU has passed them; waits for that. Raises CudaError for what failed meanwhile."""
        first, last = self._events
        with translated("work on the GPU failed"):
            last.sync()
            return float(last - first) / 1e3

    def _record(self) -> Any:
        with translated("a CUDA event cannot be recorded"):
            return self._stream.core.record(options=self._options)
