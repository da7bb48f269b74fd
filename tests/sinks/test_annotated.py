from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.media import moving_box, picture, video_frames, video_times, write_video
from tests.support.results import frame_result
from yolotrt.errors import CudaError, SinkError, UsageError
from yolotrt.sinks import AnnotatedSink
from yolotrt.sinks.annotated import AnnotatedOptions
from yolotrt.sinks.limits import Limit
from yolotrt.sinks.pictures import Names, save
from yolotrt.sources import ArraysSource, SourceInfo, SourceSpec, open_source, read_image
from yolotrt.types import FrameResult, ImageU8


def _annotate(spec: SourceSpec, folder: Path) -> list[str]:
    """Run a source through the sink; the names of what it wrote."""
    with open_source(spec) as source:
        sink = AnnotatedSink(folder, source)
        for frame in source:
            sink.write(frame_result(frame.pixels, frame.source_id, index=frame.index, timestamp_s=frame.timestamp_s))
        sink.close()
    assert all(path.parent == folder for path in sink.outputs)
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in sink.outputs)
    return [path.name for path in sink.outputs]


def _pictures(folder: Path, names: Sequence[str]) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = path.suffix.lower() if path.suffix.lower() not in (".jfif", ".mpo", "") else ".jpg"
        pixels = picture() if suffix not in (".pgm", ".pbm") else picture()[..., 0]
        path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    return paths


def test_pictures_keep_name_and_format(tmp_path: Path) -> None:
    names = ["a.jpg", "b.PNG", "c.bmp", "d.webp", "e.tiff", "f.jpeg", "g g ü.png"]
    assert _annotate(_pictures(tmp_path / "in", names), tmp_path / "out") == names
    magics = {"a.jpg": b"\xff\xd8", "b.PNG": b"\x89PNG", "c.bmp": b"BM", "d.webp": b"RIFF", "e.tiff": b"II*\0"}
    for name, magic in magics.items():
        assert (tmp_path / "out" / name).read_bytes().startswith(magic)
        pixels = read_image(tmp_path / "out" / name)
        assert pixels.shape == (48, 64, 3)
        assert np.abs(pixels.astype(int) - picture()).max() > 50  # something is drawn on it


