from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.container import InputContainer
from av.video.stream import VideoStream

from tests.support.media import cut, moving_box, picture, write_video
from tests.support.sound import write_with_sound
from yolotrt.errors import MissingExtraError, SourceError
from yolotrt.sources import VideoSource, Watcher, open_source, video
from yolotrt.types import ImageU8

NTSC = Fraction(30000, 1001)


def _noise(count: int, size: tuple[int, int] = (96, 128)) -> list[ImageU8]:
    """Frames that do not compress, so that a file cut by bytes is cut by time as well."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), np.uint8) for _ in range(count)]


def test_frames_in_order_with_their_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(30), fps=NTSC)
    with open_source(path) as source:
        assert source.info.kind == "video"
        assert source.info.name == str(path)
        assert source.info.size == (96, 128)
        assert source.info.fps == NTSC
        assert source.info.frames == 30
        assert source.paths == (path,)
        frames = list(source)
    assert [f.index for f in frames] == list(range(30))
    assert [f.timestamp_s for f in frames] == pytest.approx([i / NTSC for i in range(30)], abs=1e-9)
    assert {f.source_id for f in frames} == {str(path)}
    for frame, expected in zip(frames, moving_box(30), strict=True):
        assert frame.pixels.flags.c_contiguous
        assert frame.pixels.flags.writeable
        assert np.abs(frame.pixels.astype(int) - expected).mean() < 6
    assert sum(f.decode_s for f in frames) > 0


def test_a_source_can_be_read_twice(tmp_path: Path) -> None:
    source = VideoSource(write_video(tmp_path / "a.mp4", moving_box(5)))
    first, second = list(source), list(source)
    assert len(first) == len(second) == 5
    assert all((a.pixels == b.pixels).all() for a, b in zip(first, second, strict=True))


def test_frames_stay_as_they_are_after_later_ones_were_read(tmp_path: Path) -> None:
    source = VideoSource(write_video(tmp_path / "a.mp4", moving_box(40)))
    kept, copies = [], []
    for frame in source:
        kept.append(frame.pixels)
        copies.append(frame.pixels.copy())
    assert all((a == b).all() for a, b in zip(kept, copies, strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_variable_frame_rate(tmp_path: Path, suffix: str) -> None:
    ticks = [0, 40, 100, 110, 500, 520, 1000]
    path = write_video(tmp_path / f"vfr{suffix}", moving_box(len(ticks)), ticks=ticks)
    assert [f.timestamp_s for f in VideoSource(path)] == pytest.approx([t / 1000 for t in ticks], abs=1e-4)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts", ".mov"])
def test_times_start_at_zero_and_rise(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}", moving_box(50))
    problems: list[SourceError] = []
    source = VideoSource(path)
    source.on_problem = problems.append
    assert [f.timestamp_s for f in source] == pytest.approx([i / 25 for i in range(50)], abs=2e-3)
    assert source.info.frames == 50
    assert not problems


def test_a_file_whose_times_begin_anew_goes_on(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", moving_box(75))
    path.write_bytes(path.read_bytes() * 2)  # cat a.ts a.ts
    times = [frame.timestamp_s for frame in VideoSource(path)]
    assert times == pytest.approx([i / 25 for i in range(150)])
    assert [frame.timestamp_s for frame in VideoSource(path)] == times


@pytest.mark.parametrize(("encoder", "step"), [({"bf": "3", "b-adapt": "0"}, 40), ({"tune": "zerolatency"}, 70)])
def test_avi_repeats_frames_by_empty_packets(tmp_path: Path, encoder: dict[str, str], step: int) -> None:
    ticks = [i * step for i in range(30)]
    problems: list[SourceError] = []
    source = VideoSource(write_video(tmp_path / "a.avi", moving_box(30), ticks=ticks, encoder=encoder))
    source.on_problem = problems.append
    assert [f.timestamp_s for f in source] == pytest.approx([t / 1000 for t in ticks], abs=1e-3)
    assert source.info.frames == 30
    assert source.info.fps == pytest.approx(1000 / step, rel=0.03)  # the muxer gives the last one 40 ms
    assert not problems


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_avi_with_empty_packets_is_cut_short(tmp_path: Path, share: float) -> None:
    ticks = [0, 40, 100, 110, 500, 520, 2000, 2040]
    path = cut(write_video(tmp_path / "a.avi", _noise(8), ticks=ticks, encoder={"tune": "zerolatency"}), share)
    problems: list[SourceError] = []
    source = VideoSource(path)
    source.on_problem = problems.append
    assert 2 <= len(list(source)) < 8
    assert len(problems) == 1
    assert "is cut short" in str(problems[0])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_display_matrix(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    stored = picture((48, 80), box=(0, 0, 24, 16))
    stored[32:, 64:] = (255, 0, 0)
    path = write_video(tmp_path / "turned.mp4", [stored] * 3, rotation=rotation, mirrored=mirrored)
    shown = np.rot90(stored, rotation // 90)
    shown = shown[:, ::-1] if mirrored else shown
    source = VideoSource(path)
    assert source.info.size == shown.shape[:2]
    for frame in source:
        assert frame.size == shown.shape[:2]
        assert frame.pixels.flags.c_contiguous
        assert np.abs(frame.pixels.astype(int) - shown).mean() < 6


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 9])  # BT.709, BT.601, BT.2020
def test_colour_matrix_and_range_are_honoured(tmp_path: Path, matrix: int, full_range: bool) -> None:
    image = picture(box=(0, 0, 64, 48), colour=(30, 200, 60))
    path = write_video(
        tmp_path / "colour.mp4", [image] * 3, colorspace=matrix, full_range=full_range, encoder={"crf": "1"}
    )
    for frame in VideoSource(path):
        assert np.abs(frame.pixels.astype(int) - image).max() <= 4


class _Odd(Watcher):
    def wants(self, index: int, timestamp_s: float) -> bool:
        assert timestamp_s == pytest.approx(index / 25, abs=1e-3)
        return index % 2 == 1


def test_frames_that_nobody_wants(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / name, moving_box(5)) for name in ("a.mp4", "b.mp4")]
    source = open_source(paths)
    source.watcher = _Odd()
    assert [f.index for f in source] == [1, 3, 1, 3]


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    image = picture(size)
    path = write_video(tmp_path / "odd.mkv", [image] * 3, codec="ffv1", pix_fmt="bgr0")
    frames = list(VideoSource(path))
    assert len(frames) == 3
    assert all((f.pixels == image).all() for f in frames)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".flv", ".mpg"])
def test_cut_short(tmp_path: Path, suffix: str) -> None:
    muxer = {"movflags": "faststart"} if suffix in (".mp4", ".mov") else {}
    path = cut(write_video(tmp_path / f"cut{suffix}", _noise(50), muxer=muxer), 0.6)
    problems: list[SourceError] = []
    source = VideoSource(path)
    source.on_problem = problems.append
    frames = list(source)
    assert 20 <= len(frames) <= 32
    assert len(problems) == 1
    assert "is cut short" in str(problems[0])
    assert f"{len(frames)} frames" in str(problems[0])


class _Failing:
    """A container on a disk that fails at a packet."""

    def __init__(self, container: InputContainer, at: int) -> None:
        self._container, self._at = container, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self, stream: VideoStream) -> Iterator[av.Packet[VideoStream]]:
        yield from itertools.islice(self._container.demux(stream), self._at)
        raise av.error.OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """Nothing that was read is lost: not what the decoder holds back for those that are shown before it, either."""
    source = VideoSource(write_video(tmp_path / f"a{suffix}", moving_box(50), encoder={"bf": "3", "b-adapt": "0"}))
    opened = video._opened

    @contextlib.contextmanager
    def failing(path: Path) -> Iterator[tuple[Any, VideoStream]]:
        with opened(path) as (container, stream):
            yield _Failing(container, 40), stream

    monkeypatch.setattr(video, "_opened", failing)
    problems: list[SourceError] = []
    source.on_problem = problems.append
    assert len(list(source)) == 40
    assert "is cut short; the 40 frames" in str(problems[0])


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    path = write_video(tmp_path / "hole.mp4", _noise(50), muxer={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    problems: list[SourceError] = []
    source = VideoSource(path)
    source.on_problem = problems.append
    assert len(list(source)) >= 25
    assert "is damaged" in str(problems[0])


class _Corrupt(Watcher):
    count = 0

    def corrupt(self) -> None:
        self.count += 1


def test_a_packet_of_a_transport_stream_is_missing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", _noise(50))
    data = path.read_bytes()
    middle = len(data) // 188 // 2 * 188
    path.write_bytes(data[:middle] + data[middle + 188 :])
    problems: list[SourceError] = []
    source, watcher = VideoSource(path), _Corrupt()
    source.on_problem, source.watcher = problems.append, watcher
    assert len(list(source)) == 50
    assert "is damaged (1 packets are not whole); the 50 frames" in str(problems[0])
    assert watcher.count == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video at all" * 100,
        b"lines\nof\ntext\n" * 99,
        b"#EXTM3U\n#EXTINF:1,\na.ts\n",
        b"ffconcat version 1.0\n",
    ],
)
def test_not_a_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"bad\.mp4: (not a video|the video is empty)"):
        open_source(path)


def test_motion_jpeg_with_a_picture_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    data = cv2.imencode(".jpg", picture())[1].tobytes()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        for number in range(10):
            packet = av.Packet(data[:-200] if number == 4 else data)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = True
            container.mux(packet)
    problems: list[SourceError] = []
    with open_source(path) as source:
        source.on_problem = problems.append
        times = [frame.timestamp_s for frame in source]
    assert times == pytest.approx([i / 25 for i in range(10) if i != 4])
    assert "is damaged (1 packets cannot be decoded)" in str(problems[0])


def test_index_is_missing(tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "cut.mp4", moving_box(50)), 0.5)  # its index stands at the end
    with pytest.raises(SourceError, match="not a video, or a damaged one"):
        open_source(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        VideoSource(tmp_path / "none.mp4")


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(SourceError, match="no video stream, got audio"):
        open_source(path)


def test_nothing_can_be_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "none.mp4", _noise(10), muxer={"movflags": "faststart"})
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))
    with pytest.raises(SourceError, match="no frames"):
        list(VideoSource(path))


def test_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "none.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(SourceError, match="no video stream"):
        list(VideoSource(path))


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r'pip install "yolotrt\[video\]"'):
        open_source(path)


def test_frames_are_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    path = write_video(tmp_path / "turned.mp4", moving_box(10), rotation=90)
    gc.collect()
    gc.disable()
    try:
        with open_source(path) as source:
            list(source)
        held = [o for o in gc.get_objects() if type(o) is av.VideoFrame]  # isinstance asks lazy objects of others
    finally:
        gc.enable()
    assert held == []


_RSS = """
import sys
from yolotrt.sources import open_source
def rss():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096
marks = {}
for frame in open_source(sys.argv[1]):
    if frame.index in (200, 1999):
        marks[frame.index] = rss()
