"""The contract that every source keeps: frames in order, and what is known of them beforehand."""

from __future__ import annotations

import abc
import enum
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from yolotrt.errors import SourceError
from yolotrt.sources.decoders import Decoders
from yolotrt.types import Frame

if TYPE_CHECKING:
    from typing_extensions import Self

_logger = logging.getLogger(__name__)


class StreamState(str, enum.Enum):
    """Where a stream of frames stands.

    `connecting` has not given a frame yet; `live` gives frames; `stalled` is connected and silent; `reconnecting` was
    live and is not; `ended` gives no more.
    """

    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"
    RECONNECTING = "reconnecting"
    ENDED = "ended"


class Watcher:
    """What a source tells and asks while it is read, in the iterating thread. This one takes no notice."""

    def state(self, state: StreamState, error: str = "") -> None:
        """A live source lost or looks for its camera; `error` says why, without credentials."""

    def corrupt(self) -> None:
        """A packet or a frame could not be decoded whole."""

    def late(self) -> None:
        """A frame was left undecoded, since decoding is behind the camera."""

    def decoder(self, name: str, why: str) -> None:
        """A video is decoded by `nvdec` or `pyav` from here on; `why` nothing faster does, where that is a question."""

    def wants(self, index: int, timestamp_s: float) -> bool:  # noqa: ARG002 (for others to look at)
        """Whether a video's frame is of use. One that is not costs only its decoding."""
        return True

    def skipped(self, count: int) -> None:
        """So many frames were of no use to whom the source asked instead."""


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """What is known of a source before its first frame; of a live one, what was known at its last connection.

    Attributes:
        kind: name in the kind table: `pictures`, `video`, `arrays`, `stream`, `webcam`; `several` for a sequence.
        name: for people: a path, "12 pictures", or an address without credentials.
        size: (height, width) in pixels as its frames come, rotation applied; None where they differ or are not known.
        fps: average frames per second; None for pictures and where the file does not say.
        frames: number of frames; None where the file does not say. A damaged file may hold fewer.
        time_base: the unit of its time stamps in seconds; None for pictures.
        live: its frames come when they come, and without an end that is known: a camera.
    """

    kind: str
    name: str
    size: tuple[int, int] | None = None
    fps: Fraction | None = None
    frames: int | None = None
    time_base: Fraction | None = None
    live: bool = False

    @property
    def moving(self) -> bool:
        """Whether its frames follow one another in time: a video file, a stream or a camera."""
        return self.live or self.kind in ("video", "stream", "webcam")


class Source(abc.ABC):
    """An iterable of `Frame`, usable as a context manager; each iteration starts again at the first frame.

    Damage that is not the end of everything (one bad picture among many, a video cut short) does not stop the
    iteration: `on_problem` is called with it, in the iterating thread. By default it is logged as a warning.

    Attributes:
        info: what is known beforehand.
        on_problem: called with each such SourceError.
        watcher: told and asked while it is read.
        decoders: what its videos are decoded by. To be set before it is read.
        on_stop: called by `stop`, for who reads it in its place.
    """

    def __init__(self, info: SourceInfo) -> None:
        self.info = info
        self.on_problem: Callable[[SourceError], None] = _log_problem
        self.watcher = Watcher()
        self.decoders = Decoders()
        self.on_stop: Callable[[], None] = _do_nothing

    @property
    def stall_s(self) -> float | None:
        """Without a picture for so long, it has stalled; None for files, which wait for whoever reads them."""
        return None

    @property
    def max_latency_s(self) -> float:
        """Pictures that are older are of no use."""
        return float("inf")

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files it reads, so that no output takes the place of one."""
        return ()

    @property
    def recipe(self) -> Callable[[], Source] | None:
        """Makes the same source in another process: it can be pickled. None where nothing can."""
        return None

    def info_of(self, source_id: str) -> SourceInfo:  # noqa: ARG002 (only a sequence of sources looks at it)
        """What is known of the source of a frame, by `Frame.source_id`."""
        return self.info

    @abc.abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order. Raises SourceError where there is nothing to go on with."""

    def stop(self) -> None:
        """End a live source for good, from any thread; one that waits for its camera may take until its time-out.

        A file ends by itself.
        """
        self.on_stop()

    def close(self) -> None:  # noqa: B027 (most sources hold nothing open between iterations)
        """Let go of files. Calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SeveralSources(Source):
    """Sources one after the other. One that fails is reported as a problem, and the next one follows."""

    def __init__(self, parts: tuple[Source | SourceError, ...]) -> None:
        """Args: parts: the sources, and in place of those that could not be opened, why."""
        self.parts = parts
        infos = [p.info for p in parts if isinstance(p, Source)]
        counts = [i.frames for i in infos]
        known = [c for c in counts if c is not None]
        super().__init__(
            SourceInfo(
                kind="several",
                name=f"{len(parts)} sources",
                frames=sum(known) if len(known) == len(counts) else None,
            )
        )
        self._infos = {p.info.name: p.info for p in parts if isinstance(p, Source)}

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for part in self.parts if isinstance(part, Source) for path in part.paths)

    def info_of(self, source_id: str) -> SourceInfo:
        # Pictures are no part by themselves and have nothing to tell beyond what their kind says.
        return self._infos.get(source_id, SourceInfo(kind="pictures", name=source_id))

    def __iter__(self) -> Iterator[Frame]:
        for part in self.parts:
            if isinstance(part, SourceError):
                self.on_problem(part)
                continue
            part.on_problem, part.watcher, part.decoders = self.on_problem, self.watcher, self.decoders
            try:
                yield from part
            except SourceError as e:
                self.on_problem(e)

    def close(self) -> None:
        for part in self.parts:
            if isinstance(part, Source):
                part.close()


def _do_nothing() -> None:
    pass


def _log_problem(error: SourceError) -> None:
    _logger.warning("%s", error)
