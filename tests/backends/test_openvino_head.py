"""Boxes of the anchors above a threshold alone are those that OpenVINO computes of all anchors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.tiny_heads import TinyHead, reorder, save_raw, tiny_head
from yolotrt import Detections, Detector, assets
from yolotrt.backends import openvino_graph, openvino_head
from yolotrt.backends.box_patches import Patches
from yolotrt.backends.onnx_runtime import OnnxRuntimeBackend
from yolotrt.backends.openvino_ import OpenVinoBackend
from yolotrt.backends.openvino_graph import read_graph, taken
from yolotrt.backends.openvino_head import HeadRequest
from yolotrt.backends.openvino_import import openvino_core
from yolotrt.backends.openvino_patches import few
from yolotrt.decode.raw import as_anchor_free
from yolotrt.errors import BackendError, NonFiniteOutputError
from yolotrt.export.precision import to_fp16
from yolotrt.export.samples import batches
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import DetectOptions
from yolotrt.preprocess.letterbox_cpu import letterbox
from yolotrt.sources.images import read_image
from yolotrt.types import Batch, Frame, ImageU8

FIXED = TinyHead(branch=6, strides=(8, 16, 32), imgsz=(96, 160))
HEADS = {
    "fixed": FIXED,
    "one bin": dataclasses.replace(FIXED, reg_max=1),
    "three pictures": dataclasses.replace(FIXED, batch=3),
    "open batch": dataclasses.replace(FIXED, batch=None),
    "open size": dataclasses.replace(FIXED, batch=None, dynamic_size=True),
}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some boxes alone, even where that does not pay."""
    monkeypatch.setattr(openvino_head, "_START", 0)
    monkeypatch.setattr(openvino_head, "_EFFORT", 0)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each time that boxes were computed alone, how many."""
    counts: list[int] = []
    some = HeadRequest._some

    def counting(self: HeadRequest, features: Any, cells: Any, patches: Any) -> Any:
        counts.append(sum(map(len, cells)))
        return some(self, features, cells, patches)

    monkeypatch.setattr(HeadRequest, "_some", counting)
    return counts


def saved(
    path: Path, head: TinyHead, *, raw: bool = False, change: Callable[[onnx.ModelProto], None] | None = None
) -> Path:
    if raw:
        return save_raw(head, path)
    model = tiny_head(head)
    if change is not None:
        change(model)
    onnx.save(model, path)
    return path


def backend_of(path: Path) -> OpenVinoBackend:
    return OpenVinoBackend(path, read_onnx_spec(path))


def noise(backend: OpenVinoBackend, n: int, *, size: tuple[int, int] | None = None, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    pictures: list[ImageU8] = list(rng.integers(0, 255, (n, *(size or backend.spec.imgsz), 3), np.uint8))
    return letterbox(pictures, backend.spec)


def outputs(backend: OpenVinoBackend, batch: Batch, above: float = -np.inf) -> Any:
    """Boxes and scores `[N, 4 + nc, A]`."""
    return as_anchor_free(backend.infer(dataclasses.replace(batch, above=above))).first


def threshold(found: Any, share: float) -> float:
    """What so many of the anchors score above, right between two of them."""
    best = np.sort(found[:, 4:].max(axis=1).ravel())
    place = int(len(best) * (1 - share))
    return float((best[place - 1] + best[place]) / 2)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("raw", [False, True], ids=["whole", "raw"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_boxes_above_the_threshold_are_the_same(tmp_path: Path, head: TinyHead, raw: bool, counted: list[int]) -> None:
    with backend_of(saved(tmp_path / "m.onnx", head, raw=raw)) as backend:
        for seed, n in enumerate([head.batch or 1, head.batch or 3, head.batch or 2]):
            size = ((96, 160), (160, 96), (64, 128))[seed] if head.dynamic_size else None
            batch = noise(backend, n, size=size, seed=seed)
            every = outputs(backend, batch)
            for share in (0.02, 0.3, 0.9):
                found = outputs(backend, batch, above := threshold(every, share))
                np.testing.assert_array_equal(found[:, 4:], every[:, 4:])
                wanted = every[:, 4:].max(axis=1) > above
                for i in range(n):
                    np.testing.assert_allclose(found[i, :4, wanted[i]], every[i, :4, wanted[i]], rtol=1e-4, atol=1e-3)
        anchors = found.shape[0] * found.shape[2]
        slack = 0.06 if raw else 0.005  # the threshold before a sigmoid is a little lower
        assert counted[-1] == pytest.approx(0.9 * anchors, abs=slack * anchors), "and no others were computed"


@pytest.mark.usefixtures("always")
def test_an_fp16_graph_is_what_openvino_makes_of_it(tmp_path: Path, counted: list[int]) -> None:
    path = saved(tmp_path / "plain.onnx", FIXED)
    spec = read_onnx_spec(path)
    image = np.random.default_rng(0).integers(0, 255, (*spec.imgsz, 3), np.uint8)
    half = to_fp16(onnx.load(path), [letterbox([image], spec)]).model
    onnx.save(half, path)
    whole = read_graph(openvino_core(needed_for="tests"), path)
    with backend_of(path) as backend:
        assert backend.spec.precision == "fp16"
        assert backend._graph.head is not None
        batch = noise(backend, 1)
        compiled = openvino_core(needed_for="tests").compile_model(
            whole.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        expected = compiled([taken(batch.images)])[0]
        for above in (-np.inf, 0.0, 0.0):
            np.testing.assert_allclose(outputs(backend, batch, above), expected, rtol=1e-4, atol=1e-3)
    assert counted[-1] == expected.shape[2]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("raw", [False, True], ids=["whole", "raw"])
def test_boxes_at_the_rim(tmp_path: Path, raw: bool, counted: list[int]) -> None:
    """All of them, one by one of a kind: corners, sides, the middle."""
    with backend_of(saved(tmp_path / "m.onnx", FIXED, raw=raw)) as backend:
        batch = noise(backend, 1)
        every = outputs(backend, batch)
        outputs(backend, batch, 0.0)  # the first is tried
        np.testing.assert_allclose(outputs(backend, batch, 0.0), every, rtol=1e-4, atol=1e-3)
        assert counted[-1] == every.shape[2]


@pytest.mark.usefixtures("always")
def test_levels_in_another_order(tmp_path: Path, counted: list[int]) -> None:
    path = save_raw(FIXED, tmp_path / "m.onnx")
    model = onnx.load(path)
    reorder(model, FIXED.strides)
    onnx.save(model, tmp_path / "other.onnx")
    with backend_of(path) as expected, backend_of(tmp_path / "other.onnx") as backend:
        batch = noise(backend, 1)
        every = outputs(expected, batch)
        np.testing.assert_allclose(outputs(backend, batch), every, rtol=1e-4, atol=1e-3)
        outputs(backend, batch, 0.0)  # the first is tried
        np.testing.assert_allclose(outputs(backend, batch, 0.0), every, rtol=1e-4, atol=1e-3)
    assert counted[-1] == every.shape[2]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("raw", [False, True], ids=["whole", "raw"])
def test_no_boxes(tmp_path: Path, raw: bool, counted: list[int]) -> None:
    with backend_of(saved(tmp_path / "m.onnx", FIXED, raw=raw)) as backend:
        batch = noise(backend, 1)
        every = outputs(backend, batch, 1.0)
        arrays = backend.infer(dataclasses.replace(batch, above=1.0)).arrays
        assert len(counted) == 1, "none after the first batch"
        np.testing.assert_array_equal(outputs(backend, batch, 1.0)[:, 4:], every[:, 4:])
        names = [level.boxes for level in backend.spec.raw.levels] if backend.spec.raw else ["output0"]
        assert not any(arrays[name][:, :4].any() for name in names)


@pytest.mark.usefixtures("always")
def test_the_first_batch_is_computed_both_ways(tmp_path: Path, counted: list[int]) -> None:
    with backend_of(saved(tmp_path / "m.onnx", FIXED)) as backend:
        batch = noise(backend, 1)
        every = outputs(backend, batch)
        assert not counted, "all are wanted"
        above = threshold(every, 0.1)
        first = outputs(backend, batch, above)
        np.testing.assert_allclose(first, every, rtol=1e-4, atol=1e-3)
        assert len(counted) == 2, "a try, and those above"
        below = every[0, 4:].max(axis=0) <= above
        second = outputs(backend, batch, above)
        np.testing.assert_array_equal(first[0, :, ~below], second[0, :, ~below])
        assert not second[0, :4, below].any()


def wider(model: onnx.ModelProto) -> None:
    """Let the head do something else with the sides of its boxes."""
    (strides,) = (i for i in model.graph.initializer if i.name == "strides")
    strides.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(strides), "strides"))


def swapped(model: onnx.ModelProto) -> None:
    """Let the levels come in another order than the anchors: they are told apart by nothing but their arithmetic."""
    (node,) = (n for n in model.graph.node if n.op_type == "Concat" and n.output[0] == "all_boxes")
    node.input[:] = list(reversed(node.input))


def another_level(model: onnx.ModelProto) -> None:
    """Let the last level have a branch of another form, and follow from the level before."""
    nodes = {node.output[0]: node for node in model.graph.node}
    nodes["box_conv_32_0_gate"].op_type = "Tanh"
    nodes["cell_32"].input[0] = "cell_16"
    for attribute in nodes["cell_32"].attribute:
        attribute.ints[:] = [2, 2]


@pytest.mark.usefixtures("always")
def test_boxes_from_elsewhere(tmp_path: Path, counted: list[int]) -> None:
    with backend_of(saved(tmp_path / "m.onnx", FIXED, change=another_level)) as backend:
        assert backend._graph.head is not None
        batch = noise(backend, 1)
        every = outputs(backend, batch)
        for _ in range(2):
            np.testing.assert_array_equal(outputs(backend, batch, 0.0), every)
    assert not counted


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("change", [wider, swapped])
def test_a_head_with_other_arithmetic(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], counted: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "yolotrt")
    with backend_of(saved(tmp_path / "m.onnx", FIXED, change=change)) as backend:
        batch = noise(backend, 1)
        every = outputs(backend, batch)
        for _ in range(3):
            np.testing.assert_array_equal(outputs(backend, batch, threshold(every, 0.1)), every)
        assert len(counted) == 1, "it is tried once"
        for stream in backend.side_by_side():
            stream.infer(dataclasses.replace(batch, above=0.0))
        assert len(counted) == 1, "nor do streams try it again"
    (told,) = caplog.messages
    assert str(tmp_path / "m.onnx") in told


class Calls:
    """What OpenVINO reads and compiles: files and graphs by their names. It fails with what is `refused`."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.refused = ""

    def add(self, call: str) -> None:
        self.done.append(call)
        if call == self.refused:
            raise RuntimeError("Exception from somewhere:\nno such kernel")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    import openvino

    found = Calls()
    read, compiled = openvino.Core.read_model, openvino.Core.compile_model

    def reading(core: Any, model: Any) -> Any:
        found.add(f"read {Path(model).name if isinstance(model, str) else onnx.load_from_string(model).graph.name}")
        return read(core, model)

    def compiling(core: Any, model: Any, device: str, config: dict[str, Any]) -> Any:
        found.add(f"compile {model.get_friendly_name()}, {config['PERFORMANCE_HINT']}")
        return compiled(core, model, device, config)

    monkeypatch.setattr(openvino.Core, "read_model", reading)
    monkeypatch.setattr(openvino.Core, "compile_model", compiling)
    return found


