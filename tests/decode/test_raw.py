"""Raw heads: the same boxes as the whole head in ONNX Runtime, of which they are what comes before its arithmetic."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.specs import make_spec
from tests.support.tiny_heads import TinyHead, tail_alone
from yolotrt.decode import decode
from yolotrt.decode.raw import exp, raw_candidates, sigmoid, whole_head
from yolotrt.errors import NonFiniteOutputError
from yolotrt.model_spec import ModelSpec, TensorSpec
from yolotrt.options import DetectOptions
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import RawOutputs

BOX_PX, CONFIDENCE = 2e-3, 1e-6
"""What rounding may move a box of 100 pixels, and a confidence."""

Arrays = dict[str, npt.NDArray[Any]]


def spec_of(head: TinyHead, dtype: str = "float32") -> ModelSpec:
    outputs = []
    for level, size in zip(head.raw.levels, head.sizes, strict=True):
        outputs.append(TensorSpec(name=level.boxes, dtype=dtype, shape=(None, 4 * head.reg_max, *size)))
        outputs.append(TensorSpec(name=level.scores, dtype=dtype, shape=(None, head.nc, *size)))
    spec = make_spec(names=tuple(map(str, range(head.nc))), imgsz=head.imgsz)
    return dataclasses.replace(spec, head="raw", outputs=tuple(outputs), raw=head.raw)


def numbers(head: TinyHead, seed: int, *, batch: int = 1, spread: float = 3.0, dtype: str = "float32") -> Arrays:
    rng = np.random.default_rng(seed)
    shapes = {tensor.name: (batch, *tensor.shape[1:]) for tensor in spec_of(head).outputs}
    return {name: rng.normal(0, spread, shape).astype(dtype) for name, shape in shapes.items()}  # type: ignore[arg-type]


@functools.cache
def session(head: TinyHead) -> Any:
    return onnxruntime.InferenceSession(tail_alone(head).SerializeToString(), providers=["CPUExecutionProvider"])


def uncut(head: TinyHead, arrays: Arrays) -> npt.NDArray[np.float32]:
    """`[N, 4 + nc, A]`, by ONNX Runtime."""
    pictures = [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(len(arrays["boxes_8"]))]
    return np.concatenate([session(head).run(None, picture)[0] for picture in pictures])


HEADS = [TinyHead(), TinyHead(nc=1, reg_max=1), TinyHead(nc=20, reg_max=16), TinyHead(strides=(8, 16, 32), nc=2)]


@settings(max_examples=120, deadline=None)
@given(
    head=st.sampled_from(HEADS),
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0.1, 3.0, 20.0]),
    conf=st.sampled_from([0.0, 1e-6, 0.001, 0.25, 0.5, 0.9, 0.9999, 0.999999, 1.0]) | st.floats(0, 1),
    every=st.booleans(),
    last=st.booleans(),
)
def test_the_boxes_of_the_whole_head(
    head: TinyHead, seed: int, spread: float, conf: float, every: bool, last: bool
) -> None:
    """All boxes above any threshold, in their order, whichever way the numbers lie in memory."""
    arrays = numbers(head, seed, spread=spread)
    whole = uncut(head, arrays)[0].T
    if last:
        arrays = {k: np.ascontiguousarray(v.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for k, v in arrays.items()}
    found = raw_candidates(RawOutputs(arrays=arrays, spec=spec_of(head)), 0, conf=conf, every_class=every)
    assert found is not None
    xyxy, confidence, class_id = found
    own_scores = whole_head(arrays, head.raw)[0, 4:].T
    anchor, classes = above(whole[:, 4:], conf, every=every)
    own_anchor, own_classes = above(own_scores, conf, every=every)
    assert len(own_anchor) == len(xyxy)
    # A score at the threshold may fall to either side, and of classes that are equal after rounding any may be best.
    exact = np.sort(own_scores, axis=1)
    unclear = np.abs(own_scores - conf).min(axis=1) <= 2 * CONFIDENCE
    if not every and head.nc > 1:
        unclear |= exact[:, -1] - exact[:, -2] <= 2 * CONFIDENCE
    one, other = ~unclear[anchor], ~unclear[own_anchor]
    np.testing.assert_array_equal(own_anchor[other], anchor[one])
    np.testing.assert_array_equal(class_id[other], classes[one])
    np.testing.assert_array_equal(class_id[other], own_classes[other])
    np.testing.assert_allclose(confidence[other], whole[anchor, 4 + classes][one], atol=CONFIDENCE)
    middle, half = whole[anchor[one], :2], whole[anchor[one], 2:4] / 2
    np.testing.assert_allclose(xyxy[other], np.concatenate([middle - half, middle + half], axis=1), atol=BOX_PX)


def above(scores: npt.NDArray[np.float32], conf: float, *, every: bool) -> tuple[Any, Any]:
    """Anchors and classes of the scores `[A, nc]` above a threshold."""
    if every:
        anchor, classes = (scores > np.float32(conf)).nonzero()
        return anchor, classes
    anchor = (scores.max(axis=1) > np.float32(conf)).nonzero()[0]
    return anchor, scores[anchor].argmax(axis=1)


def test_the_whole_head_in_full() -> None:
    for head in HEADS:
        arrays = numbers(head, 5, batch=2)
        np.testing.assert_allclose(whole_head(arrays, head.raw), uncut(head, arrays), atol=BOX_PX)


def test_a_batch_of_detections() -> None:
    """With suppression, filters and the way back to the source picture, in float32 and float16."""
    head = TinyHead(nc=4, reg_max=8, strides=(8, 16, 32))
    options = [
        DetectOptions(conf=0.6, iou=0.3),
        DetectOptions(conf=0.9, multi_label=True, agnostic=True),
        DetectOptions(conf=0.5, classes=(1, 3), max_det=7, clip=False),
    ]
    for dtype in ("float32", "float16"):
        arrays = numbers(head, 6, batch=4, dtype=dtype)  # the fourth is padding
        spec = spec_of(head, dtype)
        geometries = [LetterboxGeometry.compute((50 + i, 90), head.imgsz, rule=spec.letterbox) for i in range(3)]
        found = decode(RawOutputs(arrays=arrays, spec=spec), geometries, options)
        whole = make_spec(names=spec.names, imgsz=head.imgsz)
        output = uncut(head, {k: v.astype(np.float32) for k, v in arrays.items()})
        wanted = decode(RawOutputs(arrays={"output0": output}, spec=whole), geometries, options)
        for a, b in zip(found, wanted, strict=True):
            assert len(a.xyxy) > 3
            np.testing.assert_array_equal(a.class_id, b.class_id)
            np.testing.assert_allclose(a.confidence, b.confidence, atol=CONFIDENCE)
            np.testing.assert_allclose(a.xyxy, b.xyxy, atol=BOX_PX)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("every", [False, True])
def test_numbers_that_are_none_are_refused(bad: float, every: bool) -> None:
    """Among the scores anywhere, in a box only where it is above the threshold; minus infinity is no score at all."""
    head = TinyHead()
    geometry = LetterboxGeometry.compute((64, 96), head.imgsz, rule=spec_of(head).letterbox)
    options = DetectOptions(conf=0.5, multi_label=every)

    def found(name: str, place: tuple[Any, ...], value: float) -> int:
        arrays = {k: np.where(v > 0, 2, -2).astype(np.float32) for k, v in numbers(head, 7).items()}
        arrays["scores_16"][0, :, 1, 1], arrays["scores_16"][0, 2, 1, 2] = -3, 3
        arrays[name][place] = value
        return len(decode(RawOutputs(arrays=arrays, spec=spec_of(head)), [geometry], options)[0].xyxy)

    with pytest.raises(NonFiniteOutputError):
        found("scores_16", (0, 0, 1, 1), bad)
    with pytest.raises(NonFiniteOutputError):
        found("boxes_16", (0, 6, 1, 2), bad)
    with pytest.raises(NonFiniteOutputError):
        found("boxes_16", (0, slice(4, 8), 1, 2), -np.inf)
    assert found("boxes_16", (0, 6, 1, 1), bad) > 0
    assert found("scores_16", (0, 0, 1, 1), -np.inf) == found("boxes_16", (0, 6, 1, 1), bad)
    assert found("boxes_16", (0, 4, 1, 2), -np.inf) > 0


def test_nothing_above_the_threshold() -> None:
    head = TinyHead()
    spec = spec_of(head)
    geometry = LetterboxGeometry.compute((64, 96), head.imgsz, rule=spec.letterbox)
    outputs = RawOutputs(arrays={k: np.full_like(v, -9) for k, v in numbers(head, 8).items()}, spec=spec)
    found = decode(outputs, [geometry], DetectOptions())[0]
    assert found.xyxy.shape == (0, 4)
    assert (str(found.xyxy.dtype), str(found.class_id.dtype)) == ("float32", "int64")


def test_exp_and_sigmoid() -> None:
    x = np.concatenate([np.linspace(-87, 0, 200_001), [-0.0, -1e-30, -1e30, -np.inf]]).astype(np.float32)
    exact = np.exp(np.maximum(x, -87).astype(np.float64))
    assert (np.abs(exp(x) - exact) / np.spacing(exact.astype(np.float32))).max() < 2
    assert exp(np.zeros(1, np.float32)) == 1
    assert np.isnan(exp(np.array([np.nan], np.float32)))
    y = np.linspace(-86, 86, 200_001).astype(np.float32)
    exact = 1 / (1 + np.exp(-y.astype(np.float64)))
    assert (np.abs(sigmoid(y) - exact) / exact).max() < 4e-7
    assert sigmoid(np.array([-np.inf, -88, 88, np.inf], np.float32)).tolist() == [0, 0, 1, 1]
