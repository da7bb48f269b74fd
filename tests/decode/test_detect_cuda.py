"""The GPU's decode kernels, run as host code, against the CPU's decoding: the same boxes to the last bit."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.decode.test_raw import numbers
from tests.decode.test_raw import spec_of as raw_spec_of
from tests.support.cuda_host.machine import HostMachine
from tests.support.specs import make_spec
from tests.support.tiny_heads import TinyHead
from yolotrt.decode import decode
from yolotrt.decode.detect_cuda import THRESHOLDS, DecodeKernels, DecodeLayout
from yolotrt.detections import Detections
from yolotrt.errors import ModelError, NonFiniteOutputError
from yolotrt.model_spec import Head, ModelSpec
from yolotrt.options import DetectOptions
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import RawOutputs

HEADS: tuple[Head, ...] = ("anchor_free", "objectness", "end_to_end", "detr")
SIDE = 96  # pixels that boxes are spread over
EXAMPLES = int(os.environ.get("YOLOTRT_EXAMPLES", "150"))  # of random batches


def spec_of(head: Head, nc: int, dtype: str = "float32") -> ModelSpec:
    spec = make_spec(head=head, names=tuple(str(i) for i in range(nc)))
    return dataclasses.replace(spec, outputs=(dataclasses.replace(spec.outputs[0], dtype=dtype),))


def output_of(head: Head, centre: Any, size: Any, scores: Any, dtype: str = "float32") -> npt.NDArray[Any]:
    """The output that says: boxes `[n, A, 2]` and `[n, A, 2]` in pixels, scores `[n, A, nc]`."""
    if head == "anchor_free":
        whole = np.concatenate([centre, size, scores], 2).transpose(0, 2, 1)
    elif head == "objectness":
        whole = np.concatenate([centre, size, scores.max(2, keepdims=True) ** 0.5, scores], 2)
    else:
        best = [scores.max(2, keepdims=True), scores.argmax(2)[..., None]]
        corners = [centre, centre + size] if head == "end_to_end" else [centre / SIDE, size / SIDE]
        whole = np.concatenate([*corners, *best], 2)
    return np.ascontiguousarray(whole, dtype)


def on_gpu(
    spec: ModelSpec,
    output: npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]],
    geometries: Sequence[LetterboxGeometry],
    options: Sequence[DetectOptions],
    *,
    max_det: int = 300,
    order: int = 0,
) -> list[Detections]:
    arrays = output if isinstance(output, Mapping) else {"output0": output}
    batch = len(arrays[spec.outputs[0].name])
    every = any(o.multi_label for o in options)
    shapes = {name: array.shape for name, array in arrays.items()}
    layout = DecodeLayout.of(spec, shapes, max_det=max_det, every_class=every)
    machine = HostMachine(order=order)
    kernels, queue = DecodeKernels(machine, layout, batch), machine.queue()
    thresholds = np.zeros(batch, THRESHOLDS)
    classes = np.zeros((batch, layout.class_words), np.uint32)
    for i, (geometry, own) in enumerate(zip(geometries, options, strict=True)):
        thresholds[i], classes[i] = layout.thresholds(geometry, own), layout.classes(own)
    results = np.zeros(layout.results_size(batch), np.uint8)
    for _ in range(2):  # the second time in used memory
        results[:] = 0xFF
        kernels.launch(
            queue,
            outputs={name: array.ctypes.data for name, array in arrays.items()},
            thresholds=thresholds.ctypes.data,
            classes=classes.ctypes.data,
            results=results.ctypes.data,
            batch=batch,
        )
    found = layout.unpack(results, batch, geometries, spec.names)
    kernels.close()
    queue.close()
    assert machine.open == 0
    return found


def assert_same(got: Sequence[Detections], wanted: Sequence[Detections]) -> None:
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a.class_id, b.class_id)
        np.testing.assert_array_equal(a.confidence, b.confidence)
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
        assert (a.size, a.names) == (b.size, b.names)


def compare(spec: ModelSpec, output: npt.NDArray[Any], options: Sequence[DetectOptions], *, order: int = 0) -> int:
    """Both ways; how many boxes."""
    sizes = [(50, 80), (333, 20), (96, 96)][: len(output)]
    geometries = [LetterboxGeometry.compute(size, (SIDE, SIDE), rule=spec.letterbox) for size in sizes]
    wanted = decode(RawOutputs(arrays={"output0": output}, spec=spec), geometries, options)
    assert_same(on_gpu(spec, output, geometries, options, order=order), wanted)
    return sum(len(d) for d in wanted)


option_sets = st.builds(
    DetectOptions,
    conf=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]),
    iou=st.sampled_from([0.0, 0.25, 0.45, 0.7, 1.0]),
    max_det=st.sampled_from([1, 7, 64, 300]),
    agnostic=st.booleans(),
    multi_label=st.booleans(),
    clip=st.booleans(),
    classes=st.none() | st.lists(st.integers(0, 99), max_size=4).map(tuple),
)


@pytest.mark.timeout(0 if EXAMPLES > 1000 else 300)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    head=st.sampled_from(HEADS),
    nc=st.sampled_from([1, 3, 80]),
    anchors=st.sampled_from([1, 5, 33, 200, 700]),
    dtype=st.sampled_from(["float32", "float16"]),
    coarse=st.booleans(),
    options=st.lists(option_sets, min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
    order=st.integers(0, 5),
)
def test_equals_the_cpu(
    head: Head,
    nc: int,
    anchors: int,
    dtype: str,
    coarse: bool,
    options: list[DetectOptions],
    seed: int,
    order: int,
) -> None:
    """Coarse: boxes on a grid with few scores, so that ties, duplicates and boxes without area are the rule."""
    rng = np.random.default_rng(seed)
    shape = (len(options), anchors)
    centre: Any
    size: Any
    if coarse:
        centre, size = rng.integers(0, 12, (*shape, 2)) * 8, rng.integers(0, 6, (*shape, 2)) * 8
        scores = rng.integers(0, 6, (*shape, nc)) / 5 * (rng.random((*shape, nc)) < 3 / nc)
    else:
        centre, size = rng.random((*shape, 2)) * SIDE, rng.random((*shape, 2)) * 60
        scores = rng.random((*shape, nc))
    compare(spec_of(head, nc, dtype), output_of(head, centre, size, scores, dtype), options, order=order)


@settings(max_examples=120, deadline=None)
@given(
    nc=st.sampled_from([1, 3, 40]),
    reg_max=st.sampled_from([1, 2, 16]),
    strides=st.sampled_from([(8,), (8, 16), (8, 16, 32)]),
    dtype=st.sampled_from(["float32", "float16"]),
    spread=st.sampled_from([0.0, 1.0, 4.0, 50.0]),
    coarse=st.booleans(),
    options=st.lists(option_sets, min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
    order=st.integers(0, 5),
)
def test_raw_heads_equal_the_cpu(
    nc: int,
    reg_max: int,
    strides: tuple[int, ...],
    dtype: str,
    spread: float,
    coarse: bool,
    options: list[DetectOptions],
    seed: int,
    order: int,
) -> None:
    """To the last bit, exponentials included."""
    head = TinyHead(nc=nc, reg_max=reg_max, strides=strides, imgsz=(64, SIDE))
    arrays = numbers(head, seed, batch=len(options), spread=spread)
    arrays = {name: (np.round(v) if coarse else v).astype(dtype) for name, v in arrays.items()}
    compare_raw(head, arrays, options, order=order)


def compare_raw(
    head: TinyHead, arrays: Mapping[str, npt.NDArray[Any]], options: Sequence[DetectOptions], *, order: int = 0
) -> int:
    """Both ways, or refused both ways; how many boxes."""
    spec = raw_spec_of(head, str(next(iter(arrays.values())).dtype))
    sizes = [(50, 80), (333, 20), (96, 96)][: len(options)]
    geometries = [LetterboxGeometry.compute(size, head.imgsz, rule=spec.letterbox) for size in sizes]
    try:
        wanted = decode(RawOutputs(arrays=arrays, spec=spec), geometries, options)
    except NonFiniteOutputError:
        with pytest.raises(NonFiniteOutputError):
            on_gpu(spec, arrays, geometries, options, order=order)
        return -1
    assert_same(on_gpu(spec, arrays, geometries, options, order=order), wanted)
    return sum(len(d) for d in wanted)


@settings(max_examples=60, deadline=None)
@given(
    where=st.lists(
        st.tuples(
            st.sampled_from(["boxes_8", "scores_8", "boxes_16", "scores_16"]),
            st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -3e38]),
            st.integers(0, 10**6),
            st.sampled_from([1, 4, 40]),
        ),
        min_size=1,
        max_size=3,
    ),
    reg_max=st.sampled_from([1, 4]),
    every=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_raw_heads_refuse_what_the_cpu_refuses(
    where: list[tuple[str, float, int, int]], reg_max: int, every: bool, seed: int
) -> None:
    """Whatever is no number, anywhere: in one place, in all bins of a side, in a whole column of channels."""
    head = TinyHead(reg_max=reg_max, imgsz=(64, SIDE))
    arrays = numbers(head, seed)
    for name, bad, start, count in where:
        flat = arrays[name].reshape(-1)
        for i in range(count):
            flat[(start + i * arrays[name][0, 0].size) % flat.size] = bad
    compare_raw(head, arrays, [DetectOptions(conf=0.4, multi_label=every)])


def test_raw_results_do_not_depend_on_their_batch() -> None:
    head = TinyHead(nc=5, reg_max=16, strides=(8, 16, 32), imgsz=(SIDE, SIDE))
    arrays, spec, options = numbers(head, 9, batch=3), raw_spec_of(head), DetectOptions(conf=0.8)
    geometry = LetterboxGeometry.compute((40, 60), (SIDE, SIDE), rule=spec.letterbox)
    alone = [
        on_gpu(spec, {k: v[i : i + 1].copy() for k, v in arrays.items()}, [geometry], [options])[0] for i in range(3)
    ]
    assert all(len(found) for found in alone)
    assert_same(on_gpu(spec, arrays, [geometry] * 3, [options] * 3), alone)


@pytest.mark.parametrize("max_det", [300, 5])
@pytest.mark.parametrize("ties", [False, True])
def test_more_candidates_than_one_chunk(ties: bool, max_det: int) -> None:
    rng = np.random.default_rng(3)
    shape = (1, 6000)
    scores = rng.random((*shape, 2))
    scores = np.round(scores, 1) if ties else scores
    output = output_of("anchor_free", rng.random((*shape, 2)) * 4000, rng.random((*shape, 2)) * 60, scores)
    options = DetectOptions(conf=0.001, iou=0.3, max_det=max_det)
    assert compare(spec_of("anchor_free", 2), output, [options]) == max_det


def test_no_more_than_the_strongest_30000_count() -> None:
    """Boxes that are all the same leave one; the ones that are not counted any more would be others."""
    shape = (1, 31_000)
    centre, size = np.full((*shape, 2), 40.0), np.full((*shape, 2), 20.0)
    centre[0, 29_999:] = np.arange(1_001)[:, None] * 100
    scores = np.linspace(0.9, 0.1, 31_000).reshape(*shape, 1)
    output = output_of("anchor_free", centre, size, scores)
    options = DetectOptions(conf=0.05, clip=False)
    assert compare(spec_of("anchor_free", 1), output, [options]) == 2


def test_a_thousand_classes() -> None:
    rng = np.random.default_rng(4)
    scores = rng.random((2, 150, 1000)) ** 8
    output = output_of("anchor_free", rng.random((2, 150, 2)) * SIDE, rng.random((2, 150, 2)) * 60, scores)
    spec = spec_of("anchor_free", 1000)
    assert compare(spec, output, [DetectOptions(), DetectOptions(classes=(0, 31, 32, 999))])
    assert compare(spec, output, [DetectOptions(multi_label=True, conf=0.9), DetectOptions(agnostic=True)])


def test_equal_boxes_and_scores() -> None:
    """The first in the output stays, and of a box's classes the first."""
    for head in HEADS:
        shape = (1, 500)
        output = output_of(head, np.full((*shape, 2), 40.0), np.full((*shape, 2), 9.0), np.full((*shape, 5), 0.5))
        found = compare(spec_of(head, 5), output, [DetectOptions(max_det=90)])
        assert found == (1 if head in ("anchor_free", "objectness") else 90)


