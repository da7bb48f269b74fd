"""The one result type."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from yolotrt import Detections
from yolotrt.errors import UsageError

BOXES = Detections(
    xyxy=np.array([[1, 2, 11, 22], [0, 0, 5, 5]], np.float32),
    confidence=np.array([0.9, 0.5], np.float32),
    class_id=np.array([1, 7]),
    names=("cat", "dog"),
    size=(50, 60),
)


def test_reading() -> None:
    assert len(BOXES) == 2
    assert BOXES.labels == ["dog", "7"]
    assert [(b.tolist(), round(c, 3), i) for b, c, i in BOXES] == [([1, 2, 11, 22], 0.9, 1), ([0, 0, 5, 5], 0.5, 7)]
    assert len(Detections.empty(names=("cat",), size=(4, 5))) == 0


def test_subsets() -> None:
    assert BOXES[BOXES.confidence > 0.6].labels == ["dog"]
    assert BOXES[1:].labels == ["7"]
    assert BOXES[[1, 0]].labels == ["7", "dog"]
    assert len(BOXES[[]]) == 0
    for wrong in (np.zeros((2, 2), bool), np.array(0)):
        with pytest.raises(IndexError, match="a slice, a mask or a list"):
            BOXES[wrong]


def test_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        BOXES.xyxy[0, 0] = 5


def test_wrong_shapes_and_dtypes() -> None:
    with pytest.raises(ValueError, match="expected"):
        Detections(
            xyxy=np.zeros((2, 4), np.float32),
            confidence=np.zeros(3, np.float32),
            class_id=np.zeros(2, np.int64),
            names=(),
            size=(1, 1),
        )
    with pytest.raises(ValueError, match="got dtype float64, expected float32"):
        Detections(
            xyxy=np.zeros((0, 4)),  # type: ignore[arg-type]
            confidence=np.zeros(0, np.float32),
            class_id=np.zeros(0, np.int64),
            names=(),
            size=(1, 1),
        )


def test_to_dict_is_json() -> None:
    data = json.loads(json.dumps(BOXES.to_dict()))
    assert data["size"] == [50, 60]
    assert data["boxes"][0] == {"xyxy": [1, 2, 11, 22], "confidence": 0.9, "class_id": 1, "name": "dog"}


def test_to_coco() -> None:
    rows = BOXES[:1].to_coco(42, category_ids=(10, 20))
    assert rows == [{"image_id": 42, "category_id": 20, "bbox": [1, 2, 10, 20], "score": pytest.approx(0.9)}]
    assert BOXES.to_coco(1)[1]["category_id"] == 7


def test_to_supervision() -> None:
    supervision = pytest.importorskip("supervision")
    found = BOXES.to_supervision()
    assert isinstance(found, supervision.Detections)
    np.testing.assert_array_equal(found.xyxy, BOXES.xyxy)
    assert found.data["class_name"].tolist() == ["dog", "7"]
    found.xyxy[0, 0] = 99  # its own copy
    assert BOXES.xyxy[0, 0] == 1


def test_plot_draws_on_a_copy() -> None:
    image = np.zeros((50, 60, 3), np.uint8)
    drawn = BOXES.plot(image)
    assert drawn.shape == image.shape
    assert drawn.any()
    assert not image.any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a.jpg", "got an object of type str, expected an array, uint8 (H, W, 3) in BGR"),
        (np.zeros((50, 60), np.uint8), "got an array of uint8 (50, 60), expected uint8 (H, W, 3) in BGR. Convert it"),
        (np.zeros((50, 60, 4), np.uint8), "cv2.COLOR_BGRA2BGR"),
        (np.zeros((3, 50, 60), np.uint8), "image.transpose(1, 2, 0)"),
        (np.zeros((1, 50, 60, 3), np.uint8), "one by one or in a list"),
        (np.zeros((0, 60, 3), np.uint8), "got an array of uint8 (0, 60, 3)"),
        (np.zeros((50, 60, 3)), "Scale its values to 0 to 255 and convert them to uint8"),
    ],
)
def test_plot_on_what_is_no_picture(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match="^not a picture, " + ".*" + re.escape(message)):
        BOXES.plot(given)


def test_tracks() -> None:
    tracked = replace(BOXES, tracker_id=np.array([3, -1]))
    assert "tracker_id" not in BOXES.to_dict()["boxes"][0]
    assert [box["tracker_id"] for box in tracked.to_dict()["boxes"]] == [3, None]
    assert tracked[[1, 0]].to_dict()["boxes"][1]["tracker_id"] == 3
    with pytest.raises(ValueError, match="tracker_id: got shape"):
        replace(BOXES, tracker_id=np.array([3]))
    with pytest.raises(ValueError, match="tracker_id: got dtype float64"):
        replace(BOXES, tracker_id=np.array([3.0, 1.0]))
    image = np.zeros((50, 60, 3), np.uint8)
    assert not np.array_equal(tracked.plot(image), BOXES.plot(image))  # the number is part of the label
    pytest.importorskip("supervision")
    ids = tracked.to_supervision().tracker_id
    assert ids is not None
    assert ids.tolist() == [3, -1]
