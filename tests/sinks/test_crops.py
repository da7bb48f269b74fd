from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support.media import moving_box, picture, write_video
from tests.support.results import frame_result
from yolotrt.errors import SinkError, UsageError
from yolotrt.sinks import CropsSink
from yolotrt.sinks.pictures import Names, save
from yolotrt.sources import ArraysSource, SourceInfo, open_source, read_image
from yolotrt.types import FrameResult


def _with_box(box: tuple[float, float, float, float], source_id: str = "a.png", *, name: str = "thing") -> FrameResult:
    result = frame_result(picture(box=(8, 8, 40, 40)), source_id)
    detections = replace(result.detections, xyxy=np.array([box], np.float32), names=(name,))
    return replace(result, detections=detections)


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_what_is_cut_out(tmp_path: Path) -> None:
    sink = CropsSink(tmp_path, ArraysSource([picture()]))
    sink.write(_with_box((8.4, 8.4, 39.5, 39.5)))
    sink.close()
    assert sink.outputs == [tmp_path / "thing"]
    crop = read_image(tmp_path / "thing" / "a-0.jpg")
    assert crop.shape == (32, 32, 3)  # every pixel that the box touches
    assert np.abs(crop.astype(int) - (0, 0, 255)).max() < 12


def test_boxes_beyond_the_picture(tmp_path: Path) -> None:
    sink = CropsSink(tmp_path, ArraysSource([picture()]))
    sink.write(_with_box((-10, 40, 10, 90), "a.png"))
    sink.write(_with_box((70, 50, 90, 60), "b.png"))  # outside
    sink.write(_with_box((20, 20, 20, 30), "c.png"))  # without area
    assert _files(tmp_path) == ["thing/a-0.jpg"]
    assert read_image(tmp_path / "thing" / "a-0.jpg").shape == (8, 10, 3)


def test_names(tmp_path: Path) -> None:
    pictures = ArraysSource([picture()])
    sink = CropsSink(tmp_path, pictures)
    for source_id in ("in/a.png", "other/a.png", "in/a.png"):
        sink.write(frame_result(picture(), source_id, boxes=2))
    names = ["a-0", "a-1", "a-2-0", "a-2-1", "a-3-0", "a-3-1"]
    assert _files(tmp_path) == [f"thing/{name}.jpg" for name in names]


def test_names_of_videos_and_live_streams(tmp_path: Path) -> None:
    path = write_video(tmp_path / "in" / "v.mp4", moving_box(2))
    with open_source([path, path]) as source:
        sink = CropsSink(tmp_path / "out", source)
        for frame in source:
            sink.write(frame_result(frame.pixels, frame.source_id, index=frame.index))
    names = ["v-000000-0", "v-000001-0", "v-2-000000-0", "v-2-000001-0"]
    assert _files(tmp_path / "out") == [f"thing/{name}.jpg" for name in names]
    live = ArraysSource([picture()])
    live.info = SourceInfo(kind="stream", name="rtsp://host/1", fps=Fraction(25), live=True)
    sink = CropsSink(tmp_path / "live", live, name="gate/1")
    sink.write(frame_result(picture(), "rtsp://host/1", index=7))
    (name,) = _files(tmp_path / "live")
    assert name.startswith("thing/gate_1-2")
    assert name.endswith("-000007-0.jpg")


def test_a_picture_called_as_a_frame_of_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "in" / "v.mp4", moving_box(2))
    image = tmp_path / "in" / "V-000001.png"
    save(image, picture())
    for number, named in enumerate(([path, image], [image, path])):
        folder = tmp_path / f"out{number}"
        with open_source(named) as source:
            sink = CropsSink(folder, source)
            for frame in source:
                sink.write(frame_result(frame.pixels, frame.source_id, index=frame.index))
        assert _files(folder) == [f"thing/{name}-0.jpg" for name in ("V-000001-2", "v-000000", "v-000001")]


def test_a_video_whose_frames_would_be_called_as_pictures_before_it() -> None:
    names = Names()
    assert names.free("v-000001") == "v-000001"
    assert names.free("V", series=True) == "V-2"
    assert names.free("v-2-000001") == "v-2-000001-2"
    assert names.free("v-12345") == "v-12345"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("traffic light", "traffic light"),
        ("../../etc", "_.._etc-0"),
        ("a/b", "a_b-0"),
        ("..", "_-0"),
        ("größe", "größe"),
    ],
)
def test_class_names_stay_inside_the_folder(tmp_path: Path, name: str, folder: str) -> None:
    sink = CropsSink(tmp_path / "out", ArraysSource([picture()]))
    sink.write(_with_box((1, 1, 20, 20), name=name))
    assert _files(tmp_path) == [f"out/{folder}/a-0.jpg"]


def test_a_folder_of_the_source_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "thing" / "v.mp4", moving_box(2))
    with open_source(path) as source, pytest.raises(UsageError, match="holds the pictures and videos"):
        CropsSink(tmp_path, source)


@pytest.mark.parametrize("folder", ["real", "links"])
def test_a_folder_of_links_to_the_source_is_refused(tmp_path: Path, folder: str) -> None:
    path = write_video(tmp_path / "real" / "thing" / "v.mp4", moving_box(2))
    link = tmp_path / "links" / "thing" / "v.mp4"
    link.parent.mkdir(parents=True)
    link.symlink_to(path)
    with open_source(link) as source, pytest.raises(UsageError, match="holds the pictures and videos"):
        CropsSink(tmp_path / folder, source)


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="a file stands where a folder is needed"):
        CropsSink(tmp_path / "file" / "out", ArraysSource([picture()]))
