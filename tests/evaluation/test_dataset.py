"""Reading labelled data sets, and what is said of bad ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.datasets import PICTURES, cells_picture, tiny_set
from yolotrt.errors import DatasetError, UsageError, YolotrtError
from yolotrt.evaluation.dataset import align, open_dataset
from yolotrt.evaluation.labels import Dataset


def write_set(folder: Path, labels: str, names: str = "[red, green, blue]") -> Path:
    cells_picture(folder / "images" / "a.png", [])
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "labels" / "a.txt").write_text(labels)
    path = folder / "data.yaml"
    path.write_text(f"val: images\nnames: {names}\n")
    return path


def only_labels(dataset: Dataset, size: tuple[int, int] = (100, 200)) -> list[list[float]]:
    (sample,) = dataset.samples
    labels = sample.labels(size)
    return [[float(c), *map(float, box)] for c, box in zip(labels.class_id, labels.xyxy, strict=True)]


def test_boxes_and_outlines_in_pixels(tmp_path: Path) -> None:
    data = write_set(tmp_path, "1 0.5 0.5 0.2 0.4\n\n2 0.1 0.1 0.3 0.1 0.3 0.5 0.2 0.6\n")
    np.testing.assert_allclose(only_labels(open_dataset(data)), [[1, 80, 30, 120, 70], [2, 20, 10, 60, 60]], atol=1e-9)
    np.testing.assert_allclose(open_dataset(data).samples[0].labels((100, 200)).area, [40 * 40, 40 * 50])


def test_a_label_that_stands_there_twice_counts_once(tmp_path: Path) -> None:
    found = open_dataset(write_set(tmp_path, "1 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n"))
    assert found.boxes == 1
    assert "labels that stand there twice, counted once: 1" in found.notes[0]


def test_keypoints_are_left_out(tmp_path: Path) -> None:
    data = write_set(tmp_path, "1 0.5 0.5 0.2 0.4 0.1 0.1 2 0.3 0.3 2\n")
    data.write_text(data.read_text() + "kpt_shape: [2, 3]\n")
    np.testing.assert_allclose(only_labels(open_dataset(data)), [[1, 80, 30, 120, 70]])


def test_names_as_a_mapping_or_as_a_count(tmp_path: Path) -> None:
    assert open_dataset(write_set(tmp_path, "0 0.5 0.5 1 1", "{1: b, 0: a}")).names == ("a", "b")
    assert open_dataset(write_set(tmp_path, "0 0.5 0.5 1 1", "{'1': b, '0': a}")).names == ("a", "b")
    data = write_set(tmp_path, "0 0.5 0.5 1 1")
    data.write_text("val: images\nnc: 2\n")
    assert open_dataset(data).names == ("0", "1")


@pytest.mark.parametrize(
    "split",
    ["images/val", "[images/val]", "list.txt", "../images/val", "['images/val/a.png', 'list.txt']"],
    ids=["folder", "list of folders", "txt", "one level too many", "mixed"],
)
def test_a_split_is_found_in_every_form(tmp_path: Path, split: str) -> None:
    data = tiny_set(tmp_path / "set")
    (tmp_path / "set" / "list.txt").write_text("".join(f"./images/val/{name}\n" for name in PICTURES))
    data.write_text(f"path: .\ntrain: nothing\nval: {split}\nnames: [red, green, blue]\n")
    found = open_dataset(data)
    assert [s.path.name for s in found.samples] == sorted(PICTURES)
    assert found.boxes == 5
    assert found.notes == ("pictures without a label file, taken as background: 1",)
    assert open_dataset(data.parent).samples[0].path == found.samples[0].path


def test_the_splits_of_a_data_set_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_set(tmp_path / "datasets" / "mine")
    data = tmp_path / "mine.yaml"
    data.write_text("path: mine\nval: images/val\ntest: images/val\nnames: {0: red, 1: green, 2: blue}\n")
    monkeypatch.chdir(tmp_path)
    assert len(open_dataset(data, split="test").samples) == len(PICTURES)


def test_coco_says_the_same(tmp_path: Path) -> None:
    data = tiny_set(tmp_path)
    yolo, coco = open_dataset(data), open_dataset(tmp_path / "coco.json", images=tmp_path / "images" / "val")
    assert [s.path.name for s in yolo.samples] == [s.path.name for s in coco.samples]
    for a, b in zip(yolo.samples, coco.samples, strict=True):
        one, other = a.labels((64, 64)), b.labels((64, 64))
        assert one.class_id.tolist() == other.class_id.tolist()
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-3)
        np.testing.assert_allclose(one.area, other.area, atol=0.1)
    with pytest.raises(DatasetError, match=r"another size than its annotations say, got 32x64, expected 64x64"):
        coco.samples[0].labels((64, 32))


def test_coco_classes_are_told_by_name(tmp_path: Path) -> None:
    tiny_set(tmp_path)
    coco = open_dataset(tmp_path / "coco.json", images=tmp_path / "images" / "val")
    aligned = align(coco, ["yellow", "blue", "green", "red"])
    assert [aligned.names[c] for s in aligned.samples for c in s.boxes.class_id] == [
        coco.names[c] for s in coco.samples for c in s.boxes.class_id
    ]


def test_classes_that_are_not_the_models(tmp_path: Path) -> None:
    dataset = open_dataset(tiny_set(tmp_path))
    assert align(dataset, ["red", "green", "blue"]) is dataset
    assert align(dataset, []) is dataset
    with pytest.raises(DatasetError, match=r"got 3 classes .*expected 2"):
        align(dataset, ["red", "green"])
    with pytest.raises(DatasetError, match="in another order"):
        align(dataset, ["green", "red", "blue"])
    with pytest.raises(DatasetError, match="in another order"):
        align(dataset, ["green", "red", "azure"])
    assert align(dataset, ["red", "lime", "azure"]).notes[-1] == (
        "class 1 is 'green' in the data set and 'lime' in the model; "
        "class 2 is 'blue' in the data set and 'azure' in the model; taken as one"
    )


def test_many_renamed_classes_are_not_all_listed(tmp_path: Path) -> None:
    dataset = dataclasses.replace(open_dataset(tiny_set(tmp_path)), names=tuple(f"class{i}" for i in range(80)))
    note = align(dataset, [str(i) for i in range(80)]).notes[-1]
    assert note.count(" in the model") == 10
    assert note.endswith("; ...; taken as one")


def coco_with(folder: Path, names: dict[int, str]) -> Dataset:
    """The COCO file of `tiny_set`, with these categories in place of red, green and blue: 10, 11 and 12."""
    tiny_set(folder)
    path = folder / "coco.json"
    document = json.loads(path.read_text())
    document["categories"] = [{"id": number, "name": name} for number, name in names.items()]
    path.write_text(json.dumps(document))
    return open_dataset(path, images=folder / "images" / "val")


def test_categories_of_coco_that_are_not_used(tmp_path: Path) -> None:
    dataset = coco_with(tmp_path, {0: "colours", 10: "red", 11: "green", 12: "blue"})
    aligned = align(dataset, ["red", "green", "blue"])
    assert aligned.names == ("red", "green", "blue")
    assert [c - 1 for s in dataset.samples for c in s.boxes.class_id] == [
        c for s in aligned.samples for c in s.boxes.class_id
    ]
    assert aligned.notes == ("classes without a label that the model does not know, left out: colours",)
    with pytest.raises(DatasetError, match="other classes than the model's"):
        align(dataset, ["red", "green", "azure"])


def test_a_name_of_coco_written_otherwise_does_not_move_the_others(tmp_path: Path) -> None:
    dataset = coco_with(tmp_path, {10: "red", 11: "green", 12: "Blue"})
    assert "taken as one" in align(dataset, ["red", "green", "blue"]).notes[-1]
    with pytest.raises(DatasetError, match=r"in another order, .* it does not know Blue\."):
        align(dataset, ["blue", "green", "red"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("3 0.5 0.5 0.1 0.1", "a.txt:1: a class that has no name, got 3, expected 0 to 2"),
        ("-1 0.5 0.5 0.1 0.1", "not a class number"),
        ("0.5 0.5 0.5 0.1 0.1", "not a class number"),
        ("0 1.5 0.5 0.1 0.1", "a.txt:1: a label outside the picture, got 1.5 0.5 0.1 0.1"),
        ("0 nan 0.5 0.1 0.1", "outside the picture"),
        ("0 0.5 0.5 -0.005 0.1", "a box of negative size"),
        ("0 0.5 0.5 0.1", "a label of 4 columns, expected class cx cy w h"),
        ("0 0.5 0.5 0.1 0.1 0.9", "a label of 6 columns"),
        ("car 0.5 0.5 0.1 0.1", "a.txt:1: not a label, got 'car 0.5 0.5 0.1 0.1'"),
    ],
)
def test_bad_labels(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DatasetError) as error:
        open_dataset(write_set(tmp_path, line))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "not a data set, got list"),
        ("val: [", "not valid YAML"),
        ("val: images\n", "no class names"),
        ("val: images\nnames: {0: a, 2: b}\n", "names are not numbered"),
        ("val: images\nnames: {0: a, '0': b}\n", "names are not numbered"),
        ("val: images\nnc: 3\nnames: [a, b]\n", "nc and names disagree"),
        ("train: images\nnames: [a]\n", "no split 'val', got splits train"),
        ("val: 3\nnames: [a]\n", "no split 'val'"),
        ("val: nowhere\nnames: [a]\n", "names pictures that are not there, got nowhere"),
        ("val: bare\nnames: [a]\n", "no pictures in split 'val'"),
        ("path: nowhere\nval: images\nnames: [a]\n", "path names a folder that is not there"),
        ("val: images\nnames: [a]\nkpt_shape: 3\n", "kpt_shape is not a pair"),
        ("path: ~nobody-of-that-name/x\nval: images\nnames: [a]\n", "a place that cannot be reached: "),
        (f"path: {'x' * 5000}\nval: images\nnames: [a]\n", "a place that cannot be reached: File name too long"),
        (f"val: {'x' * 5000}\nnames: [a]\n", "a place that cannot be reached: File name too long, got 'xxx"),
        ('val: "im\\0ages"\nnames: [a]\n', r"got 'im\x00ages'"),
        ("val: data.yaml\nnames: [a]\n", "data.yaml: not a list of pictures, expected a text file"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, said: str) -> None:
    data = write_set(tmp_path, "")
    (tmp_path / "bare").mkdir()
    data.write_text(text)
    with pytest.raises(DatasetError) as error:
        open_dataset(data)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{" + "'a': 1, " * 1000, "a place that cannot be reached: File name too long, got \"{'a': 1, "),
        ("no picture", "not a list of pictures, got 'no picture', expected a picture's path on each line"),
        ("./a\0.png", r"not a list of pictures, got './a\x00.png'"),
    ],
)
def test_lists_of_something_else(tmp_path: Path, line: str, said: str) -> None:
    data = write_set(tmp_path, "")
    (tmp_path / "list.txt").write_text(f"./images/a.png\n./images/missing.png\n{line}\n")
    data.write_text("val: list.txt\nnames: [a]\n")
    with pytest.raises(DatasetError) as error:
        open_dataset(data)
    assert f"list.txt: {'names ' * ('reached' in said)}{said}" in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [("val: nope\n", "expected a folder or a list of pictures at"), ("path: nope\nval: images\n", "expected a folder")],
)
def test_where_a_name_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    data = write_set(tmp_path, "")
    data.write_text(text + "names: [a]\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError) as error:
        open_dataset(Path(data.name))
    assert f"got nope, {expected} {tmp_path.resolve() / 'nope'}" in str(error.value)


def test_no_labels_at_all(tmp_path: Path) -> None:
    data = write_set(tmp_path, "")
    (tmp_path / "labels" / "a.txt").unlink()
    with pytest.raises(DatasetError, match=r"none of the 1 pictures of split 'val' has a label file.*labels.a\.txt"):
        open_dataset(data)


def test_wrong_calls(tmp_path: Path) -> None:
    data = tiny_set(tmp_path)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"data": tmp_path / "nothing.yaml"}, "no such data set"),
        ({"data": data, "split": "validation"}, "option split is unknown"),
        ({"data": data, "images": tmp_path}, "option images belongs to a COCO"),
        ({"data": tmp_path / "coco.json", "split": "val"}, "option split belongs to a data.yaml"),
        ({"data": tmp_path / "coco.json", "images": tmp_path / "nothing"}, "no such folder"),
        ({"data": tmp_path / "images"}, "a folder with 0 YAML files"),
    ]
    for arguments, said in cases:
        with pytest.raises(YolotrtError) as error:
            open_dataset(**arguments)
        assert said in str(error.value)
        assert isinstance(error.value, UsageError) == ("option" in said)


def good_coco() -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 1}],
        "categories": [{"id": 2, "name": "b"}],
    }


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("images",), [], "no pictures"),
        (("annotations",), [], "no annotations"),
        (("categories",), None, "not a COCO file"),
        (("images", 0), {"id": 1}, "a record without"),
        (("images", 0, "id"), "a", "a record whose id is wrong, got 'a', expected a whole number"),
        (("images", 0, "file_name"), 3, "a record whose file_name is wrong, got 3, expected text"),
        (("annotations", 0, "bbox"), "1", "a record whose bbox is wrong, got '1', expected a list"),
        (("annotations", 0, "image_id"), 5, "annotation 7 belongs to a picture that is not listed, got 5"),
        (("annotations", 0, "category_id"), 5, "annotation 7 has a category that is not listed"),
        (("annotations", 0, "bbox"), [1, 2, 3], "annotation 7 has no box"),
        (("annotations", 0, "bbox"), [1, 2, 3, -1], "annotation 7 has no box"),
        (("annotations", 0, "bbox"), [60, 2, 30, 4], "annotation 7 lies outside its picture"),
        (("images", 0, "file_name"), "b.png", "its pictures are not beside it, got b.png"),
    ],
)
def test_bad_coco(tmp_path: Path, place: tuple[Any, ...], value: Any, said: str) -> None:
    document: Any = good_coco()
    *outer, last = place
    record = document
    for key in outer:
        record = record[key]
    record[last] = value
    cells_picture(tmp_path / "images" / "a.png", [])
    (tmp_path / "c.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError) as error:
        open_dataset(tmp_path / "c.json")
    assert said in str(error.value)


def test_crowds_and_missing_areas(tmp_path: Path) -> None:
    cells_picture(tmp_path / "images" / "a.png", [])
    (tmp_path / "c.json").write_text(json.dumps(good_coco()))
    labels = open_dataset(tmp_path / "c.json").samples[0].labels((64, 64))
    assert labels.crowd.tolist() == [True]
    assert labels.area.tolist() == [12]
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(DatasetError, match="not valid JSON"):
        open_dataset(tmp_path / "c.json")