def test_what_is_cut_is_not_read_whole(tmp_path: Path, calls: Calls) -> None:
    with backend_of(saved(tmp_path / "m.onnx", FIXED)):
        assert "read box_patches" in calls.done
        assert "read m.onnx" not in calls.done


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("raw", [False, True], ids=["whole", "raw"])
@pytest.mark.parametrize("refused", ["read box_patches", "compile box_patches, LATENCY"])
def test_parts_that_openvino_refuses(
    tmp_path: Path, raw: bool, refused: str, calls: Calls, counted: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path / "m.onnx", FIXED, raw=raw)
    calls.refused = refused
    with backend_of(path) as backend, OnnxRuntimeBackend(path, backend.spec) as reference:
        batch = noise(backend, 1)
        expected = as_anchor_free(reference.infer(batch)).first
        for each in (backend, *backend.side_by_side()):
            found = as_anchor_free(each.infer(dataclasses.replace(batch, above=0.0))).first
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    assert not counted
    assert calls.done.count("read m.onnx") == 1
    (told,) = caplog.messages
    assert str(path) in told
    assert told.endswith("no such kernel")


@pytest.mark.usefixtures("always")
def test_parts_that_openvino_refuses_for_streams(
    tmp_path: Path, calls: Calls, counted: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    calls.refused = "compile box_patches, THROUGHPUT"
    with backend_of(saved(tmp_path / "m.onnx", FIXED)) as backend:
        batch = noise(backend, 1)
        every = outputs(backend, batch)
        for stream in backend.side_by_side():
            found = stream.infer(dataclasses.replace(batch, above=0.0)).first
            np.testing.assert_allclose(found, every, rtol=1e-4, atol=1e-3)
        assert not counted
        outputs(backend, batch, 0.0)
    assert len(counted) == 2, "what runs goes on in parts"
    assert len(caplog.messages) == 1


def test_what_openvino_refuses_altogether(tmp_path: Path, calls: Calls) -> None:
    calls.refused = "compile tiny_head, LATENCY"
    with pytest.raises(BackendError, match=r"cannot load .*m\.onnx: no such kernel$"):
        backend_of(saved(tmp_path / "m.onnx", FIXED))


def test_all_boxes_where_that_is_cheaper(tmp_path: Path, counted: list[int]) -> None:
    with backend_of(saved(tmp_path / "m.onnx", FIXED)) as backend:
        batch = noise(backend, 1)
        every = outputs(backend, batch)
        for above in (0.0, 1.0):
            np.testing.assert_array_equal(outputs(backend, batch, above), every)
    assert not counted


@pytest.fixture(params=["fp32", "fp16"])
def both(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Detector, Detector]]:
    """The demo model, cut and whole."""
    path = assets.demo_model()
    if request.param == "fp16":
        model, path = onnx.load(path), tmp_path / "half.onnx"
        onnx.save(to_fp16(model, batches(assets.sample_images()[:1], read_onnx_spec(model))).model, path)
    with Detector(path, backend="openvino") as cut:
        monkeypatch.setattr(openvino_graph, "cut_boxes", lambda *_: None)
        with Detector(path, backend="openvino") as whole:
            yield cut, whole


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(expected)
    np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=0.01)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-5)
    np.testing.assert_array_equal(found.class_id, expected.class_id)


