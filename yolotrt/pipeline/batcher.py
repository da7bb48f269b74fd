"""Many streams into one engine: where their frames wait, and which ones make the next batch.

Files wait: their readers stop while their queue is full, and every frame gets its turn, in an order that does not
depend on time. Cameras do not wait: the newest picture takes the place of an older one, so latency stays as it is
however slow the engine, and each camera gets as many turns as the next. An engine that keeps up loses nothing after a
moment in which nothing moved: it is given a moment to catch up.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from yolotrt.pipeline.channel import CancelledError
from yolotrt.pipeline.prefetch import ahead_of
from yolotrt.pipeline.stream_state import StreamRecord, StreamState
from yolotrt.types import Frame

_GATHER_S = 0.005  # that a batch of many cameras waits for more of them
_SPARE = 0.25  # of the time from one batch to the next, that an engine waits which can catch up


class Backlog(NamedTuple):
    """What of a camera may wait beside a newer picture: so many pictures, none of them older than so many seconds."""

    pictures: int
    age_s: float


# Pictures that a network hands over together are both used; else the newer one is.
_BEHIND = Backlog(pictures=2, age_s=0.05)
# A garbage collection, memory that the GPU is asked for or a busy machine hold everything up for 50 to 100 ms.
_KEEPING_UP = Backlog(pictures=8, age_s=0.2)


class Gate:
    """Lets so many frames be on their way to an output at a time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0


class Inlet:
    """Where one reader hands in its frames. Its fields belong to the `Batcher`.

    Args:
        record: counts what happens to them.
        live: whether its frames are dropped rather than awaited, as far as known before the first one.
        max_latency_s: live frames that are older are dropped.
    """

    def __init__(self, record: StreamRecord, *, live: bool = False, max_latency_s: float = 1.0) -> None:
        self.record, self.live, self.max_latency_s = record, live, max_latency_s
        self.waiting: deque[Frame] = deque()
        self.promised = 0
        """How many of those that wait have their place in the next batch."""
        self.finished = False
        self.closed = False
        self.gates: tuple[Gate, ...] = ()

    @property
    def exhausted(self) -> bool:
        return (self.finished or self.closed) and not self.waiting

    def has_room(self, ahead: int = 0) -> bool:
        return all(gate.held + ahead < gate.limit for gate in self.gates)


class Taken(NamedTuple):
    """A frame on its way through the engine, and where it came from."""

    inlet: Inlet
    frame: Frame


