"""The CPU letterbox against a plain reading of the rule."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.specs import make_spec
from yolotrt.model_spec import LetterboxRule, ModelSpec
from yolotrt.preprocess.letterbox_cpu import Letterboxer, letterbox
from yolotrt.types import ImageU8


def reference(image: ImageU8, spec: ModelSpec) -> npt.NDArray[Any]:
    """Resize, border, BGR to RGB, planes, divide by 255: one plain step after the other."""
    h, w = image.shape[:2]
    ratio = min(spec.imgsz[0] / h, spec.imgsz[1] / w)
    new_w, new_h = max(round(w * ratio), 1), max(round(h * ratio), 1)
    spare_w, spare_h = (spec.imgsz[1] - new_w) / 2, (spec.imgsz[0] - new_h) / 2
    resized = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    top, bottom = round(spare_h - 0.1), round(spare_h + 0.1)
    left, right = round(spare_w - 0.1), round(spare_w + 0.1)
    padded = cv2.copyMakeBorder(resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return padded[..., ::-1].transpose(2, 0, 1).astype(np.float32) / np.float32(255)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_equals_the_plain_steps(h: int, w: int, seed: int) -> None:
    spec = make_spec(imgsz=(96, 160))
    image = np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)
    batch = letterbox([image], spec)
    np.testing.assert_array_equal(batch.images[0], reference(image, spec))
    assert batch.images.flags.c_contiguous
    last = letterbox([image], spec, channels_last=True).images
    np.testing.assert_array_equal(last, batch.images)
    assert last.transpose(0, 2, 3, 1).flags.c_contiguous


@settings(deadline=None)
@given(st.sampled_from([1, 3, 5, 7, 9]), st.integers(1, 96), st.integers(1, 160), st.booleans())
def test_steps_over_an_odd_number_of_pixels(step: int, h: int, w: int, wide: bool) -> None:
    spec = make_spec(imgsz=(h, 160) if wide else (96, w))
    size = (step * h, step * 160) if wide else (step * 96, step * w)
    image = np.random.default_rng(h * w).integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(letterbox([image], spec).images[0], reference(image, spec))


@pytest.mark.parametrize("step", [49, 93, 99, 105, 211])
def test_steps_whose_inverse_is_rounded_up(step: int) -> None:
    """1 / (1 / step) is less than most of them, so the factor's inverse leads just short of a pixel."""
    spec = make_spec(imgsz=(4, 8))
    image = np.random.default_rng(step).integers(0, 256, (4 * step, 8 * step, 3), np.uint8)
    np.testing.assert_array_equal(letterbox([image], spec).images[0], reference(image, spec))


def test_batch_of_different_pictures_equals_each_alone() -> None:
    spec = make_spec(imgsz=(64, 64))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((10, 200), (64, 64), (77, 33))]
    batch = letterbox(images, spec)
    for image, got in zip(images, batch.images, strict=True):
        np.testing.assert_array_equal(got, letterbox([image], spec).images[0])


def test_half_precision_input() -> None:
    spec = make_spec(imgsz=(64, 64), dtype="float16")
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    got = letterbox([image], spec).images
    assert got.dtype == np.float16
    np.testing.assert_array_equal(letterbox([image], spec, channels_last=True).images, got)
    np.testing.assert_array_equal(got[0], reference(image, spec).astype(np.float16))


def test_a_view_with_strides_works() -> None:
    spec = make_spec(imgsz=(64, 64))
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    np.testing.assert_array_equal(
        letterbox([image[::2, ::-1]], spec).images, letterbox([image[::2, ::-1].copy()], spec).images
    )


def test_minimal_pads_to_the_stride() -> None:
    spec = make_spec(imgsz=(640, 640), shape=(None, 3, None, None), letterbox=LetterboxRule(resize="minimal"))
    batch = letterbox([np.zeros((1080, 1920, 3), np.uint8)], spec)
    assert batch.images.shape == (1, 3, 384, 640)


def test_mixed_input_sizes_are_refused() -> None:
    spec = make_spec(imgsz=(640, 640), shape=(None, 3, None, None), letterbox=LetterboxRule(resize="minimal"))
    with pytest.raises(ValueError, match="one input size"):
        letterbox([np.zeros((1080, 1920, 3), np.uint8), np.zeros((1920, 1080, 3), np.uint8)], spec)


@settings(deadline=None)
@given(
    st.booleans(),
    st.lists(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=4), max_size=6),
)
def test_memory_used_again_shows_nothing_of_the_batch_before(
    channels_last: bool, calls: list[list[tuple[int, int]]]
) -> None:
    spec = make_spec(imgsz=(64, 64))
    again = Letterboxer(spec, channels_last=channels_last)
    rng = np.random.default_rng(0)
    for sizes in calls:
        images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in sizes]
        np.testing.assert_array_equal(again(images).images, np.stack([reference(i, spec) for i in images]))


def test_memory_used_again_for_other_input_sizes() -> None:
    spec = make_spec(imgsz=(640, 640), shape=(None, 3, None, None), letterbox=LetterboxRule(resize="minimal"))
    again = Letterboxer(spec)
    rng = np.random.default_rng(0)
    for h, w in ((480, 640), (640, 360), (480, 640), (640, 640), (100, 640)):
        image = rng.integers(0, 256, (h, w, 3), np.uint8)
        np.testing.assert_array_equal(again([image]).images, letterbox([image], spec).images)
