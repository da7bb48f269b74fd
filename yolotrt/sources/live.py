"""What webcams and network streams have in common: they drop out, come back, and have clocks of their own."""

from __future__ import annotations

import abc
import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

from yolotrt.errors import SourceError, UsageError
from yolotrt.sources.base import Source, SourceInfo, StreamState
from yolotrt.sources.decoders import DamagedPacketError
from yolotrt.sources.recorded import RecordedClock
from yolotrt.types import DeviceImage, Frame, ImageU8

Transport = Literal["auto", "tcp", "udp"]

_DRIFT_S = 2.0  # a camera's clock that is further off than this is set anew


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """How live sources are read.

    Attributes:
        retries: attempts to connect that may fail in a row; None tries for ever.
        connect_timeout_s: for a connection up to its first data.
        read_timeout_s: without a picture, the connection is given up and made again.
        max_latency_s: pictures that are older are dropped; where decoding falls behind by more, the reader jumps ahead.
        rtsp_transport: `auto` takes TCP, and UDP where TCP is refused; `udp` takes UDP, and TCP where nothing arrives.
    """

    retries: int | None = None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    max_latency_s: float = 1.0
    rtsp_transport: Transport = "auto"

    def __post_init__(self) -> None:
        for name in ("connect_timeout_s", "read_timeout_s", "max_latency_s"):
            if not 0 < getattr(self, name) < float("inf"):
                option = name.removesuffix("_s").replace("_", "-")
                raise UsageError(
                    f"option {option} is out of range", got=getattr(self, name), expected="seconds above 0"
                )
        if self.retries is not None and self.retries < 0:
            raise UsageError("option retries is out of range", got=self.retries, expected="a whole number from 0")
        if self.rtsp_transport not in get_args(Transport):
            raise UsageError(
                "option rtsp-transport is unknown", got=self.rtsp_transport, expected=" | ".join(get_args(Transport))
            )