@pytest.mark.parametrize("head", HEADS)
def test_a_result_does_not_depend_on_its_batch(head: Head) -> None:
    rng = np.random.default_rng(5)
    shape = (3, 300)
    output = output_of(head, rng.random((*shape, 2)) * SIDE, rng.random((*shape, 2)) * 60, rng.random((*shape, 4)))
    spec, options = spec_of(head, 4), DetectOptions(conf=0.3)
    geometry = LetterboxGeometry.compute((40, 60), (SIDE, SIDE), rule=spec.letterbox)
    alone = [on_gpu(spec, output[i : i + 1].copy(), [geometry], [options])[0] for i in range(3)]
    assert_same(on_gpu(spec, output, [geometry] * 3, [options] * 3), alone)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("head", "place", "options"),
    [
        ("anchor_free", (4, 3), DetectOptions()),
        ("anchor_free", (5, 3), DetectOptions(classes=(0,))),
        ("anchor_free", (2, 3), DetectOptions(classes=(2,))),
        ("objectness", (3, 4), DetectOptions()),
        ("objectness", (3, 6), DetectOptions(multi_label=True)),
        ("end_to_end", (3, 4), DetectOptions()),
        ("end_to_end", (3, 0), DetectOptions()),
        ("detr", (3, 2), DetectOptions()),
    ],
)
def test_non_finite_outputs_are_refused(head: Head, place: tuple[int, int], options: DetectOptions, bad: float) -> None:
    shape = (2, 40)
    output = output_of(head, np.full((*shape, 2), 40.0), np.full((*shape, 2), 9.0), np.full((*shape, 3), 0.8))
    output[(1, *place)] = bad
    spec = spec_of(head, 3)
    geometry = LetterboxGeometry.compute((40, 60), (SIDE, SIDE), rule=spec.letterbox)
    raw = RawOutputs(arrays={"output0": output}, spec=spec)
    with pytest.raises(NonFiniteOutputError):
        decode(raw, [geometry] * 2, options)
    with pytest.raises(NonFiniteOutputError):
        on_gpu(spec, output, [geometry] * 2, [options] * 2)


