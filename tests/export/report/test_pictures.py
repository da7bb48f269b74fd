"""Pictures whose boxes the precision changed: what is shown of them, and how large it may be."""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.export.report.proofs import LABELLED, Page, report
from tests.support.boxes import Row, detections
from tests.support.datasets import cells_picture
from tests.support.tiny_models import tiny_yolo
from yolotrt import Detector
from yolotrt.evaluation.parity import Parity, PicturePairs, VerifyOptions, pair_up, verify
from yolotrt.evaluation.side_by_side import Half
from yolotrt.export.report.pictures import _inside, _window


@pytest.fixture(scope="module")
def parity(tmp_path_factory: pytest.TempPathFactory) -> Parity:
    """Of a model and one whose boxes have moved."""
    folder = tmp_path_factory.mktemp("pictures")
    good, moved = tiny_yolo(folder / "good.onnx"), tiny_yolo(folder / "moved.onnx")
    model = onnx.load(moved)
    (table,) = [t for t in model.graph.initializer if t.name == "anchor_table"]
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table) + np.float32(6), "anchor_table"))
    onnx.save(model, moved)
    files = [cells_picture(folder / f"{i}.png", [(i, 1, 1), (0, 2, 3)]) for i in range(2)]
    options = VerifyOptions()
    with (
        Detector(good, backend="onnxruntime", options=options.detect) as reference,
        Detector(moved, backend="onnxruntime", options=options.detect) as candidate,
    ):
        return verify(reference, candidate, files, options)


def pairs(path: Path, reference: list[Row], candidate: list[Row]) -> PicturePairs:
    return pair_up(path, detections(*reference), detections(*candidate), VerifyOptions())


def noise(path: Path, height: int, width: int) -> Path:
    """The picture that JPEG compresses least."""
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    return path


def test_both_sides_of_each_picture(parity: Parity) -> None:
    made = report(LABELLED, parity)
    page = Page(made.html)
    images = page.of("img")
    assert len(images) == 4
    assert {a["alt"] for a in images} == {"Boxes of FP32", "Boxes of INT8"}
    left, right = (decoded(a["src"]) for a in images[:2])
    assert left.shape == right.shape == (64, 64, 3)
    assert np.abs(left.astype(int) - right).max() > 50  # the boxes lie elsewhere
    assert "0.png" in page.text
    assert "FP32: 2 boxes without a match" in page.text
    assert re.search(r"4 of FP32 and 4 of the bundle, .* 4 missed, 4 added, 0\.00.% match", page.text)
    across = Page(report(LABELLED, dataclasses.replace(parity, flickering=2)).html).text
    assert "4 added, 2 matched across that threshold, " in across
    assert report(LABELLED, parity).html == made.html
    # Folders of the machine are not told to whoever gets the bundle.
    assert {w["picture"] for w in made.data["parity"]["worst"]} == {"0.png", "1.png"}
    assert str(parity.worst[0].picture.parent) not in made.html


def test_names_of_files_stay_text(parity: Parity, tmp_path: Path) -> None:
    path = noise(tmp_path / "x.png", 32, 32).rename(tmp_path / "<b onclick=x>&.png")
    page = Page(report(LABELLED, dataclasses.replace(parity, worst=(pairs(path, [(1, 1, 9, 9, 0.9, 0)], []),))).html)
    assert "<b onclick=x>&.png" in page.text
    assert not page.of("b")


def test_nothing_changed_or_nothing_compared(parity: Parity, tmp_path: Path) -> None:
    same = pairs(tmp_path / "a.png", [(1, 1, 9, 9, 0.9, 0)], [(1, 1, 9, 9, 0.9, 0)])
    text = Page(report(LABELLED, dataclasses.replace(parity, worst=(same,))).html).text
    assert "None: in 2 pictures every box of FP32 is there again, and no other." in text
    assert "The boxes of single pictures were not compared." in Page(report(LABELLED).html).text


def test_a_picture_that_is_gone(parity: Parity, tmp_path: Path) -> None:
    gone = pairs(tmp_path / "gone.png", [(1, 1, 9, 9, 0.9, 0)], [])
    page = Page(report(LABELLED, dataclasses.replace(parity, worst=(gone, *parity.worst))).html)
    assert len(page.of("img")) == 4
    assert "1 more could not be shown." in page.text
    page = Page(report(LABELLED, dataclasses.replace(parity, worst=(gone,))).html)
    assert "1 more could not be shown." in page.text
    assert not page.of("img")


def test_the_page_stays_under_two_megabytes(parity: Parity, tmp_path: Path) -> None:
    path = noise(tmp_path / "noise.png", 900, 1200)
    worst = tuple(pairs(path, [(1, 1, 1199, 899, 0.9, 0), (5, 5, 9, 9, 0.8, i)], []) for i in range(10))
    made = report(LABELLED, dataclasses.replace(parity, worst=worst))
    assert 1_000_000 < len(made.html.encode()) < 2_000_000
    images = Page(made.html).of("img")
    assert len(images) == 16
    assert max(decoded(images[0]["src"]).shape) < 800


def test_what_is_shown_of_a_picture() -> None:
    small = pairs(Path("a.png"), [(3000, 1500, 3020, 1520, 0.9, 0)], [(2960, 1510, 2980, 1530, 0.9, 0)])
    x1, y1, x2, y2 = _window(small, 3840, 2160)
    assert (x2 - x1, y2 - y1) == (480, 270)
    assert (x1 + x2) / 2 == pytest.approx(2990, abs=1)
    corner = pairs(Path("a.png"), [(0, 0, 20, 20, 0.9, 0)], [])
    assert _window(corner, 3840, 2160) == (0, 0, 480, 270)
    assert _window(corner, 300, 200) == (0, 0, 300, 200)
    far = pairs(Path("a.png"), [(0, 0, 20, 20, 0.9, 0), (3800, 2100, 3840, 2160, 0.9, 1)], [])
    assert _window(far, 3840, 2160) == (0, 0, 3840, 2160)


def test_boxes_move_with_the_window() -> None:
    boxes = detections((110, 60, 150, 90, 0.9, 0), (0, 0, 50, 50, 0.8, 1), (90, 40, 120, 70, 0.7, 0))
    half = _inside(Half(title="", boxes=boxes, agreed=np.array([True, False, False])), (100, 50, 200, 150))
    assert half.boxes.xyxy.tolist() == [[10, 10, 50, 40], [-10, -10, 20, 20]]
    assert half.agreed.tolist() == [True, False]
    assert half.boxes.size == (100, 100)


def decoded(uri: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None
    return image