class LostError(SourceError):
    """A connection that failed or ended.

    Args:
        pause_s: the least time before another attempt makes sense, if the source has never given a picture or this
            is hopeless. A server that is starting knows its streams a moment later.
        hopeless: it makes none, if the source has never given a picture.
        refused: the transport is to blame; another one may work.
    """

    def __init__(
        self,
        what: str,
        *,
        remedy: str | None = None,
        pause_s: float = 0.0,
        hopeless: bool = False,
        refused: bool = False,
    ) -> None:
        super().__init__(what, remedy=remedy)
        self.pause_s, self.hopeless, self.refused = pause_s, hopeless, refused


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture as it arrived, not yet converted.

    Attributes:
        received_s: `time.monotonic()` of its arrival.
        camera_s: seconds of the camera's own clock; None where it has none.
        decode_s: seconds spent on it so far.
        picture: makes it: BGR `uint8 [H, W, 3]`, or in the memory of a GPU. Called before the next one is asked for.
    """

    received_s: float
    camera_s: float | None
    decode_s: float = 0.0
    picture: Callable[[], ImageU8 | DeviceImage]


class LiveSource(Source):
    """Gives pictures as they come, and connects again when they stop coming, until `stop`.

    Times are seconds since the first picture: the camera's clock where it has one that keeps pace with ours. A failure
    is told to the watcher; the iteration ends by SourceError only after `LiveOptions.retries`, or where another attempt
    is without hope: a user or password that is refused, a webcam that is not there.

    Attributes:
        was_live: it has given a picture, to this process or to another one, so nothing is without hope any more.
    """

    def __init__(self, info: SourceInfo, options: LiveOptions) -> None:
        super().__init__(info)
        self.options = options
        self._stopped = threading.Event()
        self.was_live = False

    @property
    def stall_s(self) -> float | None:
        return self.options.read_timeout_s / 2

    @property
    def max_latency_s(self) -> float:
        return self.options.max_latency_s

    def stop(self) -> None:
        self._stopped.set()
        super().stop()

    def __iter__(self) -> Iterator[Frame]:
        clock = _Clock()
        outage = _Outage(self.options.retries, self.was_live)
        count = itertools.count()
        while not self._stopped.is_set():
            error = yield from self._connection(clock, outage, count)
            if error is None or self._stopped.is_set():
                return
            if not outage.may_go_on(error) or not self.info.live:
                try:
                    raise error
                finally:
                    del error  # in a circle with its traceback, it would keep whatever those who asked for frames hold
            self._tell(str(error))
            clock.lost()
            self._stopped.wait(outage.pause_s(error))

    def _connection(
        self, clock: _Clock, outage: _Outage, count: Iterator[int]
    ) -> Generator[Frame, None, LostError | None]:
        """The frames of one connection. Returns how it was lost; None where nothing more is to come."""
        try:
            for shot in self._shots():
                outage.over()
                self.was_live = True
                index = next(count)
                timestamp_s = clock.place(shot) if self.info.live else clock.film(shot)
                if self.watcher.wants(index, timestamp_s):
                    try:
                        frame = self._frame(shot, index, timestamp_s)
                    except DamagedPacketError:
                        self.watcher.corrupt()
                    else:
                        yield frame
                if self._stopped.is_set():
                    return None
        except LostError as e:
            # The traceback holds what the connection held: a container, a decoder and their pictures.
            return e.with_traceback(None)
        return LostError(f"{self.info.name}: the stream ended") if self.info.live else None

    def _tell(self, error: str) -> None:
        self.watcher.state(StreamState.RECONNECTING if self.was_live else StreamState.CONNECTING, error)

    def _connected(self, size: tuple[int, int] | None, fps: Fraction | None) -> None:
        self.info = dataclasses.replace(self.info, size=size, fps=fps)

    def _frame(self, shot: Shot, index: int, timestamp_s: float) -> Frame:
        started = time.perf_counter()
        return Frame(
            picture=shot.picture(),
            source_id=self.info.name,
            index=index,
            timestamp_s=timestamp_s,
            decode_s=shot.decode_s + time.perf_counter() - started,
            received_s=shot.received_s if self.info.live else None,
        )

    @abc.abstractmethod
    def _shots(self) -> Iterator[Shot]:
        """Connect once and yield what comes; return at the end. Raises LostError."""


class _Clock:
    """Places a camera's times on our own clock, from its first picture on."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._offset: float | None = None
        self._last = self._elapsed = 0.0
        self._recorded = RecordedClock()

    def place(self, shot: Shot) -> float:
        """Seconds since the first picture; they never run back."""
        if self._start is None:
            self._start = shot.received_s
        elapsed = shot.received_s - self._start
        seconds = elapsed
        if shot.camera_s is not None:
            if self._offset is None or abs(shot.camera_s + self._offset - elapsed) > _DRIFT_S:
                self._offset = elapsed - shot.camera_s
            seconds = shot.camera_s + self._offset
        if seconds < self._last:
            # It was ahead and was set anew. It goes on, slower, until it is right: `--fps` waits for one that stands.
            seconds = self._last + max(elapsed - self._elapsed, 0.0) / 2
        self._elapsed = elapsed
        self._last = seconds
        return seconds

    def film(self, shot: Shot) -> float:
        """The same of a recording, which comes as fast as it is read: by its own times alone."""
        return self.place(shot) if shot.camera_s is None else self._recorded.place(shot.camera_s)

    def lost(self) -> None:
        """The next picture comes over another connection, with another start."""
        self._offset = None


@dataclass
class _Outage:
    """Counts failures in a row, and says how long to wait for the next attempt.

    The waits grow with the length of the outage, to a tenth of it: exponentially, and a camera that was away for
    seconds is back soon after. Chance keeps a hundred cameras behind one switch from asking all at the same moment.
    """

    retries: int | None
    was_live: bool
    shortest_s: float = 0.2
    longest_s: float = 15.0
    _failures: int = 0
    _since: float = field(default_factory=time.monotonic)

    def over(self) -> None:
        self._failures, self._since, self.was_live = 0, time.monotonic(), True

    def may_go_on(self, error: LostError) -> bool:
        self._failures += 1
        if error.hopeless and not self.was_live:
            return False
        return self.retries is None or self._failures <= self.retries

    def pause_s(self, error: LostError) -> float:
        tenth = (time.monotonic() - self._since) / 10
        chance = random.random()  # noqa: S311 (no secret)
        pause = min(max(tenth, 2 * self.shortest_s), self.longest_s) * (1 + chance) / 2
        if self.was_live and not error.hopeless:
            return pause
        return max(pause, error.pause_s * (1 + chance / 4))
