"""What is known of each stream while it runs: counted by the threads of the run, read by anybody as a snapshot."""

from __future__ import annotations

import bisect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from yolotrt.sources.base import StreamState

__all__ = ["LATENCY_BOUNDS_S", "OnState", "StreamRecord", "StreamState", "StreamStatus"]

_logger = logging.getLogger(__name__)

LATENCY_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper ends of the buckets of a latency histogram, in seconds; what is slower falls into a last one."""

_DECODERS = 16  # kept per stream: reasons may differ from file to file
_RECENT = 512  # latencies that the percentiles are taken from


@dataclass(frozen=True, kw_only=True)
class StreamStatus:
    """One stream at one moment.

    A frame that was read is processed, dropped, skipped or failed in the end; until then it is under way:
    `read == processed + dropped + skipped + failed + waiting + running`.

    Attributes:
        name: of the stream; unique in a run, without credentials.
        state: where it stands.
        read: frames that the source gave.
        processed: frames whose results were written.
        dropped: frames passed over because a newer one was there, or they were too old, or the run was ended.
        skipped: frames left out by `fps` or `stride`.
        failed: frames that were lost to an error of the model or of an output.
        waiting: frames read and not yet taken by the detector (the queue's depth).
        running: frames in the detector or in the queue of the outputs.
        reconnects: connections that were made again after a first one had given frames.
        corrupt: packets or frames that could not be decoded whole.
        last_error: the newest problem in one line, without credentials; empty if there was none.
        decoders: what has decoded its videos, `nvdec` or `pyav`, in brackets why not NVDEC where that is a question;
            each once. A stream of several files may have both.
        frames_per_s: processed, over the last seconds.
        latency_counts: frames by seconds from arrival to written result: one count per bucket of `LATENCY_BOUNDS_S`,
            and a last one for what is slower. Live streams only.
        latency_sum_s: of all these frames.
        latency_p50_s, latency_p95_s: of the last 512 frames; 0 before the first.
    """

    name: str
    state: StreamState
    read: int = 0
    processed: int = 0
    dropped: int = 0
    skipped: int = 0
    failed: int = 0
    waiting: int = 0
    running: int = 0
    reconnects: int = 0
    corrupt: int = 0
    last_error: str = ""
    decoders: tuple[str, ...] = ()
    frames_per_s: float = 0.0
    latency_counts: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_S) + 1)
    latency_sum_s: float = 0.0
    latency_p50_s: float = 0.0
    latency_p95_s: float = 0.0

    @property
    def accounted(self) -> bool:
        """Whether no frame got lost on the way."""
        ended = self.processed + self.dropped + self.skipped + self.failed
        return self.read == ended + self.waiting + self.running

    def to_dict(self) -> dict[str, object]:
        """JSON-ready, as the summary of a run holds it."""
        counts = ("read", "processed", "dropped", "skipped", "failed", "reconnects", "corrupt")
        return {
            "name": self.name,
            "state": self.state.value,
            **{name: getattr(self, name) for name in counts},
            "last_error": self.last_error,
            "decoders": list(self.decoders),
            "latency_ms": {"p50": round(self.latency_p50_s * 1e3, 1), "p95": round(self.latency_p95_s * 1e3, 1)},
        }


OnState = Callable[[StreamStatus, str], None]
"""Called with the status of a stream whose state has changed, and the error that changed it; empty if none did."""


class StreamRecord:
    """The counters of one stream. Every method may be called from any thread.

    Args:
        name: of the stream, unique and without credentials.
        stall_s: a live stream counts as stalled when its last frame is older than this; None for files, which wait
            for whoever reads them.
        on_change: called after each change of state and each new error, in the thread that brought it. What it raises
            is logged.
    """

    def __init__(self, name: str, *, stall_s: float | None = None, on_change: OnState | None = None) -> None:
        self.name, self.stall_s = name, stall_s
        self._on_change = on_change
        self._lock = threading.Lock()
        self._state = StreamState.CONNECTING
        self._counts = dict.fromkeys(
            ("read", "processed", "dropped", "skipped", "failed", "waiting", "running", "reconnects", "corrupt"), 0
        )
        self._last_error = ""
        self._decoders: dict[str, None] = {}
        self._last_frame_s = 0.0
        self._finished: deque[float] = deque(maxlen=64)
        self._latencies: deque[float] = deque(maxlen=_RECENT)
        self._latency_counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._latency_sum_s = 0.0

    def count(self, **changes: int) -> None:
        """Add to counters, by the names that `StreamStatus` gives them, all at once: `count(waiting=-1, running=1)`."""
        with self._lock:
            for name, change in changes.items():
                self._counts[name] += change
            if changes.get("read"):
                self._last_frame_s = time.monotonic()

    def processed(self, *, latency_s: float | None = None) -> None:
        """One frame that was running is written; `latency_s` since it arrived, for live streams."""
        with self._lock:
            self._counts["running"] -= 1
            self._counts["processed"] += 1
            self._finished.append(time.monotonic())
            if latency_s is not None:
                self._latencies.append(latency_s)
                self._latency_counts[bisect.bisect_left(LATENCY_BOUNDS_S, latency_s)] += 1
                self._latency_sum_s += latency_s

    def decodes(self, decoder: str) -> None:
        """A decoder has begun with it, or taken over; see `StreamStatus.decoders`."""
        with self._lock:
            if len(self._decoders) < _DECODERS:
                self._decoders[decoder] = None

    def settle(self, *, failed: bool) -> None:
        """The run is over: what is still running was dropped, or failed with it."""
        with self._lock:
            self._state = StreamState.ENDED
            self._counts["failed" if failed else "dropped"] += self._counts["running"]
            self._counts["running"] = 0

    def become(self, state: StreamState, error: str = "") -> None:
        """Change the state; `error` says why, if there is a problem. A stream that has ended stays so."""
        if state is self._state and not error:
            return  # of each frame
        with self._lock:
            ended = self._state is StreamState.ENDED
            changed = not ended and self._state is not state
            news = changed or (not ended and error not in ("", self._last_error))
            if changed and (self._state, state) == (StreamState.RECONNECTING, StreamState.LIVE):
                self._counts["reconnects"] += 1
            if changed:
                self._state = state
                self._last_frame_s = time.monotonic()
            self._last_error = error or self._last_error
        if news and self._on_change is not None:
            self._tell(self._on_change, error)

    def _tell(self, on_change: OnState, error: str) -> None:
        try:
            on_change(self.snapshot(), error)
        # SystemExit is what rich raises where its reader is gone. The stream goes on all the same.
        except (Exception, SystemExit):
            _logger.exception("%s: its state could not be told", self.name)

    def snapshot(self) -> StreamStatus:
        """The stream at this moment."""
        with self._lock:
            now = time.monotonic()
            latencies = sorted(self._latencies)
            return StreamStatus(
                name=self.name,
                state=self._state_at(now),
                last_error=self._last_error,
                decoders=tuple(self._decoders),
                frames_per_s=self._rate(now),
                latency_counts=tuple(self._latency_counts),
                latency_sum_s=self._latency_sum_s,
                latency_p50_s=_percentile(latencies, 0.5),
                latency_p95_s=_percentile(latencies, 0.95),
                **self._counts,
            )

    def _state_at(self, now: float) -> StreamState:
        silent = self.stall_s is not None and now - self._last_frame_s > self.stall_s
        return StreamState.STALLED if silent and self._state is StreamState.LIVE else self._state

    def _rate(self, now: float) -> float:
        times = [t for t in self._finished if t > now - 5.0]
        return (len(times) - 1) / (now - times[0]) if len(times) > 1 else 0.0


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
