"""Real pictures and videos for tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from yolotrt.types import ImageU8

GREY = (114, 114, 114)


def picture(
    size: tuple[int, int] = (48, 64),
    *,
    box: tuple[int, int, int, int] | None = (8, 8, 40, 40),
    colour: tuple[int, int, int] = (0, 0, 255),
) -> ImageU8:
    """A grey picture of (height, width) with a coloured box (x1, y1, x2, y2); BGR."""
    image = np.full((*size, 3), GREY, np.uint8)
    if box is not None:
        x1, y1, x2, y2 = box
        image[y1:y2, x1:x2] = colour
    return image


def moving_box(count: int, size: tuple[int, int] = (96, 128)) -> Iterable[ImageU8]:
    """Pictures of a red box that moves to the right."""
    for i in range(count):
        left = i % (size[1] - 40)
        yield picture(size, box=(left, 16, left + 40, 56))


@contextlib.contextmanager
def _own_priority() -> Iterator[None]:
    """SVT-AV1 gives whoever runs it as root real-time priority, and so every process that is started later."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_video(
    path: Path,
    frames: Iterable[ImageU8],
    *,
    fps: Fraction | int = 25,
    ticks: Sequence[int] | None = None,
    rotation: float | None = None,
    mirrored: bool = False,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    colorspace: int | None = None,
    full_range: bool = False,
    encoder: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    title: str | None = None,
) -> Path:
    """Encode BGR frames.

    Args:
        ticks: presentation time of each frame in milliseconds, for a variable frame rate.
        rotation: of the display matrix, degrees counter-clockwise.
        mirrored: the display matrix also mirrors left and right.
        colorspace: FFmpeg's number of the colour matrix to convert with and to write down.
        full_range: with `colorspace`: 0 to 255 instead of 16 to 235.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stream: VideoStream | None = None
    with _own_priority(), av.open(str(path), "w", options=muxer or {}) as container:
        if title is not None:
            container.metadata["title"] = title
        for number, pixels in enumerate(frames):
            if stream is None:
                stream = cast("VideoStream", container.add_stream(codec, rate=fps, options=encoder or {}))
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = pix_fmt
                if rotation is not None or mirrored:
                    stream.set_display_rotation(rotation or 0, hflip=mirrored)
                if ticks is not None:
                    stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
                if colorspace is not None:
                    stream.codec_context.colorspace = colorspace
                    stream.codec_context.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            if colorspace is not None:
                frame = frame.reformat(
                    format=pix_fmt, dst_colorspace=colorspace, dst_color_range="JPEG" if full_range else "MPEG"
                )
            if ticks is not None:
                frame.pts, frame.time_base = ticks[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def cut(path: Path, share: float) -> Path:
    """Cut a file short, in place."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def video_times(path: Path) -> list[float]:
    """The presentation time of each frame in seconds; decoding them all proves that the file plays."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def video_frames(path: Path) -> list[ImageU8]:
    """All frames, BGR."""
    with av.open(str(path)) as container:
        return [np.asarray(f.to_ndarray(format="bgr24"), np.uint8) for f in container.decode(video=0)]
