"""The letterbox arithmetic: its inverse, its bounds, and its agreement with Ultralytics' rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolotrt.model_spec import LetterboxRule, Resize
from yolotrt.preprocess.geometry import LetterboxGeometry

sides = st.integers(1, 4000)
inputs = st.integers(1, 40).map(lambda n: 32 * n)
rules = st.builds(
    LetterboxRule,
    resize=st.sampled_from(["fit", "minimal", "stretch"]),
    center=st.booleans(),
    scale_up=st.booleans(),
)


@given(sides, sides, inputs, inputs, rules)
def test_picture_lies_within_the_input(h: int, w: int, input_h: int, input_w: int, rule: LetterboxRule) -> None:
    g = LetterboxGeometry.compute((h, w), (input_h, input_w), rule=rule)
    assert g.pad_top >= 0
    assert g.pad_top + g.resized_size[0] <= g.input_size[0] <= input_h
    assert g.pad_left >= 0
    assert g.pad_left + g.resized_size[1] <= g.input_size[1] <= input_w
    if rule.resize != "minimal":
        assert g.input_size == (input_h, input_w)
    if not rule.scale_up and rule.resize != "stretch":
        assert g.resized_size[0] <= h
        assert g.resized_size[1] <= w


@given(sides, sides, inputs, inputs, rules, st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5))
def test_to_source_inverts_to_input(
    h: int, w: int, input_h: int, input_w: int, rule: LetterboxRule, corners: list[tuple[float, float, float, float]]
) -> None:
    g = LetterboxGeometry.compute((h, w), (input_h, input_w), rule=rule)
    boxes = np.array(corners, np.float32).reshape(-1, 4) * np.array([w, h, w, h], np.float32)
    # One input pixel may be many source pixels: the tolerance is a thousandth of an input pixel, in source pixels.
    tolerance = 1e-3 * max(1 / min(g.gain), 1)
    np.testing.assert_allclose(g.to_source(g.to_input(boxes)), boxes, atol=tolerance, rtol=1e-4)


@given(sides, sides, inputs, inputs, rules, st.lists(st.tuples(*[st.floats(-9e3, 9e3)] * 4), max_size=5))
def test_boxes_are_clipped_to_the_picture(
    h: int, w: int, input_h: int, input_w: int, rule: LetterboxRule, corners: list[tuple[float, float, float, float]]
) -> None:
    boxes = LetterboxGeometry.compute((h, w), (input_h, input_w), rule=rule).to_source(
        np.array(corners, np.float32).reshape(-1, 4)
    )
    assert (boxes >= 0).all()
    assert (boxes <= np.array([w, h, w, h])).all()


@pytest.mark.parametrize(
    ("source", "imgsz", "resize", "resized", "padded", "top_left"),
    [
        # Worked by hand from Ultralytics 8.4's LetterBox.
        ((1080, 1920), (640, 640), "fit", (360, 640), (640, 640), (140, 0)),
        ((1080, 1920), (640, 640), "minimal", (360, 640), (384, 640), (12, 0)),
        ((1920, 1080), (640, 640), "minimal", (640, 360), (640, 384), (0, 12)),
        ((427, 640), (640, 640), "fit", (427, 640), (640, 640), (106, 0)),  # odd padding: 106 above, 107 below
        ((480, 640), (384, 640), "fit", (384, 512), (384, 640), (0, 64)),
        ((1, 3000), (640, 640), "fit", (1, 640), (640, 640), (319, 0)),  # a side is kept at one pixel at least
        ((333, 777), (640, 640), "stretch", (640, 640), (640, 640), (0, 0)),
    ],
)
def test_known_placements(
    source: tuple[int, int],
    imgsz: tuple[int, int],
    resize: Resize,
    resized: tuple[int, int],
    padded: tuple[int, int],
    top_left: tuple[int, int],
) -> None:
    g = LetterboxGeometry.compute(source, imgsz, rule=LetterboxRule(resize=resize))
    assert (g.resized_size, g.input_size, (g.pad_top, g.pad_left)) == (resized, padded, top_left)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1 pixel"):
        LetterboxGeometry(source_size=(0, 3), input_size=(32, 32), resized_size=(1, 1), pad_top=0, pad_left=0)
