"""An MP4 file that grows frame by frame and is whole when it appears."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from yolotrt import files
from yolotrt.errors import MissingExtraError, SinkError
from yolotrt.types import ImageU8

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_TIME_BASE = Fraction(1, 90_000)
_FINEST = Fraction(1, 1_000_000)  # MP4 writers count in 32 bits: with nanoseconds a video would end after 2 s

# Fast enough to run beside a detector, good enough that drawn lines stay sharp. The short lookahead keeps few frames
# in memory, so that a video is finished soon after an interrupt.
_ENCODER = {"preset": "veryfast", "crf": "20", "rc-lookahead": "10"}


class VideoFile:
    """H.264 in MP4, 4:2:0, BT.709. Odd sizes are padded by one row or column, which H.264 4:2:0 needs."""

    def __init__(
        self, target: Path, size: tuple[int, int], *, fps: Fraction | None = None, time_base: Fraction | None = None
    ) -> None:
        """Start a file that will be `target`.

        Args:
            size: (height, width) in pixels; frames of another size are scaled to it.
            fps: average frames per second, for the encoder's bit allotment only.
            time_base: unit of the frame times in seconds; 1/90000 by default and for units below a microsecond.

        Raises:
            SinkError: the folder cannot be written.
            MissingExtraError: PyAV is not installed.
        """
        _require_av()
        self.target = target
        self._height, self._width = size
        self._time_base = time_base if time_base and time_base >= _FINEST else _TIME_BASE
        self._last_tick = -1
        self._place = contextlib.ExitStack()
        temporary = self._place.enter_context(files.atomic_path(target))
        with self._guarded():
            self._container, self._stream = _open_mp4(temporary, size, fps or Fraction(25), self._time_base)

    def write(self, pixels: ImageU8, timestamp_s: float) -> None:
        """Add a frame, BGR `uint8 [H, W, 3]`, shown at `timestamp_s` seconds from the start.

        Raises SinkError where it cannot be written; the unfinished file is then gone.
        """
        import av

        if pixels.shape[:2] != (self._height, self._width):
            pixels = cv2.resize(pixels, (self._width, self._height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        odd_rows, odd_columns = self._height % 2, self._width % 2
        if odd_rows or odd_columns:
            pixels = cv2.copyMakeBorder(pixels, 0, odd_rows, 0, odd_columns, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        with self._guarded():
            frame = av.VideoFrame.from_numpy_buffer(pixels, format="bgr24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            # Times of a damaged file may stand still or run back, which no encoder takes.
            self._last_tick = max(round(timestamp_s / self._time_base), self._last_tick + 1)
            frame.pts, frame.time_base = self._last_tick, self._time_base
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file and put it in its place. Raises SinkError where that fails; the file is then gone."""
        with self._guarded():
            self._container.mux(self._stream.encode(None))
            self._container.close()
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


def _open_mp4(
    path: Path, size: tuple[int, int], fps: Fraction, time_base: Fraction
) -> tuple[OutputContainer, VideoStream]:
    import av
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    container = av.open(str(path), "w", format="mp4")
    stream = container.add_stream("libx264", rate=fps, options=_ENCODER)
    stream.height, stream.width = (side + side % 2 for side in size)
    stream.pix_fmt = "yuv420p"
    stream.time_base = stream.codec_context.time_base = time_base
    stream.codec_context.colorspace = Colorspace.ITU709
    stream.codec_context.color_range = ColorRange.MPEG
    stream.codec_context.color_primaries = ColorPrimaries.BT709
    stream.codec_context.color_trc = ColorTrc.BT709
    return container, stream


def _require_av() -> None:
    try:
        import av  # noqa: F401
    except ImportError as e:
        raise MissingExtraError("av", "video", needed_for="writing videos") from e
