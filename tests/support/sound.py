"""Videos with sound, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from tests.support.media import moving_box

_TICKS = Fraction(1, 30_000)


def write_with_sound(
    path: Path,
    *,
    codec: str = "aac",
    frames: int = 45,
    seconds: float = 1.5,
    picture_start_s: float = 0.0,
    sound_start_s: float = 0.0,
    tracks: int = 1,
    rate: int = 48_000,
) -> Path:
    """29.97 frames a second with B-frames, beside `tracks` mono tracks that click once a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(30_000, 1001), options={"bf": "3"})
        video.height, video.width, video.pix_fmt = 96, 128, "yuv420p"
        video.time_base = video.codec_context.time_base = _TICKS
        sounds = [cast("AudioStream", container.add_stream(codec, rate=rate)) for _ in range(tracks)]
        packets = list(_pictures(video, frames, picture_start_s))
        for sound in sounds:
            sound.codec_context.layout = "mono"
            packets += _clicks(sound, seconds, sound_start_s, rate)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def sound_of(path: Path, track: int = 0) -> tuple[str, float, float, npt.NDArray[np.float32]]:
    """(codec, start, end in seconds, samples as floats) of one sound track."""
    with av.open(str(path)) as container:
        frames: list[Any] = list(container.decode(audio=track))
        codec = container.streams.audio[track].codec_context.codec.canonical_name
    converted = [av.AudioResampler(format="flt", layout="mono").resample(f)[0].to_ndarray()[0] for f in frames]
    end = frames[-1].time + frames[-1].samples / frames[-1].sample_rate
    return codec, frames[0].time, end, np.concatenate(converted).astype(np.float32)


def _pictures(stream: VideoStream, count: int, start_s: float) -> Iterable[Any]:
    for number, pixels in enumerate(moving_box(count)):
        frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
        frame.pts, frame.time_base = round(start_s / _TICKS) + number * 1001, _TICKS
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _clicks(stream: AudioStream, seconds: float, start_s: float, rate: int) -> Iterable[Any]:
    samples = np.zeros((1, int(seconds * rate)), np.float32)
    for second in range(int(seconds) + 1):
        samples[:, second * rate + rate // 4 :][:, : rate // 50] = 0.8
    for first in range(0, samples.shape[1], 1024):
        part = np.ascontiguousarray(samples[:, first : first + 1024])
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, first + round(start_s * rate), Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)
