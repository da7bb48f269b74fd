from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.media import moving_box, picture, video_frames, video_times
from yolotrt.errors import MissingExtraError, SinkError
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
