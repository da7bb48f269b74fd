"""An MP4 file that grows frame by frame and is whole when it appears."""

from __future__ import annotations

import contextlib
import gc
import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from yolotrt import files
from yolotrt.errors import MissingExtraError, SinkError
from yolotrt.sinks import h264
from yolotrt.sinks.h264 import Encoder
from yolotrt.sinks.source_media import SourceMedia
from yolotrt.types import ImageU8

if TYPE_CHECKING:
    from av.container import OutputContainer

_TIME_BASE = Fraction(1, 90_000)
_FINEST = Fraction(1, 1_000_000)  # MP4 writers count in 32 bits: with nanoseconds a video would end after 2 s


class VideoFile:
    """H.264 in MP4, 4:2:0, BT.709. Odd sizes are padded by one row or column, which H.264 4:2:0 needs.

    The file is whole when it appears; `live` makes one that is there from the start and can be played at any time up
    to the last second or so, whatever becomes of the process, and is an ordinary MP4 file once it is closed.
    """

    def __init__(
        self,
        target: Path,
        size: tuple[int, int],
        *,
        fps: Fraction | None = None,
        time_base: Fraction | None = None,
        encoder: Encoder = "auto",
        source: Path | None = None,
        live: bool = False,
    ) -> None:
        """Start a file that will be `target`.

        Args:
            size: (height, width) in pixels; frames of another size are scaled to it.
            fps: average frames per second, for the encoder's bit allotment only.
            time_base: unit of the frame times in seconds; 1/90000 by default and for units below a microsecond.
            encoder: which H.264 encoder.
            source: the video file that the frames are from: its sound is kept, and the time of its first frame.
            live: see above. Takes no `source`.

        Raises:
            SinkError: the folder cannot be written, or no encoder can be opened.
            MissingExtraError: PyAV is not installed.
        """
        _require_av()
        self.target = target
        self._height, self._width = size
        self._time_base = time_base if time_base and time_base >= _FINEST else _TIME_BASE
        self._last_tick = -1
        self._starts = h264.Starts() if live else None
        self._frame_s = float(1 / (fps or 25))
        self._place = contextlib.ExitStack()
        self._media = SourceMedia(source) if source is not None else None
        if self._media is not None:
            self._place.callback(self._media.close)
        self._path = self._place.enter_context(_in_place(target) if live else files.atomic_path(target))
        with self._guarded():
            self._container, self._stream = h264.open_stream(
                partial(_new_mp4, self._path, self._time_base, live=live),
                h264.even(size),
                fps=fps or Fraction(25),
                time_base=self._time_base,
                encoder=encoder,
                live=live,
            )
            if self._media is not None:
                self._media.add_to(self._container)

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder in use."""
        return str(self._stream.codec_context.codec.name)

    @property
    def seconds(self) -> float:
        """Where the last frame stands in the file."""
        return max(float(self._last_tick * self._time_base), 0.0)

    @property
    def size(self) -> int:
        """Bytes on the disk so far. Of a live video, all but the last second; of others, what was passed on."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def write(self, pixels: ImageU8, timestamp_s: float) -> None:
        """Add a frame, BGR `uint8 [H, W, 3]`, shown at `timestamp_s` seconds from the start.

        Raises SinkError where it cannot be written; the unfinished file is then gone.
        """
        offset_s = self._media.offset_s if self._media is not None else 0.0
        if pixels.shape[:2] != (self._height, self._width):
            pixels = cv2.resize(pixels, (self._width, self._height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        with self._guarded():
            frame = h264.frame_of(pixels)
            # Times of a damaged file may stand still or run back, which no encoder takes.
            self._last_tick = max(round((timestamp_s + offset_s) / self._time_base), self._last_tick + 1)
            frame.pts, frame.time_base = self._last_tick, self._time_base
            if self._starts is not None:
                self._starts.mark(frame, self.seconds)
            if self._media is not None:
                self._media.mux_until(self._container, self.seconds)
            self._container.mux(self._stream.encode(frame))

    def close(self, *, cut: bool = False) -> None:
        """Finish the file and put it in its place. Raises SinkError where that fails; the file is then gone.

        Args:
            cut: the source went on: its sound ends with the last frame, too.
        """
        with self._guarded():
            self._container.mux(self._stream.encode(None))
            if self._media is not None:
                self._media.finish(self._container, self.seconds + self._frame_s if cut else math.inf)
            self._container.close()
        # PyAV's containers and streams hold each other, and with them some megabytes of an encoder, which Python's
        # own count of objects does not see: a camera that is recorded in pieces would fill the memory.
        del self._container, self._stream
        gc.collect()
        self._place.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Any failure removes the unfinished file; those of the disk and the encoder become SinkError."""
        import av

        try:
            with files.writing(self.target):
                yield
        except BaseException as e:
            with contextlib.suppress(Exception):
                self._container.close()
            with contextlib.suppress(type(e)):
                self._place.__exit__(type(e), e, e.__traceback__)
            if isinstance(e, av.FFmpegError):
                raise SinkError(f"cannot write {self.target}: {e.strerror}", remedy="Check the output path.") from e
            raise


@contextlib.contextmanager
def _in_place(target: Path) -> Iterator[Path]:
    """The path itself; an error leaves there what can be played, if anything can."""
    with files.writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield target
    except BaseException:
        with contextlib.suppress(OSError):
            _cut_behind_last_piece(target)
        raise


def _cut_behind_last_piece(path: Path) -> None:
    """Take away what a full disk left of a last piece, at which players would stumble."""
    end = start = 0
    with path.open("rb+") as f:
        size = path.stat().st_size
        while start + 16 <= size:
            f.seek(start)
            length, kind, wide = struct.unpack(">I4sQ", f.read(16))
            start += wide if length == 1 else max(length, 8)
            if kind == b"mdat" and start <= size:
                end = start
        if end:
            f.truncate(end)
    if not size:
        path.unlink()


def _new_mp4(path: Path, time_base: Fraction, *, live: bool) -> OutputContainer:
    import av

    # The delay before the first frame is counted in this unit: whole milliseconds by default.
    options = {"movie_timescale": str(time_base.denominator)}
    if live:  # pieces of a second, each written out at once
        options |= {"movflags": "hybrid_fragmented", "frag_duration": "1000000", "flush_packets": "1"}
    return av.open(str(path), "w", format="mp4", options=options)


def _require_av() -> None:
    try:
        import av  # noqa: F401
    except ImportError as e:
        raise MissingExtraError("av", "video", needed_for="writing videos") from e
