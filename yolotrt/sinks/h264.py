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

from yolotrt.errors import SinkError, UsageError

if TYPE_CHECKING:
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
_NAMES = {"nvenc": ("h264_nvenc",), "x264": ("libx264",), "auto": ("h264_nvenc", "libx264")}


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
) -> tuple[OutputContainer, VideoStream]:
    """A container with one video stream whose encoder is open: 4:2:0, BT.709.

    Args:
        new_container: makes an empty one; called once per encoder that is tried.
        size: (height, width) in pixels, both even.
        live: no reordered frames, and a picture to start from every two seconds.

    Raises:
        SinkError: no encoder can be opened.
    """
    import av

    refused: av.FFmpegError | None = None
    for name in _NAMES[encoder]:
        container = new_container()
        try:
            stream = _stream(container, name, size, fps, time_base, live=live)
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


def _stream(
    container: OutputContainer,
    name: str,
    size: tuple[int, int],
    fps: Fraction,
    time_base: Fraction,
    *,
    live: bool,
) -> VideoStream:
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    options = dict(_OPTIONS[name])
    if live:
        options |= {"bf": "0", "g": str(max(round(2 * fps), 1))}
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
