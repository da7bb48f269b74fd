"""Which pictures a calibration gets, and what is said where they are not fit for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.support.datasets import tiny_set
from tests.support.media import cut, moving_box, picture, write_video
from tests.support.specs import make_spec
from yolotrt.errors import DatasetError, SourceError, UsageError, YolotrtError
from yolotrt.export.quantize.pictures import CalibrationPictures, find_calibration
from yolotrt.model_spec import BatchRange
from yolotrt.preprocess.letterbox_cpu import letterbox
from yolotrt.sources import read_image


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is kept what was looked at before: nothing yet."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("YOLOTRT_CACHE", str(folder))
    return folder / "seen"


def write_pictures(folder: Path, count: int, *, first: int = 0) -> list[Path]:
    """Pictures that differ from each other: `000.png`, `001.png`, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{first + i:03}.png" for i in range(count)]
    for i, path in enumerate(paths, first):
        cv2.imwrite(str(path), picture((24, 32), box=(0, 0, 1 + i % 32, 1 + i // 32)))
    return paths


def write_data(folder: Path, text: str = "train: images/train\nval: images/val\n") -> Path:
    """A data set without labels: 70 pictures to train with, 2 others to validate with."""
    write_pictures(folder / "images" / "train", 70)
    write_pictures(folder / "images" / "val", 2, first=900)
    data = folder / "coco8.yaml"
    data.write_text(text + "names: [red]\n")
    return data


def few(calib: Path | str, **options: Any) -> CalibrationPictures:
    return find_calibration(calib=calib, data=None, allow_few=True, **options)


def shown(found: CalibrationPictures) -> list[bytes]:
    return [image.tobytes() for image in found.images()]


def test_the_train_split_needs_no_labels(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    found = find_calibration(calib=None, data=data)
    assert (found.source, found.count, found.notes) == ("train split of coco8.yaml", 70, ())
    assert shown(found) == [read_image(p).tobytes() for p in sorted((tmp_path / "images" / "train").iterdir())]
    assert find_calibration(calib=None, data=tmp_path) == found
    assert find_calibration(calib=data, data=None) == found


def test_pictures_are_named_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_pictures(tmp_path / "cats" / "more", 3)
    (tmp_path / "cats" / ".hidden.png").write_bytes(b"")
    (tmp_path / "list.txt").write_text("".join(f"./cats/more/{p.name}\n" for p in paths))
    monkeypatch.chdir(tmp_path)
    expected = shown(few("cats"))
    assert len(expected) == 3
    digests = set()
    for calib, source in (
        ("cats", "folder cats/"),
        ("cats/more/*.png", "pictures cats/more/*.png"),
        ("list.txt", "list list.txt"),
        (tmp_path / "list.txt", "list list.txt"),
    ):
        found = few(calib)
        assert (found.source, found.count, shown(found)) == (source, 3, expected)
        digests.add(found.digest)
    assert len(digests) == 1
    monkeypatch.chdir(tmp_path / "cats")
    assert few(".").source == "folder cats/"
    assert few(paths[0]).source == "picture 000.png"


def test_they_are_spread_evenly_over_all(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 20)
    assert shown(few(tmp_path, count=5)) == [read_image(p).tobytes() for p in paths[::4]]
    assert few(tmp_path, count=5) == few(tmp_path, count=5)


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    before = few(write_pictures(tmp_path / "a", 4)[0].parent)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert few(tmp_path / "b").digest == before.digest
    cv2.imwrite(str(tmp_path / "b" / "002.png"), picture((24, 32), box=None))
    assert few(tmp_path / "b").digest != before.digest
    assert few(tmp_path / "a", count=3).digest != before.digest


@pytest.mark.parametrize("batch", [1, 4])
def test_batches_are_the_runtimes_input(tmp_path: Path, batch: int) -> None:
    paths = write_pictures(tmp_path, 6)
    spec = make_spec(batch=BatchRange(min=batch, opt=batch, max=batch))
    found = few(tmp_path)
    order = [0, 1, 2, 3, 4, 5, 0, 1] if batch == 4 else [0, 1, 2, 3, 4, 5]
    expected = np.concatenate([letterbox([read_image(paths[i])], spec).images for i in order])
    for _ in range(2):
        got = list(found.batches(spec))
        assert {len(b.images) for b in got} == {batch}
        assert (np.concatenate([b.images for b in got]) == expected).all()


def test_a_batch_larger_than_the_set_is_filled(tmp_path: Path) -> None:
    write_pictures(tmp_path, 2)
    (batch,) = few(tmp_path).batches(make_spec(batch=BatchRange(min=5, opt=5, max=5)))
    assert (batch.images == batch.images[[0, 1, 0, 1, 0]]).all()


def test_unreadable_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "set", 70)
    paths[3].write_bytes(b"")
    paths[8].write_text("no picture")
    found = find_calibration(calib=tmp_path / "set", data=None)
    assert found.count == len(shown(found)) == 68
    assert found.notes[0].startswith("2 calibration pictures cannot be read and are left out: ")
    assert "003.png: the picture is empty" in found.notes[0]
    (tmp_path / "list.txt").write_text("./set/001.png\n./set/nowhere.png\n")
    assert "nowhere.png: cannot read the picture: no such file" in few(tmp_path / "list.txt").notes[0]


def test_frames_of_a_video_are_spread_over_its_length(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", moving_box(40))
    every = shown(few(clip, count=1000))
    assert len(every) == 40
    found = few(clip, count=10)
    assert (found.source, found.count, shown(found)) == ("video clip.mp4", 10, every[::4])
    assert shown(found) == every[::4]
    assert len({found.digest, few(clip).digest, few(clip, count=9).digest}) == 3


def test_a_video_that_ends_early_gives_what_it_holds(tmp_path: Path) -> None:
    clip = cut(write_video(tmp_path / "clip.mkv", moving_box(80)), 0.7)
    found = few(clip)
    assert 0 < found.count < 80
    assert len(shown(found)) == found.count
    assert "the video is cut short" in found.notes[0]


def test_what_was_found_whole_is_not_decoded_again(tmp_path: Path, cache: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", moving_box(40))
    write_pictures(tmp_path / "set", 5)
    before = [few(clip), few(tmp_path / "set")]
    entries = sorted(cache.iterdir(), key=lambda e: int(e.read_text()))
    assert [e.read_text() for e in entries] == ["5", "40"]
    assert [few(clip), few(tmp_path / "set")] == before
    entries[1].write_text("20")  # shows that it is read
    assert few(clip).count == 20
    for damaged in ("", "{", '"5"', "null"):
        for entry in entries:
            entry.write_text(damaged)
        assert [few(clip), few(tmp_path / "set")] == before
    (tmp_path / "set" / "001.png").write_bytes(b"")
    assert few(tmp_path / "set").count == 4


def test_what_was_damaged_is_said_each_time(tmp_path: Path, cache: Path) -> None:
    clip = cut(write_video(tmp_path / "clip.mkv", moving_box(80)), 0.7)
    write_pictures(tmp_path / "set", 2)[0].write_bytes(b"")
    assert [few(clip), few(tmp_path / "set")] == [few(clip), few(tmp_path / "set")]
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    write_pictures(tmp_path, 2)
    assert few(tmp_path).count == 2
    assert cache.is_file()


def test_validation_pictures_among_them_are_noted(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    shutil.copy(tmp_path / "images" / "val" / "900.png", tmp_path / "images" / "train" / "other name.png")
    said = "1 of 71 calibration pictures are validation pictures too"
    assert find_calibration(calib=None, data=data).notes[0].startswith(said)
    assert find_calibration(calib=tmp_path / "images" / "train", data=data).notes[0].startswith(said)
    assert find_calibration(calib=tmp_path / "images" / "train", data=None).notes == ()


def test_validation_pictures_of_a_coco_file_are_noted(tmp_path: Path) -> None:
    tiny_set(tmp_path)
    found = find_calibration(calib=tmp_path / "images", data=tmp_path / "coco.json", allow_few=True)
    # Its four pictures lie in images/val, where the file alone does not lead.
    assert found.notes == ("only 4 calibration pictures: ranges from fewer than 64 may not fit others",)
    shutil.copy(tmp_path / "coco.json", tmp_path / "images" / "val.json")
    found = find_calibration(calib=tmp_path / "images", data=tmp_path / "images" / "val.json", allow_few=True)
    assert found.notes[0].startswith("4 of 4 calibration pictures are validation pictures too")


def test_few_pictures_must_be_allowed(tmp_path: Path) -> None:
    write_pictures(tmp_path, 63)
    with pytest.raises(UsageError, match=r"too few calibration pictures, got 63, expected 64 or more\. .*--calib-few"):
        find_calibration(calib=tmp_path, data=None)
    assert few(tmp_path).notes == ("only 63 calibration pictures: ranges from fewer than 64 may not fit others",)
    write_pictures(tmp_path, 1, first=63)
    assert find_calibration(calib=tmp_path, data=None).notes == ()
    with pytest.raises(UsageError, match="got 63"):
        find_calibration(calib=tmp_path, data=None, count=63)


def folder(at: Path) -> str:
    (at / "empty").mkdir()
    return str(at / "empty")


def unreadable(at: Path) -> str:
    (at / "bad").mkdir()
    (at / "bad" / "a.jpg").write_text("no picture")
    return str(at / "bad")


def mixed(at: Path) -> str:
    write_video(at / "b.mp4", moving_box(2))
    write_pictures(at, 1)
    return str(at / "*")


def binary(at: Path) -> str:
    (at / "list.txt").write_bytes(b"\xff\xfe\xff")
    return str(at / "list.txt")


def nonsense(at: Path) -> str:
    (at / "weights.pt").write_bytes(bytes(100))
    return str(at / "weights.pt")


def frameless(at: Path) -> str:
    (at / "clip.mp4").write_bytes(bytes(100))
    return str(at / "clip.mp4")


def coco(at: Path) -> str:
    (at / "train.json").write_text(json.dumps({}))
    return str(at / "train.json")


@pytest.mark.parametrize(
    ("calib", "kind", "said"),
    [
        (folder, SourceError, "folder empty/: no pictures to calibrate on"),
        (unreadable, SourceError, "folder bad/: none of the 1 calibration pictures can be read"),
        (
            mixed,
            UsageError,
            "nothing to calibrate on, got a source of kind several, expected pictures, or one video file",
        ),
        (binary, DatasetError, "list.txt: not a list of pictures"),
        (nonsense, SourceError, "weights.pt: neither a picture nor a video"),
        (frameless, SourceError, "clip.mp4: not a video, or a damaged one"),
        (coco, UsageError, "train.json: a COCO file has no train split"),
        (lambda at: str(at / "nothing.jpg"), SourceError, "nothing.jpg: no such file or folder"),
        (lambda at: str(at / "nothing.txt"), SourceError, "nothing.txt: no such file or folder"),
        (lambda at: str(at / "nothing.yaml"), DatasetError, "nothing.yaml: cannot read the data set: No such file"),
        (lambda at: str(at / "*.jpg"), SourceError, "no picture or video matches"),
        (lambda _: "", UsageError, "a source without a name"),
        (lambda _: "rtsp://user:secret@camera/1", UsageError, "rtsp://"),
        (lambda _: Path("rtsp://user:secret@camera/1"), UsageError, "rtsp://"),
    ],
)
def test_what_names_no_pictures(
    tmp_path: Path, calib: Callable[[Path], str | Path], kind: type[YolotrtError], said: str
) -> None:
    with pytest.raises(kind) as error:
        few(calib(tmp_path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("val: images/val\n", "no split 'train', got splits val"),
        ("train: nowhere\nval: images/val\n", "names pictures that are not there, got nowhere"),
        ("train: [\n", "not valid YAML"),
    ],
)
def test_a_data_set_without_a_train_split(tmp_path: Path, text: str, said: str) -> None:
    data = write_data(tmp_path, text)
    with pytest.raises(DatasetError) as error:
        find_calibration(calib=None, data=data)
    assert said in str(error.value)
    assert "--calib" in str(error.value)


def test_nothing_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected --calib, or --data"):
        find_calibration(calib=None, data=None)
    with pytest.raises(UsageError, match=r"val\.json: a COCO file has no train split to calibrate on\. .*--calib"):
        find_calibration(calib=None, data=tmp_path / "val.json")
    with pytest.raises(UsageError, match="out of range, got 0"):
        few(tmp_path, count=0)


def test_a_picture_that_is_gone_when_it_is_needed(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 2)
    found = few(tmp_path)
    paths[1].unlink()
    with pytest.raises(SourceError, match=r"001\.png: cannot read the picture: no such file"):
        list(found.batches(make_spec()))
