from __future__ import annotations

import gc
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.media import moving_box, picture, video_frames, video_times
from yolotrt.errors import MissingExtraError, SinkError
from yolotrt.sinks import h264
from yolotrt.sinks.video_file import VideoFile


def test_pixels_and_tags(tmp_path: Path) -> None:
    target = tmp_path / "deeper" / "a.mp4"
    image = picture((96, 128), box=(0, 0, 128, 96), colour=(30, 200, 60))
    video = VideoFile(target, (96, 128), fps=Fraction(25))
    for i in range(10):
        video.write(image, i / 25)
    assert not target.exists()  # whole or absent
    video.close()
    assert [p.name for p in target.parent.iterdir()] == ["a.mp4"]
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width, stream.frames) == (96, 128, 10)
        frame = next(container.decode(stream))
        assert (frame.colorspace, frame.color_range, frame.color_primaries) == (1, 1, 1)  # BT.709, limited
    assert all(np.abs(f.astype(int) - image).mean() < 4 for f in video_frames(target))


@pytest.mark.parametrize(
    "time_base",
    [None, Fraction(1, 1000), Fraction(1, 30000), Fraction(1, 25), Fraction(1001, 30000), Fraction(1, 10**9)],
)
def test_times_are_kept(tmp_path: Path, time_base: Fraction | None) -> None:
    times = [0.0, 0.04, 0.08, 0.2, 0.24, 1.0, 3.2]
    video = VideoFile(tmp_path / "a.mp4", (96, 128), time_base=time_base)
    for pixels, time in zip(moving_box(len(times)), times, strict=True):
        video.write(pixels, time)
    video.close()
    tolerance = float(max((time_base or 0) / 2, Fraction(1, 10_000)))
    assert video_times(tmp_path / "a.mp4") == pytest.approx(times, abs=tolerance)


def test_ntsc_times_are_exact(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "a.mp4", (96, 128), fps=Fraction(30000, 1001), time_base=Fraction(1, 30000))
    for i, pixels in enumerate(moving_box(60)):
        video.write(pixels, i * 1001 / 30000)
    video.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        ticks = [f.pts * f.time_base for f in container.decode(video=0) if f.pts is not None and f.time_base]
    assert ticks == [Fraction(i * 1001, 30000) for i in range(60)]


def test_times_that_stand_still_or_run_back(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "a.mp4", (96, 128), time_base=Fraction(1, 1000))
    for pixels, time in zip(moving_box(5), [0.0, 0.1, 0.1, 0.05, 0.2], strict=True):
        video.write(pixels, time)
    video.close()
    assert video_times(tmp_path / "a.mp4") == pytest.approx([0, 0.1, 0.101, 0.102, 0.2])


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64), (1, 1)])
def test_odd_sizes_are_padded(tmp_path: Path, size: tuple[int, int]) -> None:
    video = VideoFile(tmp_path / "a.mp4", size)
    image = picture(size, box=(0, 0, size[1], size[0]), colour=(200, 60, 30))
    for i in range(3):
        video.write(image, i / 25)
    video.close()
    for frame in video_frames(tmp_path / "a.mp4"):
        assert frame.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
        assert np.abs(frame.astype(int) - image[0, 0]).max() < 25


def test_frames_of_another_size_are_scaled(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "a.mp4", (96, 128))
    for i, size in enumerate([(96, 128), (48, 64), (97, 129)]):
        video.write(picture(size), i / 25)
    video.close()
    assert {f.shape for f in video_frames(tmp_path / "a.mp4")} == {(96, 128, 3)}


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot write"):
        VideoFile(tmp_path / "file" / "a.mp4", (96, 128))


# A limit on the size of files stands in for a full disk; the writes fail in the same place.
_FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from yolotrt.errors import SinkError
from yolotrt.sinks import h264
from yolotrt.sinks.video_file import VideoFile
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
rng = np.random.default_rng(0)
video = VideoFile(Path(sys.argv[1]), (480, 640))
try:
    for i in range(int(sys.argv[2])):
        video.write(rng.integers(0, 255, (480, 640, 3), np.uint8), i / 25)
    video.close()
except SinkError as e:
    print(e)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