print(marks[1999] - marks[200])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")  # noqa: PTH110
def test_memory_stays_flat(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", moving_box(2000), encoder={"preset": "ultrafast"})
    run = subprocess.run([sys.executable, "-c", _RSS, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 8 << 20


def test_sound_that_begins_late_costs_no_picture(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.flv", moving_box(250)).read_bytes()
    loud = write_with_sound(tmp_path / "loud.flv").read_bytes()
    (tmp_path / "a.flv").write_bytes(silent + loud[13:])  # without its header
    source = VideoSource(tmp_path / "a.flv")
    problems: list[SourceError] = []
    source.on_problem = problems.append
    assert len(list(source)) == 250 + 45
    assert problems == []


def test_pictures_that_damage_has_given_another_colour_matrix(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mpg", moving_box(36), codec="mpeg2video", colorspace=1)
    data = bytearray(path.read_bytes())
    display = re.compile(rb"\x00\x00\x01\xb5[\x20-\x2f]")  # sequence_display_extension, one for each group of pictures
    second = [found.end() for found in display.finditer(data)][1]
    data[second + 2] = 65  # matrix_coefficients, of which there are 14
    path.write_bytes(data)
    source, watcher, problems = VideoSource(path), _Corrupt(), list[SourceError]()
    source.on_problem, source.watcher = problems.append, watcher
    frames = list(source)
    assert 20 < len(frames) < 36
    assert len(frames) + watcher.count == 36
    assert f"({watcher.count} packets cannot be decoded); the {len(frames)} frames" in str(problems[0])


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(5))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"xvc1"))
    with pytest.raises(SourceError, match="FFmpeg does not know the codec of the video"):
        open_source(path)
