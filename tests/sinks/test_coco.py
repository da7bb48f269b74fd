"""COCO results, read by pycocotools itself."""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.media import picture
from tests.support.results import frame_result
from yolotrt.errors import SinkError, UsageError
from yolotrt.sinks import CocoSink
from yolotrt.types import FrameResult


def _write(target: Path, results: list[FrameResult], **options: Any) -> CocoSink:
    sink = CocoSink(target, **options)
    for result in results:
        sink.write(result)
    sink.close()
    sink.close()
    return sink


def _read(results: Path, annotations: Path) -> Any:
    """Through pycocotools; its annotations by picture."""
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(annotations)).loadRes(str(results))


def test_pycocotools_reads_it(tmp_path: Path) -> None:
    target = tmp_path / "deeper" / "out.json"
    frames = [
        frame_result(picture(), "000000000139.jpg", boxes=2),
        frame_result(picture(), "größe.jpg", boxes=0),
        frame_result(picture(), "1.jpg", boxes=1),  # that number is taken by the one before
        *(frame_result(picture(), "a.mp4", index=i, timestamp_s=i / 25, boxes=1) for i in range(3)),
    ]
    sink = _write(target, frames)
    images = tmp_path / "deeper" / "out.images.json"
    assert sink.outputs == [target, images]
    assert sorted(p.name for p in target.parent.iterdir()) == ["out.images.json", "out.json"]
    read = _read(target, images)
    assert sorted(read.getImgIds()) == [1, 2, 3, 4, 5, 139]
    assert [len(read.getAnnIds([i])) for i in (139, 1, 2, 3)] == [2, 0, 1, 1]
    assert read.loadCats([0]) == [{"id": 0, "name": "thing"}]
    assert read.loadImgs([5])[0] | {"timestamp_s": 0.08} == {
        "id": 5,
        "file_name": "a.mp4",
        "width": 64,
        "height": 48,
        "frame": 2,
        "timestamp_s": 0.08,
    }
    found = read.loadAnns(read.getAnnIds([139]))[0]
    box, score, _ = next(iter(frames[0].detections))
    assert found["bbox"] == pytest.approx([box[0], box[1], box[2] - box[0], box[3] - box[1]])
    assert found["score"] == pytest.approx(score, abs=1e-6)


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"gr\xc3\xb6\xc3\x9fe-caf\xe9.png")
    _write(tmp_path / "out.json", [frame_result(picture(), name)])
    text = (tmp_path / "out.images.json").read_text("utf-8")
    assert r"größe-caf\udce9.png" in text
    assert json.loads(text)["images"][0]["file_name"] == name


def test_scores_of_the_truth_are_perfect(tmp_path: Path) -> None:
    """Through the whole evaluation, with the ids of an annotations file."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    frames = [frame_result(picture(), f"train/{name}", boxes=1) for name in ("a.jpg", "b.jpg")]
    truth: dict[str, list[dict[str, Any]]] = {
        "images": [
            {"id": 70 + i, "file_name": f"{name}.jpg", "width": 64, "height": 48} for i, name in enumerate("ab")
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 33, "name": "thing"}],
        "annotations": [],
    }
    for number, (image, frame) in enumerate(zip(truth["images"], frames, strict=True), 1):
        ((x1, y1, x2, y2), _, _) = next(iter(frame.detections))
        box = [float(v) for v in (x1, y1, x2 - x1, y2 - y1)]
        row = {"id": number, "image_id": image["id"], "category_id": 33, "iscrowd": 0}
        truth["annotations"].append(row | {"bbox": box, "area": box[2] * box[3]})
    annotations = tmp_path / "truth.json"
    annotations.write_text(json.dumps(truth))
    _write(tmp_path / "out.json", frames, like=annotations)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = COCO(str(annotations))
        evaluation = COCOeval(expected, expected.loadRes(str(tmp_path / "out.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_an_interrupt_keeps_what_was_found(tmp_path: Path) -> None:
    sink = CocoSink(tmp_path / "out.json")
    sink.write(frame_result(picture(), "a.mp4", boxes=3))
    assert not (tmp_path / "out.json").exists()  # whole or absent
    sink.abort()
    assert len(_read(tmp_path / "out.json", tmp_path / "out.images.json").getAnnIds()) == 3


def test_a_model_without_names(tmp_path: Path) -> None:
    result = frame_result(picture(), "a.png", boxes=2)
    result = replace(result, detections=replace(result.detections, names=()))
    _write(tmp_path / "out.json", [result])
    assert len(json.loads((tmp_path / "out.json").read_text())) == 2


def test_nothing_found_and_nothing_seen(tmp_path: Path) -> None:
    _write(tmp_path / "none.json", [frame_result(picture(), "a.png", boxes=0)])
    assert json.loads((tmp_path / "none.json").read_text()) == []
    assert len(json.loads((tmp_path / "none.images.json").read_text())["images"]) == 1
    _write(tmp_path / "none.json", [])
    assert len(json.loads((tmp_path / "none.images.json").read_text())["images"]) == 1, "the older file is worth more"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "no COCO file"),
        ("[]", "no COCO file"),
        ('{"images": [], "categories": []}', "a.png is none of the pictures"),
        ('{"images": [{"id": 1, "file_name": "a.png"}], "categories": []}', "no category for a class .* got thing"),
        (None, "cannot read the annotations: No such file"),
    ],
)
def test_annotations_that_do_not_fit(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "like.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message):
        _write(tmp_path / "out" / "out.json", [frame_result(picture())], like=path)
    assert not list(tmp_path.rglob("out*.json"))


def test_a_name_that_stands_twice_is_found_by_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "like.json"
    images = [{"id": i, "file_name": f"{folder}/a.png"} for i, folder in enumerate(("day", "night"))]
    path.write_text(json.dumps({"images": images, "categories": [{"id": 1, "name": "thing"}]}))
    _write(tmp_path / "out.json", [frame_result(picture(), "set/night/a.png")], like=path)
    assert json.loads((tmp_path / "out.json").read_text())[0]["image_id"] == 1
    with pytest.raises(UsageError, match="is none of the pictures"):
        _write(tmp_path / "out.json", [frame_result(picture(), "set/a.png")], like=path)


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="a file stands where a folder is needed"):
        CocoSink(tmp_path / "file" / "out.json")


def test_class_ids_beyond_the_names(tmp_path: Path) -> None:
    result = frame_result(picture())
    unnamed = replace(result, detections=replace(result.detections, class_id=np.array([7])))
    _write(tmp_path / "out.json", [unnamed])
    assert json.loads((tmp_path / "out.json").read_text())[0]["category_id"] == 7