@pytest.mark.parametrize("frames", [1, 100])  # noticed when the file is finished, and before
def test_full_disk(tmp_path: Path, frames: int) -> None:
    target = tmp_path / "a.mp4"
    run = subprocess.run([sys.executable, "-c", _FULL, target, str(frames)], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"cannot write {target}")
    assert list(tmp_path.iterdir()) == []


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match="writing videos"):
        VideoFile(tmp_path / "a.mp4", (96, 128))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif("h264_nvenc" not in av.codecs_available, reason="this FFmpeg has no NVENC")
def test_without_a_gpu_x264_encodes_unless_nvenc_is_demanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if VideoFile(tmp_path / "probe.mp4", (96, 128)).encoder == "h264_nvenc":
        pytest.skip("there is an encoder in the GPU here")
    # A machine with a driver and a GPU that cannot encode is told so, once.
    monkeypatch.setattr(h264, "_has_nvidia_driver", lambda: True)
    h264._say_once.cache_clear()
    for name in ("a.mp4", "b.mp4"):
        video = VideoFile(tmp_path / name, (96, 128))
        assert video.encoder == "libx264"
        video.write(picture((96, 128)), 0.0)
        video.close()
    assert [r.getMessage().partition(" (")[0] for r in caplog.records] == ["h264_nvenc cannot be opened here"]
    with pytest.raises(SinkError, match="the video encoder h264_nvenc cannot be opened"):
        VideoFile(tmp_path / "c.mp4", (96, 128), encoder="nvenc")
    assert not (tmp_path / "c.mp4").exists()


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.support.media import moving_box
from yolotrt.sinks import h264
from yolotrt.sinks.video_file import VideoFile
video = VideoFile(Path(sys.argv[1]), (96, 128), fps=25, live=True)
for i, pixels in enumerate(moving_box(200)):
    video.write(pixels, i / 25)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_live_video_outlives_its_process(tmp_path: Path) -> None:
    target = tmp_path / "deeper" / "a.mp4"
    run = subprocess.run([sys.executable, "-c", _KILLED, target], cwd=Path(__file__).parents[2])
    assert run.returncode == -9
    assert [p.name for p in target.parent.iterdir()] == ["a.mp4"]
    times = video_times(target)
    assert times == pytest.approx([i / 25 for i in range(len(times))])
    assert 100 < len(times) < 200  # all but the last second or two


def test_a_live_video_is_an_ordinary_one_when_closed(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    video = VideoFile(target, (96, 128), fps=Fraction(25), live=True)
    for i, pixels in enumerate(moving_box(100)):
        video.write(pixels, i / 25)
    assert target.exists()
    video.close()
    assert video_times(target) == pytest.approx([i / 25 for i in range(100)])
    with av.open(str(target)) as container:
        assert container.streams.video[0].frames == 100  # counted in its index, not in pieces


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_full_disk_leaves_the_live_video_so_far(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    code = _FULL.replace("(480, 640))\ntry", "(480, 640), live=True)\ntry").replace("100_000", "1_000_000")
    code = code.replace("480, 640", "96, 128")
    run = subprocess.run([sys.executable, "-c", code, target, "300"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"cannot write {target}")
    assert 20 < len(video_times(target)) < 300
    assert target.stat().st_size < 1_000_000  # without the torn piece


def test_a_finished_video_leaves_no_encoder_behind(tmp_path: Path) -> None:
    def encoders() -> int:
        return sum(type(o).__name__ == "VideoStream" for o in gc.get_objects())

    gc.collect()
    before = encoders()
    for i in range(3):
        video = VideoFile(tmp_path / f"{i}.mp4", (96, 128), live=True)
        video.write(picture((96, 128)), 0.0)
        assert encoders() > before
        video.close()
    assert encoders() == before


def test_a_live_video_can_be_entered_every_two_seconds(tmp_path: Path) -> None:
    """However few pictures a camera has."""
    video = VideoFile(tmp_path / "a.mp4", (96, 128), fps=Fraction(30), live=True)
    for second in range(9):
        video.write(picture((96, 128)), float(second))
    video.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        starts = [float(p.pts * p.time_base) for p in container.demux(stream) if p.pts is not None and p.is_keyframe]
    assert starts == pytest.approx([0, 2, 4, 6, 8])
