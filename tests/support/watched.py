"""A source that is read in a thread, with all that it tells."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from yolotrt.errors import SourceError
from yolotrt.sources import Source, StreamState, Watcher
from yolotrt.types import Frame


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A frame, without its pixels but for the newest one, and when it was there."""

    at: float
    size: tuple[int, int]
    index: int
    timestamp_s: float


class Watched(Watcher):
    """Everything a source gives and tells, with the time of it. `look` is called with each frame, by its reader."""

    def __init__(self, source: Source, *, look: Callable[[Frame], None] | None = None) -> None:
        self.source = source
        self._look = look
        self.frames: list[Seen] = []
        self.newest: Frame | None = None
        self.told: list[tuple[float, StreamState, str]] = []
        self.problems: list[SourceError] = []
        self.corrupted = self.lates = 0
        self.error: BaseException | None = None
        source.watcher, source.on_problem = self, self.problems.append
        self._thread = threading.Thread(target=self._read, daemon=True)

    @property
    def errors(self) -> list[str]:
        return [error for _, _, error in self.told]

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def state(self, state: StreamState, error: str = "") -> None:
        self.told.append((time.monotonic(), state, error))

    def corrupt(self) -> None:
        self.corrupted += 1

    def late(self) -> None:
        self.lates += 1

    def since(self, moment: float) -> list[Seen]:
        """The frames that came after a moment."""
        return [seen for seen in self.frames if seen.at > moment]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.source.stop()
        self._thread.join(15)
        assert self.ended

    def _read(self) -> None:
        try:
            for frame in self.source:
                now = time.monotonic()
                if self._look is not None:
                    self._look(frame)
                self.frames.append(Seen(at=now, size=frame.size, index=frame.index, timestamp_s=frame.timestamp_s))
                self.newest = dataclasses.replace(frame)
        except BaseException as e:  # noqa: BLE001 (for the test to look at)
            self.error = e


@contextlib.contextmanager
def watched(source: Source, *, look: Callable[[Frame], None] | None = None) -> Iterator[Watched]:
    """Read a source for the length of a block."""
    found = Watched(source, look=look)
    found.start()
    try:
        yield found
    finally:
        found.stop()
