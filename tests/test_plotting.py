from __future__ import annotations

import time

import numpy as np
import pytest

from yolotrt import plotting
from yolotrt.detections import Detections
from yolotrt.plotting import colour_of, draw


def _detections(
    boxes: list[list[float]], size: tuple[int, int], *, names: tuple[str, ...] = ("person", "car"), step: int = 1
) -> Detections:
    n = len(boxes)
    return Detections(
        xyxy=np.array(boxes, np.float32).reshape(n, 4),
        confidence=np.linspace(0.9, 0.3, n, dtype=np.float32),
        class_id=np.arange(n, dtype=np.int64) * step % len(names),
        names=names,
        size=size,
    )


def test_draws_on_a_copy() -> None:
    image = np.full((200, 300, 3), 90, np.uint8)
    before = image.copy()
    drawn = draw(image, _detections([[50, 60, 150, 160]], (200, 300)))
    assert (image == before).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert drawn.flags.c_contiguous
    assert tuple(drawn[110, 50]) == colour_of(0)  # left side
    assert tuple(drawn[160, 100]) == colour_of(0)  # lower side
    assert (drawn[100:120, 90:110] == 90).all()  # the inside stays as it is
    assert (drawn[170:] == 90).all()


def test_nothing_found_changes_nothing() -> None:
    image = np.full((20, 30, 3), 90, np.uint8)
    assert (draw(image, Detections.empty(names=("a",), size=(20, 30))) == image).all()


def test_read_only_and_strided_pictures() -> None:
    image = np.full((200, 600, 3), 90, np.uint8)[:, ::2]
    image.flags.writeable = False
    assert draw(image, _detections([[50, 60, 150, 160]], (200, 300))).shape == (200, 300, 3)


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 30, 20],
        [270, 0, 300, 40],
        [0, 180, 40, 200],
        [260, 185, 300, 200],
        [0, 0, 300, 200],
        [299, 199, 300, 200],
        [10, 10, 10, 10],
    ],
)
@pytest.mark.parametrize("size", [(200, 300), (2160, 3840)])
def test_whole_label_lies_inside_the_picture(box: list[float], size: tuple[int, int]) -> None:
    scale = np.array([size[1] / 300, size[0] / 200] * 2)
    label = "traffic light"
    found = _detections([list(np.array(box) * scale)], size, names=(label,))
    drawn = draw(np.zeros((*size, 3), np.uint8), found)
    text = min(max(round(sum(size) / 130), 10), 48)
    chip = plotting._chip(f"{label} 0.90", colour_of(0), text)
    coloured = np.argwhere((drawn == colour_of(0)).all(axis=2)).min(axis=0)
    windows = [
        drawn[top : top + chip.shape[0], left : left + chip.shape[1]]
        for top in range(max(coloured[0] - 4, 0), min(coloured[0] + 60, size[0]))
        for left in range(max(coloured[1] - 4, 0), min(coloured[1] + 12, size[1]))
    ]
    assert any(w.shape == chip.shape and (w == chip).all() for w in windows)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (16, 400)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    found = _detections([[0, 0, size[1], size[0]]], size)
    assert draw(np.zeros((*size, 3), np.uint8), found).shape == (*size, 3)


def test_names_that_are_missing_or_not_ascii() -> None:
    found = Detections(
        xyxy=np.array([[5, 50, 90, 90], [5, 5, 90, 40]], np.float32),
        confidence=np.array([0.9, 0.8], np.float32),
        class_id=np.array([7, 0]),
        names=("Straße",),
        size=(100, 300),
    )
    assert draw(np.zeros((100, 300, 3), np.uint8), found).any()


def test_stronger_boxes_lie_over_weaker_ones() -> None:
    found = _detections([[50, 60, 150, 160], [50, 60, 150, 160]], (200, 300))
    assert tuple(draw(np.zeros((200, 300, 3), np.uint8), found)[110, 50]) == colour_of(0)


def test_colours_differ_and_repeat() -> None:
    colours = [colour_of(i) for i in range(20)]
    assert len(set(colours)) == 20
    assert colour_of(20) == colours[0]


def test_text_contrasts_with_its_chip() -> None:
    for class_id in range(20):
        chip = plotting._chip("person 0.87", colour_of(class_id), 20)
        luma = chip @ np.array([0.114, 0.587, 0.299])
        assert np.ptp(luma) > 70


def test_stroke_font_of_opencv_4(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = plotting._hershey_mask("person 0.87", 20)
    assert mask.dtype == np.uint8
    assert mask.shape[0] == 25
    assert mask.max() > 200
    assert mask[:, :4].any()  # starts at the left


def test_fast_enough_for_video() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (20, 2)) * [1500, 800]
    boxes = np.hstack([corners, corners + rng.uniform(40, 280, (20, 2))]).tolist()
    found, image = _detections(boxes, (1080, 1920)), np.zeros((1080, 1920, 3), np.uint8)
    draw(image, found)
    best = 1.0
    for _ in range(20):
        started = time.perf_counter()
        draw(image, found)
        best = min(best, time.perf_counter() - started)
    assert best < 3e-3