class Batcher:
    """Shared by the readers, who `put`, the engine, which takes, and the writers, who `release`.

    Nobody is woken for nothing, since each frame of each stream passes here: the engine once its batch is whole, which
    whoever hands in its last frame sees to, and a reader once there is room for a batch.

    Args:
        inlets: one per stream.
        batch: frames in a full batch.
    """

    def __init__(self, inlets: Sequence[Inlet], batch: int) -> None:
        self._inlets = tuple(inlets)
        self._places = {inlet: place for place, inlet in enumerate(self._inlets)}
        self._batch, self._most = batch, ahead_of(batch)
        self._turn = 0
        self._order: list[Inlet] = []  # the streams of the next batch, as far as their frames are there
        self._steps = 0  # turns that this took, with those of streams that have ended
        self._lock = threading.RLock()
        self._filled = threading.Condition(self._lock)
        self._room = {inlet: threading.Condition(self._lock) for inlet in self._inlets}
        self._is_awaited = False
        self._waiting = 0  # frames of all inlets
        self._is_gathering = False
        self._idle_s = float("-inf")  # when the engine last had time to spare
        self._taken_s: float | None = None  # when it was given a batch
        self._cancelled = False

    def put(self, inlet: Inlet, frame: Frame) -> None:
        """Hand in a frame. A file's reader waits for room. Raises CancelledError when nobody wants more."""
        inlet.record.become(StreamState.LIVE)
        with self._lock:
            inlet.live = frame.received_s is not None
            if not inlet.live and len(inlet.waiting) >= self._most:
                self._room[inlet].wait_for(lambda: self._is_over(inlet) or self._has_emptied(inlet))
            if self._is_over(inlet):
                inlet.record.count(read=1, dropped=1)
                raise CancelledError
            inlet.waiting.append(frame)
            self._waiting += 1
            inlet.record.count(read=1, waiting=1)
            if inlet.live and len(inlet.waiting) > self._most_of(inlet):
                self._drop_oldest(inlet)
            self._tell()

    def raise_if_over(self, inlet: Inlet) -> None:
        """Raise CancelledError when nobody wants more of a stream."""
        if self._is_over(inlet):
            raise CancelledError

    def finish(self, inlet: Inlet) -> None:
        """The stream has no more frames."""
        with self._lock:
            inlet.finished = True
            self._tell_all()

    def close(self, inlet: Inlet) -> None:
        """Nobody wants more of this stream; what waits is dropped and its reader's next `put` raises."""
        with self._lock:
            inlet.closed = True
            self._start_over()
            while inlet.waiting:
                self._drop_oldest(inlet)
            self._tell_all()

    def take(self) -> list[Taken]:
        """The next batch; waits for one. Empty when all streams are over."""
        asked = time.monotonic()
        with self._lock:
            self._gather()
            while not self._cancelled:
                taken = self._pick()
                if taken:
                    self._make_room({item.inlet for item in taken})
                    self._look_at_pace(asked)
                    return taken
                if all(inlet.exhausted for inlet in self._inlets):
                    return []
                self._is_awaited = True
                self._filled.wait()
                self._is_awaited = False
            return []

    def _look_at_pace(self, asked: float) -> None:
        """Notice whether the engine waited for this batch long enough to catch up, had there been more."""
        now = time.monotonic()
        if self._taken_s is not None and now - asked >= _SPARE * (now - self._taken_s):
            self._idle_s = now
        self._taken_s = now

    def _gather(self) -> None:
        """Give many cameras a moment to fill a batch, which costs the GPU little more than a part of one.

        Where a few bring frames one by one, none waits for another.
        """
        live = sum(inlet.live and not inlet.exhausted for inlet in self._inlets)
        if live < 2 or 2 * live < self._batch:
            return
        self._is_gathering = True
        self._filled.wait_for(lambda: self._cancelled or self._waiting >= self._batch, _GATHER_S)
        self._is_gathering = False

    def release(self, gate: Gate) -> None:
        """An output is done with a frame."""
        with self._lock:
            gate.held -= 1
            self._tell()

    def cancel(self) -> None:
        """Wake everybody and end: what waits is dropped."""
        with self._lock:
            self._cancelled = True
            self._start_over()
            for inlet in self._inlets:
                while inlet.waiting:
                    self._drop_oldest(inlet)
            self._tell_all()

    def _tell(self) -> None:
        """Wake who waits for a batch, if there may be one now."""
        if self._is_gathering and self._waiting >= self._batch:
            self._filled.notify()
        if self._is_awaited and (self._has_live() or self._is_whole()):
            self._is_awaited = False
            self._filled.notify()

    def _tell_all(self) -> None:
        self._filled.notify_all()
        for room in self._room.values():
            room.notify_all()

    def _make_room(self, inlets: set[Inlet]) -> None:
        for inlet in inlets:
            if self._has_emptied(inlet):
                self._room[inlet].notify()

    def _has_emptied(self, inlet: Inlet) -> bool:
        # Not at every place: a reader that waits has plenty, and waking it costs more than its frame.
        return len(inlet.waiting) <= self._most - self._batch

    def _has_live(self) -> bool:
        return any(inlet.live and not inlet.exhausted for inlet in self._inlets)

    def _pick(self) -> list[Taken]:
        if self._has_live():
            self._start_over()
            return self._pick_ready()
        return self._pick_in_turn() if self._is_whole() else []

    def _backlog(self, now: float) -> Backlog:
        """What may wait now: an engine that had time to spare a moment ago will have it again soon."""
        return _KEEPING_UP if now - self._idle_s < _KEEPING_UP.age_s else _BEHIND

    def _most_of(self, inlet: Inlet) -> int:
        """How many pictures of a camera may wait. An engine that waits for a slow output catches nothing up."""
        return (self._backlog(time.monotonic()) if inlet.has_room() else _BEHIND).pictures

    def _pick_ready(self) -> list[Taken]:
        """Whatever is there, without waiting for more: a frame of each stream in turn, the longest unserved first."""
        now = time.monotonic()
        most_s = self._backlog(now).age_s
        picked: list[Taken] = []
        # A hundred cameras are looked at once per batch, and those that have nothing not again.
        ready = [inlet for inlet in (*self._inlets[self._turn :], *self._inlets[: self._turn]) if inlet.waiting]
        while ready:
            left = []
            for inlet in ready:
                self._drop_stale(inlet, now, min(most_s, inlet.max_latency_s))
                if inlet.waiting and inlet.has_room():
                    picked.append(self._taken(inlet))
                    if len(picked) == self._batch:
                        self._turn = self._after(inlet)
                        return picked
                    left.append(inlet)
            ready = left
        if picked:
            self._turn = self._after(picked[-1].inlet)
        return picked

    def _after(self, inlet: Inlet) -> int:
        """The place of the one behind it."""
        return (self._places[inlet] + 1) % len(self._inlets)

    def _is_whole(self) -> bool:
        """Whether a full batch is there, every stream in its turn whoever is faster, so that two runs give the same.

        Goes on from where the call before came to.
        """
        ended = 0
        while len(self._order) < self._batch and ended < len(self._inlets):
            inlet = self._inlets[(self._turn + self._steps) % len(self._inlets)]
            if len(inlet.waiting) > inlet.promised:
                if not inlet.has_room(len(self._order)):
                    return False
                self._order.append(inlet)
                inlet.promised += 1
                ended = 0
            elif inlet.finished or inlet.closed:
                ended += 1
            else:
                return False
            self._steps += 1
        return True

    def _pick_in_turn(self) -> list[Taken]:
        order, self._turn = self._order, (self._turn + self._steps) % len(self._inlets)
        self._start_over()
        return [self._taken(inlet) for inlet in order]

    def _start_over(self) -> None:
        """No place in the next batch is given away."""
        self._order, self._steps = [], 0
        for inlet in self._inlets:
            inlet.promised = 0

    def _taken(self, inlet: Inlet) -> Taken:
        for gate in inlet.gates:
            gate.held += 1
        inlet.record.count(waiting=-1, running=1)
        self._waiting -= 1
        return Taken(inlet=inlet, frame=inlet.waiting.popleft())

    def _drop_stale(self, inlet: Inlet, now: float, most_s: float) -> None:
        while inlet.waiting and inlet.waiting[0].received_s is not None:
            age = now - inlet.waiting[0].received_s
            if age <= (most_s if len(inlet.waiting) > 1 else inlet.max_latency_s):
                return
            self._drop_oldest(inlet)

    def _drop_oldest(self, inlet: Inlet) -> None:
        inlet.waiting.popleft()
        self._waiting -= 1
        inlet.record.count(waiting=-1, dropped=1)

    def _is_over(self, inlet: Inlet) -> bool:
        return self._cancelled or inlet.closed
