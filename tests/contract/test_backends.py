"""One suite for all back-ends: whatever `yolotrt.backends.base` promises, each of them keeps.

A new back-end is one more row in `CPU_BACKENDS`; the TensorRT family runs the same suite in `tests/gpu`.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import pytest

from tests.support.tiny_heads import TinyHead, save_raw, tiny_head
from tests.support.tiny_models import BLUE, GREEN, RED, tiny_yolo
from tests.support.tiny_quantized import tiny_quantized
from yolotrt.backends import Backend
from yolotrt.backends.onnx_runtime import OnnxRuntimeBackend
from yolotrt.backends.openvino_ import OpenVinoBackend
from yolotrt.decode.raw import as_anchor_free
from yolotrt.errors import BackendError
from yolotrt.model_spec import ModelSpec, Precision
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.preprocess.letterbox_cpu import letterbox
from yolotrt.types import Batch, ImageU8

CPU_BACKENDS = [OnnxRuntimeBackend, OpenVinoBackend]


class Opener(Protocol):
    """Opens a file in the back-end under test; with a description of one's own, or the file's."""

    def __call__(self, path: Path, spec: ModelSpec | None = None) -> Backend: ...


@pytest.fixture(params=CPU_BACKENDS, ids=lambda b: b.__name__)
def open_backend(request: pytest.FixtureRequest) -> Opener:
    return lambda path, spec=None: request.param(path, spec or read_onnx_spec(path))


def model(path: Path, precision: Precision, **options: Any) -> Path:
    """The tiny YOLO in a precision."""
    if precision == "int8" or precision == "fp8":
        return tiny_quantized(path, precision, **options)
    return tiny_yolo(path, **options)


def pictures(spec: ModelSpec, n: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    images: list[ImageU8] = []
    for _ in range(n):
        image = np.zeros((*spec.imgsz, 3), np.uint8)
        for colour in (RED, GREEN, BLUE):
            y, x = rng.integers(0, spec.imgsz[0] - 20), rng.integers(0, spec.imgsz[1] - 20)
            image[y : y + 20, x : x + 20] = colour
        images.append(image)
    return letterbox(images, spec)


def test_info_says_what_runs(open_backend: Opener, tmp_path: Path) -> None:
    with open_backend(tiny_yolo(tmp_path / "m.onnx")) as backend:
        info = backend.info
        assert info.backend
        assert info.device == "cpu"
        assert info.version[0].isdigit()
        assert info.precision == "fp32"
        assert info.flavour in str(info)


def test_the_order_in_memory_does_not_matter(open_backend: Opener, tmp_path: Path) -> None:
    with open_backend(tiny_yolo(tmp_path / "m.onnx")) as backend:
        planes = pictures(backend.spec, 1)
        images = np.ascontiguousarray(planes.images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        pixels = Batch(images=images, geometries=planes.geometries)
        np.testing.assert_array_equal(backend.infer(pixels).first, backend.infer(planes).first)


def test_outputs_are_named_and_shaped_as_the_spec_says(open_backend: Opener, tmp_path: Path) -> None:
    with open_backend(tiny_yolo(tmp_path / "m.onnx")) as backend:
        outputs = backend.infer(pictures(backend.spec, 1))
        assert list(outputs.arrays) == [t.name for t in backend.spec.outputs]
        assert outputs.first.shape == backend.spec.outputs[0].shape
        assert outputs.first.dtype == np.dtype(backend.spec.outputs[0].dtype)
        assert np.isfinite(outputs.first).all()


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp8"])
def test_equals_the_reference(open_backend: Opener, tmp_path: Path, precision: Precision) -> None:
    path = model(tmp_path / "m.onnx", precision, batch=3)
    with open_backend(path) as backend, OnnxRuntimeBackend(path, read_onnx_spec(path)) as reference:
        assert backend.info.precision.startswith(precision)
        assert backend.spec.precision == precision
        batch = pictures(backend.spec, 3)
        np.testing.assert_allclose(backend.infer(batch).first, reference.infer(batch).first, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("head", [TinyHead(batch=3), TinyHead(batch=None, dynamic_size=True)], ids=["fixed", "open"])
def test_raw_heads(open_backend: Opener, tmp_path: Path, head: TinyHead) -> None:
    """Every output by its name, in whichever order it lies in memory, and the caller's own; by streams as well."""
    path = save_raw(head, tmp_path / "m.onnx")
    with open_backend(path) as backend, OnnxRuntimeBackend(path, read_onnx_spec(path)) as reference:
        batch = pictures(backend.spec, 3)
        expected = reference.infer(batch).arrays
        for own in (backend, *backend.side_by_side()):
            found = own.infer(batch).arrays
            own.infer(pictures(backend.spec, 3, seed=1))
            assert list(found) == [tensor.name for tensor in backend.spec.outputs]
            for name, array in found.items():
                np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-4)
                np.add(array, 1, out=array)  # writable


