"""Which back-end is taken, and that a fallback is always said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.manifests import manifest_of
from tests.support.tiny_models import tiny_yolo
from tests.support.tiny_quantized import Kind, tiny_quantized
from yolotrt import Detector
from yolotrt.backends import BackendName, open_backend
from yolotrt.backends.onnx_runtime import OnnxRuntimeBackend
from yolotrt.errors import FallbackRefusedError, UsageError, YolotrtError
from yolotrt.files import sha256_of
from yolotrt.manifest import PlanRecord
from yolotrt.model_files import find_model_files
from yolotrt.model_spec_infer import read_onnx_spec


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose plan is built for a TensorRT that does not exist."""
    folder = tmp_path / "m-fp32"
    onnx = tiny_yolo(folder / "m.onnx")
    plan = folder / "m.engine"
    plan.write_bytes(b"ftrt" + bytes(1000))
    built = PlanRecord(file=plan.name, sha256=sha256_of(plan), flavour="tensorrt", version="7.0.0")
    manifest_of(onnx, plan=built).write(folder / "m.json")
    return folder


def test_auto_takes_openvino_for_onnx(tmp_path: Path) -> None:
    for model in (tiny_yolo(tmp_path / "m.onnx"), tiny_quantized(tmp_path / "q.onnx", "int8")):
        with open_backend(find_model_files(model)) as backend:
            assert backend.info.backend == "openvino"
            assert not backend.info.note.startswith("not ")


@pytest.mark.parametrize(("kind", "left_alone"), [("fp8", True), ("int8", False)])
def test_onnxruntime_leaves_pairs_of_fp8_where_they_are(tmp_path: Path, kind: Kind, left_alone: bool) -> None:
    path = tiny_quantized(tmp_path / "q.onnx", kind)
    with OnnxRuntimeBackend(path, read_onnx_spec(path)) as backend:
        options = backend._session.get_session_options()
        if left_alone:
            assert options.get_session_config_entry("session.disable_quant_qdq") == "1"
        else:
            with pytest.raises(RuntimeError, match="does not have"):
                options.get_session_config_entry("session.disable_quant_qdq")


def test_auto_takes_onnxruntime_for_fp8_and_says_what_is_faster(tmp_path: Path) -> None:
    files = find_model_files(tiny_quantized(tmp_path / "q.onnx", "fp8"))
    with open_backend(files, strict=True) as backend:
        assert backend.info.backend == "onnxruntime"
        assert "CPUs have no FP8" in str(backend.info)
    with open_backend(files, backend="openvino") as backend:
        assert backend.info.backend == "openvino", "asked for, it runs there too"


def test_the_asked_one(tmp_path: Path) -> None:
    with open_backend(find_model_files(tiny_yolo(tmp_path / "m.onnx")), backend="onnxruntime", device="cpu") as backend:
        assert backend.info.backend == "onnxruntime"


def test_a_bundle_falls_back_visibly(bundle: Path) -> None:
    for spelled in (bundle, bundle / "m.json"):
        with open_backend(find_model_files(spelled)) as backend:
            assert backend.info.backend == "openvino"
            assert backend.info.note.startswith("not tensorrt: ")
            assert backend.info.note in str(backend.info)


def test_strict_refuses_the_fallback(bundle: Path) -> None:
    with pytest.raises(FallbackRefusedError, match="strict forbids"):
        open_backend(find_model_files(bundle), strict=True)
    with open_backend(find_model_files(bundle), strict=True, device="cpu") as backend:
        assert backend.info.device == "cpu", "asking for the CPU is no fallback"


def test_a_plan_alone_has_nothing_to_fall_back_to(bundle: Path) -> None:
    with pytest.raises(YolotrtError) as e:
        open_backend(find_model_files(bundle / "m.engine"))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("model", "backend", "device"),
    [
        ("m.onnx", "mystery", "auto"),
        ("m.onnx", "auto", "tpu"),
        ("m.onnx", "auto", "cuda:x"),
        ("m.onnx", "auto", "cuda"),
        ("m.onnx", "tensorrt", "auto"),
        ("m.onnx", "openvino", "cuda:0"),
        ("m.engine", "auto", "cpu"),
        ("m.engine", "onnxruntime", "auto"),
    ],
)
def test_wrong_calls(bundle: Path, model: str, backend: BackendName, device: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        open_backend(find_model_files(bundle / model), backend=backend, device=device)


def test_a_bundle_with_a_missing_file(bundle: Path) -> None:
    (bundle / "m.engine").unlink()
    with pytest.raises(YolotrtError, match=r"names m\.engine, which is missing"):
        find_model_files(bundle)


def test_threads_reach_the_back_end(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "m.onnx")
    files = find_model_files(model)
    names: tuple[BackendName, ...] = ("onnxruntime", "openvino")
    for name in names:
        with open_backend(files, backend=name, threads=1) as backend:
            assert backend.info.backend == name
    with pytest.raises(UsageError, match="option threads is out of range, got -1"):
        open_backend(files, threads=-1)
    with Detector(model, threads=1) as detector:
        assert detector.backend.spec == detector.spec
