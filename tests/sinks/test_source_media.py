"""Annotated copies keep the sound, and every picture at its time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from tests.support.media import cut, moving_box, video_times, write_video
from tests.support.results import frame_result
from tests.support.sound import sound_of, write_with_sound
from yolotrt.sinks import AnnotatedSink
from yolotrt.sources import open_source


def _copy(path: Path, folder: Path, *, stop_at: int | None = None) -> Path:
    """The annotated copy of a video; interrupted behind frame `stop_at`."""
    with open_source(path) as source:
        sink = AnnotatedSink(folder, source)
        for frame in source:
            sink.write(frame_result(frame.pixels, frame.source_id, index=frame.index, timestamp_s=frame.timestamp_s))
            if frame.index == stop_at:
                break
        if stop_at is None:
            sink.close()
        else:
            sink.abort()
    (copy,) = sink.outputs
    return copy


def _exact_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [f.pts * f.time_base for f in container.decode(video=0) if f.pts is not None and f.time_base]


def _click_s(samples: npt.NDArray[np.float32], start: float) -> float:
    """When the first click begins."""
    return start + int(np.argmax(np.abs(samples) > 0.3)) / 48_000


@pytest.mark.parametrize("starts", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.25), (0.5, 0.7)])
def test_copied_sound_and_late_starts(tmp_path: Path, starts: tuple[float, float]) -> None:
    path = write_with_sound(tmp_path / "a.mp4", picture_start_s=starts[0], sound_start_s=starts[1])
    copy = _copy(path, tmp_path / "out")
    assert _exact_times(copy) == _exact_times(path)  # 29.97 frames a second, to the tick
    assert len(_exact_times(copy)) == 45
    codec, start, end, samples = sound_of(copy)
    _, start_before, end_before, samples_before = sound_of(path)
    assert codec == "aac"
    assert (start, end) == pytest.approx((start_before, end_before), abs=1e-3)
    assert np.array_equal(samples, samples_before)  # not encoded once more


@pytest.mark.parametrize(
    ("name", "codec", "kept"),
    [("a.mkv", "pcm_s16le", "aac"), ("a.mkv", "libopus", "opus"), ("a.mkv", "flac", "flac"), ("a.mkv", "mp3", "mp3")],
)
def test_sound_of_other_containers(tmp_path: Path, name: str, codec: str, kept: str) -> None:
    path = write_with_sound(tmp_path / name, codec=codec)
    copy = _copy(path, tmp_path / "out")
    found, start, end, samples = sound_of(copy)
    _, start_before, end_before, samples_before = sound_of(path)
    assert found == kept
    assert _click_s(samples, start) == pytest.approx(_click_s(samples_before, start_before), abs=0.03)
    assert end == pytest.approx(end_before, abs=0.06)
    assert len(video_times(copy)) == 45


def test_a_transport_stream_begins_at_its_own_start(tmp_path: Path) -> None:
    # Its clock begins anywhere, here at 7 s; the pictures begin half a second behind the sound.
    path = write_with_sound(tmp_path / "a.ts", picture_start_s=7.5, sound_start_s=7.0)
    copy = _copy(path, tmp_path / "out")
    before = video_times(path)
    start = before[0] - sound_of(path)[1]
    assert start == pytest.approx(0.5, abs=0.05)
    assert video_times(copy) == pytest.approx([t - before[0] + start for t in before], abs=1e-4)
    codec, sound_start, _, samples = sound_of(copy)
    assert codec == "aac"
    assert sound_start == pytest.approx(0.0, abs=1e-3)
    assert np.array_equal(samples, sound_of(path)[3])


def test_every_track_is_kept(tmp_path: Path) -> None:
    copy = _copy(write_with_sound(tmp_path / "a.mp4", tracks=2), tmp_path / "out")
    assert sound_of(copy, 1)[0] == "aac"


def test_an_interrupt_ends_the_sound_with_the_pictures(tmp_path: Path) -> None:
    path = write_with_sound(tmp_path / "a.mp4", frames=90, seconds=3)
    copy = _copy(path, tmp_path / "out", stop_at=29)
    assert len(video_times(copy)) == 30
    assert sound_of(copy)[2] == pytest.approx(30 * 1001 / 30_000, abs=0.05)


def test_sound_that_goes_on_behind_the_pictures(tmp_path: Path) -> None:
    copy = _copy(write_with_sound(tmp_path / "a.mp4", frames=30, seconds=3), tmp_path / "out")
    assert sound_of(copy)[2] == pytest.approx(3.0, abs=0.05)


def test_a_file_cut_short_keeps_both(tmp_path: Path) -> None:
    path = cut(write_with_sound(tmp_path / "a.mkv", frames=90, seconds=3), 0.6)
    with open_source(path) as source:
        source.on_problem = lambda _: None
        frames = sum(1 for _ in source)
        sink = AnnotatedSink(tmp_path / "out", source)
        for frame in source:
            sink.write(frame_result(frame.pixels, frame.source_id, index=frame.index, timestamp_s=frame.timestamp_s))
        sink.close()
    assert 10 < len(video_times(sink.outputs[0])) == frames < 90
    assert 0.3 < sound_of(sink.outputs[0])[2] < 2.9


def test_variable_times_with_b_frames_and_rotation(tmp_path: Path) -> None:
    ticks = [0, 40, 100, 110, 500, 520, 1000, 1040, 1500, 1501]
    path = write_video(tmp_path / "a.mp4", moving_box(10), ticks=ticks, rotation=90, encoder={"bf": "3"})
    copy = _copy(path, tmp_path / "out")
    assert _exact_times(copy) == _exact_times(path)
    with av.open(str(copy)) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (128, 96)  # upright, without a display matrix


def test_sound_that_ffmpeg_does_not_know_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As the spatial sound of newer phones."""
    path = write_with_sound(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"apac").replace(b"esds", b"dapa"))
    copy = _copy(path, tmp_path / "out")
    assert len(_exact_times(copy)) == 45
    assert "sound track 1 cannot be kept (FFmpeg does not know its codec)" in caplog.text


def test_a_title_that_is_no_unicode(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Caf#"
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for pixels in moving_box(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode(None))
    assert b"Caf#" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"Caf#", b"Caf\xe9"))
    assert len(_exact_times(_copy(path, tmp_path / "out"))) == 5


def test_damaged_sound_costs_no_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_with_sound(tmp_path / "a.ts")
    data = bytearray(path.read_bytes())
    header = bytes(data).index(b"\xff\xf1", len(data) // 2)  # of AAC
    data[header : header + 2] = b"\x00\x00"
    path.write_bytes(data)
    copy = _copy(path, tmp_path / "out")
    assert len(video_times(copy)) == 45
    assert sound_of(copy)[0] == "aac"
    assert caplog.text.count("some of its sound is damaged") == 1