def test_webp_is_as_small_as_jpeg(tmp_path: Path) -> None:
    """OpenCV writes it without loss by itself, ten times as large."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    for name in ("a.webp", "a.jpg"):
        save(tmp_path / name, noise)
    assert (tmp_path / "a.webp").stat().st_size < 1.2 * (tmp_path / "a.jpg").stat().st_size


def test_formats_that_cannot_be_written_become_the_nearest(tmp_path: Path) -> None:
    paths = _pictures(tmp_path / "in", ["a.jfif", "b.pgm", "c"])
    assert _annotate(paths, tmp_path / "out") == ["a.jpg", "b.ppm", "c.png"]


def test_names_that_collide(tmp_path: Path) -> None:
    paths = _pictures(tmp_path, ["in1/a.png", "in2/a.png", "in3/A.PNG", "in4/a-2.png"])
    assert _annotate(paths, tmp_path / "out") == ["a.png", "a-2.png", "A-3.PNG", "a-2-2.png"]


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    paths = _pictures(tmp_path / "in", ["a.png"])
    assert _annotate(paths, tmp_path / "out") == _annotate(paths, tmp_path / "out") == ["a.png"]


def test_videos_keep_their_times(tmp_path: Path) -> None:
    ticks = [0, 40, 100, 110, 500, 520, 1000]
    path = write_video(tmp_path / "in" / "vfr.mkv", moving_box(len(ticks)), ticks=ticks)
    assert _annotate(path, tmp_path / "out") == ["vfr.mp4"]
    assert video_times(tmp_path / "out" / "vfr.mp4") == pytest.approx([t / 1000 for t in ticks], abs=1e-4)
    for frame, source in zip(video_frames(tmp_path / "out" / "vfr.mp4"), moving_box(len(ticks)), strict=True):
        assert 3 < np.abs(frame.astype(int) - source).mean() < 60


def test_pictures_and_videos_mixed(tmp_path: Path) -> None:
    first, second = _pictures(tmp_path / "in", ["a.png", "b.png"])
    video = write_video(tmp_path / "in" / "v.mkv", moving_box(4))
    other = write_video(tmp_path / "more" / "v.mp4", moving_box(6))
    names = _annotate([first, video, video, other, second], tmp_path / "out")
    assert names == ["a.png", "v.mp4", "v-2.mp4", "v-3.mp4", "b.png"]
    assert [len(video_times(tmp_path / "out" / n)) for n in names[1:4]] == [4, 4, 6]


def test_arrays_get_names(tmp_path: Path) -> None:
    assert _annotate([picture(), picture()], tmp_path / "out") == ["array-0.png", "array-1.png"]


def test_abort_keeps_a_playable_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "in" / "v.mp4", moving_box(30))
    with open_source(path) as source:
        sink = AnnotatedSink(tmp_path / "out", source)
        for frame in source:
            sink.write(frame_result(frame.pixels, frame.source_id, index=frame.index, timestamp_s=frame.timestamp_s))
            if frame.index == 11:
                break
        sink.abort()
    assert len(video_times(tmp_path / "out" / "v.mp4")) == 12


def test_own_folder_is_refused(tmp_path: Path) -> None:
    path = _pictures(tmp_path, ["a.png"])[0]
    before = path.read_bytes()
    with open_source(path) as source, pytest.raises(UsageError, match="would replace"):
        AnnotatedSink(tmp_path / "x" / "..", source)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("read", "written"), [("links", "links"), ("real", "links"), ("links", "real")])
def test_a_folder_of_links_to_the_source_or_from_it_is_refused(tmp_path: Path, read: str, written: str) -> None:
    real = _pictures(tmp_path / "real", ["a.png"])[0]
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.png").symlink_to(real)
    before = real.read_bytes()
    with open_source(tmp_path / read) as source, pytest.raises(UsageError, match="would replace"):
        AnnotatedSink(tmp_path / written, source)
    assert (tmp_path / "links" / "a.png").is_symlink()
    assert real.read_bytes() == before


def test_links_to_other_files_are_no_reason_to_refuse_a_folder(tmp_path: Path) -> None:
    path = _pictures(tmp_path / "in", ["a.png"])[0]
    (tmp_path / "out").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "out" / "a.png").symlink_to("../disk/a.png")
    with open_source(path) as source:
        sink = AnnotatedSink(tmp_path / "out", source)
        sink.write(frame_result(picture(), str(path)))
        sink.close()
    assert (tmp_path / "out" / "a.png").is_symlink()
    assert (tmp_path / "disk" / "a.png").is_file()


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with open_source(picture()) as source, pytest.raises(SinkError, match="cannot write"):
        AnnotatedSink(tmp_path / "file" / "out", source)


def _live(name: str = "rtsp://host/street") -> ArraysSource:
    source = ArraysSource([picture()])
    source.info = SourceInfo(kind="stream", name=name, fps=Fraction(25), live=True)
    return source


def _record(
    sink: AnnotatedSink, numbers: Iterable[int], size: tuple[int, int] = (96, 128), start_s: float = 7.0
) -> None:
    for i in numbers:
        sink.write(frame_result(picture(size), "rtsp://host/street", index=i, timestamp_s=start_s + i / 25))


def test_live_streams_begin_at_zero_and_are_there_from_the_start(tmp_path: Path) -> None:
    sink = AnnotatedSink(tmp_path, _live())
    _record(sink, range(30))
    (path,) = tmp_path.iterdir()
    assert re.fullmatch(r"street-\d{8}-\d{6}\.mp4", path.name)
    sink.abort()
    assert sink.outputs == [path]
    assert video_times(path) == pytest.approx([i / 25 for i in range(30)], abs=1e-3)


def test_live_streams_can_be_split_by_time(tmp_path: Path) -> None:
    sink = AnnotatedSink(tmp_path, _live(), AnnotatedOptions(split=Limit(seconds=1)), name="gate 1")
    _record(sink, range(60))
    sink.close()
    assert [len(video_times(path)) for path in sink.outputs] == [25, 25, 10]
    assert all(video_times(path)[0] == 0 for path in sink.outputs)
    assert all(path.name.startswith("gate 1-") for path in sink.outputs)
    assert sorted(sink.outputs) == sorted(tmp_path.iterdir())


def test_live_streams_can_be_split_by_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sink = AnnotatedSink(tmp_path, _live(), AnnotatedOptions(split=Limit(size=200_000)))
    for i in range(100):
        noise = rng.integers(0, 255, (96, 128, 3), np.uint8)
        sink.write(frame_result(noise, "rtsp://host/street", index=i, timestamp_s=i / 25))
    sink.close()
    assert len(sink.outputs) > 1
    assert sum(len(video_times(path)) for path in sink.outputs) == 100


def test_another_size_or_a_clock_that_begins_anew_takes_another_file(tmp_path: Path) -> None:
    sink = AnnotatedSink(tmp_path, _live())
    _record(sink, range(10))
    _record(sink, range(10, 20), size=(48, 64))
    _record(sink, range(20, 30), size=(48, 64), start_s=0.0)  # the camera was started again
    sink.close()
    assert [len(video_times(path)) for path in sink.outputs] == [10, 10, 10]
    assert video_frames(sink.outputs[1])[0].shape == (48, 64, 3)


def test_streams_that_share_a_folder(tmp_path: Path) -> None:
    names = Names()
    sinks = [AnnotatedSink(tmp_path, _live(), name="cam", names=names) for _ in range(2)]
    for sink in sinks:
        _record(sink, range(5))
    for sink in sinks:
        sink.close()
    assert len({path for sink in sinks for path in sink.outputs}) == 2


def test_runs_that_share_a_folder_and_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolotrt.sinks.annotated.stamp", lambda: "20261129-083000")
    sinks = [AnnotatedSink(tmp_path, _live()) for _ in range(3)]
    for sink, count in zip(sinks, (5, 6, 7), strict=True):
        _record(sink, range(count))
    for sink in sinks:
        sink.close()
    found = {path.name: len(video_times(path)) for path in tmp_path.iterdir()}
    begin = "street-20261129-083000"
    assert found == {f"{begin}.mp4": 5, f"{begin}-2.mp4": 6, f"{begin}-3.mp4": 7}


def test_a_folder_that_is_cleared_away_meanwhile_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    sink = AnnotatedSink(folder, _live(), AnnotatedOptions(split=Limit(seconds=1)))
    _record(sink, range(25))
    shutil.rmtree(folder)
    _record(sink, range(25, 30))
    sink.close()
    assert [len(video_times(path)) for path in folder.iterdir()] == [5]


def test_what_cannot_be_drawn_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: FrameResult) -> ImageU8:
        raise CudaError("the GPU is lost")

    monkeypatch.setattr("yolotrt.sinks.annotated.draw_result", fail)
    sink = AnnotatedSink(tmp_path, _live())
    with pytest.raises(CudaError):
        _record(sink, [0])
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_live_streams_may_stay_whole(tmp_path: Path) -> None:
    sink = AnnotatedSink(tmp_path, _live(), AnnotatedOptions(split=None))
    for seconds in (0, 3599, 7300):
        sink.write(frame_result(picture(), "rtsp://host/street", index=seconds, timestamp_s=seconds))
    sink.close()
    assert [len(video_times(path)) for path in sink.outputs] == [3]


def test_live_streams_are_split_by_the_hour_unless_told_otherwise(tmp_path: Path) -> None:
    sink = AnnotatedSink(tmp_path, _live())
    for seconds in (0, 3599, 3600, 7300):
        sink.write(frame_result(picture(), "rtsp://host/street", index=seconds, timestamp_s=seconds))
    sink.close()
    assert [len(video_times(path)) for path in sink.outputs] == [2, 1, 1]


def test_copies_of_files_that_share_a_folder_have_names_in_the_order_of_the_streams(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / folder / "v.mp4", moving_box(3)) for folder in "ab"]
    names = Names()
    sources = [open_source(path) for path in paths]
    sinks = [AnnotatedSink(tmp_path / "out", source, names=names) for source in sources]
    for sink, path in reversed(list(zip(sinks, paths, strict=True))):  # the second one is faster
        sink.write(frame_result(picture((96, 128)), str(path)))
        sink.close()
    assert [path.name for sink in sinks for path in sink.outputs] == ["v.mp4", "v-2.mp4"]


def test_an_unknown_encoder() -> None:
    with pytest.raises(UsageError, match="option encoder is unknown, got gpu, expected auto"):
        AnnotatedOptions(encoder="gpu")  # type: ignore[arg-type]
