"""The H.264 encoder of written videos: NVENC where there is one, else x264, and never silently the other."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import cv2

from yolotrt.errors import SinkError, UsageError
from yolotrt.types import ImageU8

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_logger = logging.getLogger(__name__)

Encoder = Literal["auto", "nvenc", "x264"]

# Fast enough to run beside a detector, good enough that drawn lines stay sharp. The short lookahead keeps few frames
# in memory, so that a video is finished soon after an interrupt.
_OPTIONS = {
    "h264_nvenc": {"preset": "p4", "rc": "constqp", "qp": "22"},
    "libx264": {"preset": "veryfast", "crf": "20", "rc-lookahead": "10"},
}
_AT_ONCE = {
    "h264_nvenc": {"tune": "ull", "zerolatency": "1", "delay": "0"},
    "libx264": {"tune": "zerolatency", "rc-lookahead": "0"},
}
_START_S = 2
_NAMES = {"nvenc": ("h264_nvenc",), "x264": ("libx264",), "auto": ("h264_nvenc", "libx264")}


class Starts:
    """Asks for a picture to start from every two seconds of a live video, however few pictures these have."""

    def __init__(self) -> None:
        self._last_s = float("-inf")

    def mark(self, frame: av.VideoFrame, seconds: float) -> None:
        """To be called with each frame, and its time."""
        if seconds - self._last_s >= _START_S:
            from av.video.frame import PictureType

            frame.pict_type = PictureType.I
            self._last_s = seconds


def check_encoder(encoder: str) -> None:
    """Raise UsageError for an unknown name."""
    if encoder not in get_args(Encoder):
        raise UsageError("option encoder is unknown", got=encoder, expected=" | ".join(get_args(Encoder)))


def open_stream(
    new_container: Callable[[], OutputContainer],
    size: tuple[int, int],
    *,
    fps: Fraction,
    time_base: Fraction,
    encoder: Encoder = "auto",
    live: bool = False,
    at_once: bool = False,
) -> tuple[OutputContainer, VideoStream]:
    """A container with one video stream whose encoder is open: 4:2:0, BT.709.

    Args:
        new_container: makes an empty one; called once per encoder that is tried.
        size: (height, width) in pixels, both even.
        live: no reordered frames, and a picture to start from every two seconds at this rate; see `Starts`.
        at_once: each frame comes out as soon as it is in, at the cost of some quality.

    Raises:
        SinkError: no encoder can be opened.
    """
    import av

    refused: av.FFmpegError | None = None
    for name in _NAMES[encoder]:
        options = _OPTIONS[name] | (_AT_ONCE[name] if at_once else {})
        if live:
            options |= {"bf": "0", "g": str(max(round(_START_S * fps), 1)), "forced-idr": "1"}
        container = new_container()
        try:
            stream = _stream(container, name, options, size, fps, time_base)
        except (av.FFmpegError, ValueError) as e:  # ValueError: this FFmpeg was built without it
            with contextlib.suppress(av.FFmpegError):
                container.close()
            refused = e if isinstance(e, av.FFmpegError) else refused
            if name == "h264_nvenc" and encoder == "auto" and _has_nvidia_driver():
                _say_once(f"h264_nvenc cannot be opened here ({_reason(e)}): videos are encoded by libx264")
            elif name == _NAMES[encoder][-1]:
                raise SinkError(
                    f"the video encoder {name} cannot be opened ({_reason(e)})", remedy="Try --encoder x264."
                ) from e
        else:
            return container, stream
    raise SinkError("no video encoder can be opened") from refused


def even(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) with one row or column more where they are odd, which H.264 4:2:0 needs."""
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def frame_of(pixels: ImageU8) -> av.VideoFrame:
    """A picture, BGR `uint8 [H, W, 3]`, as the encoder takes it: of an even size, 4:2:0, BT.709."""
    import av

    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return av.VideoFrame.from_numpy_buffer(pixels, format="bgr24").reformat(
        format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
    )


def _stream(
    container: OutputContainer,
    name: str,
    options: dict[str, str],
    size: tuple[int, int],
    fps: Fraction,
    time_base: Fraction,
) -> VideoStream:
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    stream: VideoStream = container.add_stream(name, rate=fps, options=options)  # type: ignore[assignment]
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    stream.time_base = context.time_base = time_base
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    context.open()
    return stream


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


@lru_cache(maxsize=1)
def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


@lru_cache(maxsize=8)
def _say_once(text: str) -> None:
    _logger.warning("%s", text)