def test_bad_numbers_that_do_not_matter() -> None:
    """A box below the threshold, and padding of the batch."""
    shape = (3, 40)
    output = output_of("anchor_free", np.full((*shape, 2), 40.0), np.full((*shape, 2), 9.0), np.full((*shape, 3), 0.8))
    output[0, 4:, 7] = 0.1
    output[0, :4, 7] = np.nan
    output[1, 4, 9] = -np.inf
    output[2] = np.nan
    spec = spec_of("anchor_free", 3)
    geometry = LetterboxGeometry.compute((40, 60), (SIDE, SIDE), rule=spec.letterbox)
    wanted = decode(RawOutputs(arrays={"output0": output}, spec=spec), [geometry] * 2, DetectOptions())
    layout = DecodeLayout.of(spec, {"output0": output.shape}, max_det=300)
    thresholds = np.zeros(3, THRESHOLDS)
    thresholds[:2] = layout.thresholds(geometry, DetectOptions())
    classes, results = np.zeros((3, layout.class_words), np.uint32), np.zeros(layout.results_size(3), np.uint8)
    machine = HostMachine()
    DecodeKernels(machine, layout, 3).launch(
        machine.queue(),
        outputs={"output0": output.ctypes.data},
        thresholds=thresholds.ctypes.data,
        classes=classes.ctypes.data,
        results=results.ctypes.data,
        batch=3,
    )
    assert_same(layout.unpack(results, 3, [geometry] * 2, spec.names), wanted)
    assert results[: 8 * 3].view(np.uint32).tolist()[4:] == [0, 0]


def test_what_is_not_decoded_on_the_gpu_is_named() -> None:
    pose = dataclasses.replace(spec_of("anchor_free", 3), task="pose")
    with pytest.raises(ModelError, match="pose"):
        DecodeLayout.of(pose, {"output0": (1, 7, 4)}, max_det=1)
    for head, shape in (("anchor_free", (1, 4, 9)), ("objectness", (1, 9, 5)), ("end_to_end", (1, 9, 38))):
        with pytest.raises(ModelError, match=f"no {head} head has"):
            DecodeLayout.of(spec_of(head, 3), {"output0": shape}, max_det=1)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="int8"):
        DecodeLayout.of(spec_of("anchor_free", 3, "int8"), {"output0": (1, 7, 4)}, max_det=1)