def test_the_demo_model(both: tuple[Detector, Detector], counted: list[int]) -> None:
    cut, whole = both
    pictures = [read_image(path) for path in assets.sample_images()]
    options = [
        DetectOptions(),
        DetectOptions(conf=0.001),
        DetectOptions(conf=0.05, multi_label=True),
        DetectOptions(conf=0.1, agnostic=True, classes=(0, 1, 2, 3)),
        DetectOptions(conf=0.9),
    ]
    for i, each in enumerate(options):
        for picture in pictures:
            frame = Frame(picture=picture, source_id="", index=0, options=each)
            (found,), (expected,) = cut.detect_frames([frame]), whole.detect_frames([frame])
            assert_same(found.detections, expected.detections)
        assert len(counted) == 1 + 2 * (i + 1), "alone, the first time after a try"


def test_threads_and_streams(both: tuple[Detector, Detector], counted: list[int]) -> None:
    cut, whole = both
    pictures = [read_image(path) for path in assets.sample_images()]
    expected = [whole(picture) for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        for i, found in enumerate(pool.map(cut, pictures * 3)):
            assert_same(found, expected[i % len(pictures)])
    frames = [Frame(picture=p, source_id="", index=i) for i, p in enumerate(pictures * 4)]
    for i, result in enumerate(cut.detect_batches([frame] for frame in frames)):
        assert_same(result.detections, expected[i % len(pictures)])
    tries = 1 + len(cut.backend.side_by_side())
    assert len(counted) == tries + 3 * len(pictures) + len(frames)


def broken(name: str, index: int) -> Callable[[onnx.ModelProto], None]:
    """Put NaN into a constant."""

    def change(model: onnx.ModelProto) -> None:
        (found,) = (i for i in model.graph.initializer if i.name == name)
        values = numpy_helper.to_array(found).copy()
        values.flat[index] = np.nan
        found.CopyFrom(numpy_helper.from_array(values, name))

    return change


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("reg_max", "constant"), [(4, "class_conv_32_w"), (1, "box_conv_8_b"), (1, "box_conv_16_0_b")])
def test_not_a_number(tmp_path: Path, reg_max: int, constant: str) -> None:
    head = dataclasses.replace(FIXED, reg_max=reg_max)
    path = saved(tmp_path / "m.onnx", head, change=broken(constant, 1))
    picture = np.random.default_rng(0).integers(0, 255, (*FIXED.imgsz, 3), np.uint8)
    with Detector(path, backend="openvino", conf=0.01) as detector:
        for _ in range(2):
            with pytest.raises(NonFiniteOutputError):
                detector(picture)


@pytest.mark.usefixtures("always")
def test_not_a_number_in_one_box(tmp_path: Path) -> None:
    """After boxes alone are trusted: what they are computed of is no number any more."""
    picture = np.random.default_rng(0).integers(0, 255, (*FIXED.imgsz, 3), np.uint8)
    with Detector(saved(tmp_path / "m.onnx", FIXED), backend="openvino", conf=0.01) as detector:
        detector(picture)
        reading = Patches.rows

        def rows(self: Patches, feature: Any, count: int) -> Any:
            found = reading(self, feature, count)
            found[0, 0] = np.nan
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Patches, "rows", rows)
            with pytest.raises(NonFiniteOutputError):
                detector(picture)
        assert len(detector(picture))


def test_few_numbers_of_rows() -> None:
    assert sorted({few(n, 32) for n in range(200)}) == [32, 48, 64, 96, 128, 192, 256]
    assert all(few(n, 8) >= n for n in range(1000))
