"""What the two processes tell each other, pickled: one connection per source, and one for the process as a whole."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from yolotrt.errors import SourceError, YolotrtError
from yolotrt.sources.base import SourceInfo, StreamState
from yolotrt.sources.device_images import Colours
from yolotrt.sources.selection import Selection
from yolotrt.types import ImageU8

WINDOW = 32
"""Frames of a file that may be on their way at a time; further ones wait for an `Ack`."""

LIVE_WINDOW = 8
"""The same of a camera, whose further frames are dropped."""


BEAT_S = 1.0
"""Between two `Alive` of a process."""


@dataclass(frozen=True, kw_only=True)
class SetUp:
    """To the process, first of all.

    Attributes:
        device: number of the GPU.
        flags: file descriptor of the memory that says which slots are in use, a byte each.
        lines: the connections' file descriptors.
    """

    device: int
    flags: int
    lines: Sequence[int]


class Alive(NamedTuple):
    """From the process as a whole, time and again from when it can decode: it hangs where this does not come."""


@dataclass(frozen=True, kw_only=True)
class Begin:
    """To the process: read a source.

    Attributes:
        recipe: makes it; pickled, since only the process's thread of this source may fail at it.
        selection: which frames are wanted.
        forced: what NVDEC cannot decode is refused.
        limit: slots that it may have.
        window: frames that may be on their way at a time.
    """

    recipe: bytes
    selection: Selection
    forced: bool
    limit: int
    window: int


class Ack(NamedTuple):
    """To the process: so many frames were taken."""

    frames: int


class Stop(NamedTuple):
    """To the process: no more frames are wanted; of any source, where no source's connection says it."""


class Grow(NamedTuple):
    """From the process: memory for so many more pictures of `size` bytes is needed. Answered by `Grant`."""

    size: int
    places: int


class Grant(NamedTuple):
    """To the process: slots from number `first`, in memory of this name and of `whole` bytes; there may be none."""

    first: int = 0
    places: int = 0
    name: bytes = b""
    whole: int = 0


class LetGo(NamedTuple):
    """From the process: no slot that was granted so far is written to any more."""


class Shot(NamedTuple):
    """From the process: one frame. Its picture is in a slot or, where there was none, `pixels`.

    The other fields are those of `Frame`; `number` is its index.
    """

    slot: int
    size: tuple[int, int]
    pixels: ImageU8 | None
    source_id: str
    number: int
    timestamp_s: float
    decode_s: float
    received_s: float | None


class Shots(NamedTuple):
    """From the process: frames in order, and how many others there were meanwhile, see `Watcher`."""

    shots: Sequence[Shot]
    skipped: int
    corrupt: int
    late: int


class Look(NamedTuple):
    """From the process: the colours of the pictures in slots from here on."""

    colours: Colours


class Known(NamedTuple):
    """From the process: what is known of the source from here on."""

    info: SourceInfo


class Changed(NamedTuple):
    """From the process: `Watcher.state`."""

    state: StreamState
    error: str


class Decodes(NamedTuple):
    """From the process: `Watcher.decoder`."""

    name: str
    why: str


class Problem(NamedTuple):
    """From the process: `Source.on_problem`."""

    error: SourceError


class Refused(NamedTuple):
    """From the process, at its end: it gave no frame, and whoever asked may read the source without it."""

    why: str


class End(NamedTuple):
    """From the process, at its end: there are no more frames; `error` says why, if it is no proper end."""

    error: Exception | None


Message = Grow | LetGo | Shots | Look | Known | Changed | Decodes | Problem | Refused | End
Order = Begin | Ack | Stop | Grant


def portable(error: BaseException) -> Exception:
    """An error that can be pickled: itself, or its traceback as a RuntimeError for one that nobody foresaw."""
    if isinstance(error, YolotrtError):
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        except Exception:  # noqa: BLE001 - one whose arguments are not its text
            kind = SourceError if isinstance(error, SourceError) else YolotrtError
            return kind(str(error))
        return error
    return RuntimeError("".join(traceback.format_exception(error)))