@pytest.mark.parametrize("raw", [False, True], ids=["whole", "raw"])
def test_boxes_that_nobody_wants(open_backend: Opener, tmp_path: Path, raw: bool) -> None:
    """They may be anything finite; nothing else changes with the threshold, at whichever call."""
    head, path = TinyHead(branch=5, batch=3), tmp_path / "m.onnx"
    if raw:
        save_raw(head, path)
    else:
        onnx.save(tiny_head(head), path)
    with open_backend(path) as backend:
        batch = pictures(backend.spec, 3)
        every = as_anchor_free(backend.infer(batch)).first
        best = every[:, 4:].max(axis=1)
        for own in (backend, *backend.side_by_side()):
            for above in (0.0, 0.5, float(np.median(best)) + 1e-6, 1.0, 0.5):
                found = as_anchor_free(own.infer(dataclasses.replace(batch, above=above))).first
                np.testing.assert_allclose(found[:, 4:], every[:, 4:], rtol=1e-5, atol=1e-5)
                assert np.isfinite(found).all()
                for i, wanted in enumerate(best > above):
                    np.testing.assert_allclose(found[i, :4, wanted], every[i, :4, wanted], rtol=1e-4, atol=1e-3)


def test_results_belong_to_the_caller(open_backend: Opener, tmp_path: Path) -> None:
    with open_backend(tiny_yolo(tmp_path / "m.onnx")) as backend:
        first = backend.infer(pictures(backend.spec, 1, seed=1)).first
        kept = first.copy()
        backend.infer(pictures(backend.spec, 1, seed=2))
        np.testing.assert_array_equal(first, kept)
        first += 1  # writable, too


def test_inputs_are_left_alone(open_backend: Opener, tmp_path: Path) -> None:
    with open_backend(tiny_yolo(tmp_path / "m.onnx")) as backend:
        batch = pictures(backend.spec, 1)
        before = batch.images.copy()
        backend.infer(batch)
        np.testing.assert_array_equal(batch.images, before)


def test_batches_of_any_size_within_the_range(open_backend: Opener, tmp_path: Path) -> None:
    with open_backend(tiny_yolo(tmp_path / "m.onnx", batch=None)) as backend:
        whole = pictures(backend.spec, 5)
        outputs = backend.infer(whole).first
        for i in (0, 4):
            alone = Batch(images=whole.images[i : i + 1], geometries=whole.geometries[i : i + 1])
            np.testing.assert_allclose(backend.infer(alone).first[0], outputs[i], rtol=1e-5, atol=1e-5)


def test_dynamic_sizes(open_backend: Opener, tmp_path: Path) -> None:
    with open_backend(tiny_yolo(tmp_path / "m.onnx", dynamic_size=True)) as backend:
        assert backend.spec.is_dynamic_size
        for size in ((64, 32), (32, 64), (64, 64)):
            batch = letterbox([np.zeros((*size, 3), np.uint8)], backend.spec)
            assert batch.images.shape[2:] == size
            assert backend.infer(batch).first.shape[2] == size[0] * size[1] // 256


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 3, 64, 64), "float32", "batch size out of range, got 2, expected 1 to 1"),
        ((1, 3, 64, 32), "float32", "wrong size"),
        ((1, 3, 64, 64), "float16", "wrong dtype, got float16, expected float32"),
    ],
)
def test_bad_batches(open_backend: Opener, tmp_path: Path, shape: tuple[int, ...], dtype: str, message: str) -> None:
    with open_backend(tiny_yolo(tmp_path / "m.onnx")) as backend:
        good = pictures(backend.spec, 1)
        bad = Batch(images=np.zeros(shape, dtype), geometries=good.geometries * shape[0])
        with pytest.raises(BackendError, match=message):
            backend.infer(bad)
        assert np.isfinite(backend.infer(good).first).all(), "an error leaves the back-end usable"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_side_by_side(open_backend: Opener, tmp_path: Path, precision: Precision) -> None:
    with open_backend(model(tmp_path / "m.onnx", precision)) as backend:
        several = backend.side_by_side()
        assert several
        assert backend.side_by_side() == several, "made once"
        inputs = [pictures(backend.spec, 1, seed=i) for i in range(40)]
        expected = [backend.infer(batch).first for batch in inputs]

        def run(index: int) -> None:
            own = several[index]
            for i in range(index, len(inputs), len(several)):
                np.testing.assert_allclose(own.infer(inputs[i]).first, expected[i], rtol=1e-5, atol=1e-5)

        with ThreadPoolExecutor(len(several)) as pool:
            list(pool.map(run, range(len(several))))
    for own in several:
        with pytest.raises(BackendError, match="closed"):
            own.infer(inputs[0])


def test_closed(open_backend: Opener, tmp_path: Path) -> None:
    backend = open_backend(tiny_yolo(tmp_path / "m.onnx"))
    batch = pictures(backend.spec, 1)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.infer(batch)
    with pytest.raises(BackendError, match="closed"):
        backend.side_by_side()


def test_corrupt_file(open_backend: Opener, tmp_path: Path) -> None:
    path = tiny_yolo(tmp_path / "m.onnx")
    spec = read_onnx_spec(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BackendError, match=r"m\.onnx"):
        open_backend(path, spec)
