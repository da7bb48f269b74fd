from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.manifests import manifest_of
from tests.support.tiny_models import tiny_yolo
from yolotrt.backends import tensorrt_engine
from yolotrt.backends.flavours import Flavour, capabilities, for_target
from yolotrt.backends.tensorrt_engine import check_flavour, choose_flavour, explain
from yolotrt.backends.tensorrt_family import TensorRTBackend
from yolotrt.backends.tensorrt_log import Messages
from yolotrt.cuda.device import Device, device_count
from yolotrt.errors import CudaError, MissingExtraError, ModelError, PlanMismatchError
from yolotrt.export.plan import build_plan
from yolotrt.manifest import Manifest, PlanRecord
from yolotrt.model_spec import BatchRange, TensorSpec
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import PlanOptions
from yolotrt.plan_file import read_plan_file

H200 = Device(index=0, name="NVIDIA H200", compute_capability="9.0", memory_bytes=1)
ULTRALYTICS = {
    "description": "Ultralytics YOLOv8n model",
    "task": "detect",
    "stride": 32,
    "batch": 1,
    "imgsz": [64, 64],
    "names": {0: "red", 1: "green", 2: "blue"},
    "end2end": False,
}


@pytest.fixture(scope="module")
def rtx() -> Flavour:
    return for_target("tensorrt-rtx")


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_yolo(tmp_path_factory.mktemp("onnx") / "m.onnx")


@pytest.fixture(scope="module")
def plan(rtx: Flavour, onnx: Path) -> bytes:
    return build_plan(onnx, flavour=rtx, spec=read_onnx_spec(onnx), options=PlanOptions()).data


def with_ultralytics_header(plan: bytes, metadata: dict[str, Any]) -> bytes:
    text = json.dumps(metadata).encode()
    return len(text).to_bytes(4, "little", signed=True) + text + plan


def write_manifest(path: Path, plan_path: Path, onnx: Path, flavour: Flavour, **options: object) -> Manifest:
    plan = PlanRecord(file=plan_path.name, sha256="0", flavour=flavour.key, version=flavour.version, options=options)
    manifest = manifest_of(onnx, plan=plan)
    manifest.write(path)
    return manifest


def test_plain(tmp_path: Path, plan: bytes, rtx: Flavour) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(plan)
    file = read_plan_file(path)
    assert (file.offset, file.manifest, file.ultralytics_metadata) == (0, None, None)
    assert bytes(file.plan) == plan
    assert (file.header.family, file.version) == ("tensorrt_rtx", rtx.version)
    assert "8.9" in file.compute_capabilities
    assert not file.is_version_compatible
    assert choose_flavour(file) == rtx


@pytest.mark.parametrize(
    ("metadata", "precision"),
    [
        ({}, "unknown"),
        ({"args": {"batch": 1, "quantize": 16}}, "fp16"),
        ({"args": {"batch": 1, "quantize": None}}, "fp32"),
        ({"args": {"quantize": 8}}, "int8"),
        ({"args": {"half": True, "int8": False}}, "fp16"),
        ({"args": {"half": False, "int8": True}}, "int8"),
        ({"args": {"half": False}}, "fp32"),
    ],
)
def test_the_precision_that_ultralytics_names(
    tmp_path: Path, plan: bytes, onnx: Path, metadata: dict[str, Any], precision: str
) -> None:
    path = tmp_path / "u.engine"
    path.write_bytes(with_ultralytics_header(plan, {**ULTRALYTICS, **metadata}))
    file = read_plan_file(path)
    assert file.precision == precision
    given = read_onnx_spec(onnx)
    assert file.spec(inputs=[given.input], outputs=given.outputs).precision == (
        "fp16" if precision == "fp16" else "fp32"
    )
    path.write_bytes(plan)
    assert read_plan_file(path).precision == "unknown"


def test_a_stripped_plan_in_a_runtime_that_cannot_fill_it(tmp_path: Path, plan: bytes) -> None:
    path = tmp_path / "s.engine"
    path.write_bytes(plan)
    lean = Flavour(can=capabilities("tensorrt_lean"), module_name="none", version="10.16")
    nothing: Any = None
    with pytest.raises(ModelError, match="cannot fill a plan that was built with strip"):
        tensorrt_engine._refit(nothing, read_plan_file(path), lean, nothing, Messages())


def test_ultralytics_header(tmp_path: Path, plan: bytes, onnx: Path) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(with_ultralytics_header(plan, ULTRALYTICS))
    file = read_plan_file(path)
    assert bytes(file.plan) == plan
    assert file.offset == len(path.read_bytes()) - len(plan)
    assert file.ultralytics_metadata is not None
    assert file.ultralytics_metadata["imgsz"] == [64, 64]
    spec = read_onnx_spec(onnx)
    assert file.spec(inputs=[spec.input], outputs=spec.outputs, batch=BatchRange()) == spec


def test_spec_of_a_bare_plan(tmp_path: Path, plan: bytes) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(plan)
    file = read_plan_file(path)
    with pytest.raises(ModelError, match=r"without a manifest.*\.json"):
        file.spec()
    spec = file.spec(
        inputs=[TensorSpec(name="images", dtype="float16", shape=(None, 3, None, None))],
        outputs=[TensorSpec(name="output0", dtype="float16", shape=(None, 7, None))],
        batch=BatchRange(min=1, opt=2, max=4),
        imgsz=(320, 640),
    )
    assert (spec.batch.max, spec.imgsz, spec.names) == (4, (320, 640), ("0", "1", "2"))


def test_manifest_beside(tmp_path: Path, plan: bytes, onnx: Path, rtx: Flavour) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(plan)
    manifest = write_manifest(tmp_path / "m.json", path, onnx, rtx, version_compatible=True)
    file = read_plan_file(path)
    assert file.manifest == manifest
    assert file.spec() == manifest.spec
    assert file.spec(inputs=[manifest.spec.input], outputs=manifest.spec.outputs) == manifest.spec
    assert file.is_version_compatible
    other = dataclasses.replace(manifest.spec.input, dtype="float16")
    with pytest.raises(ModelError, match=r"manifest beside it describes another plan.*float16.*float32"):
        file.spec(inputs=[other], outputs=manifest.spec.outputs)


def test_a_manifest_of_another_file_does_not_count(tmp_path: Path, plan: bytes, onnx: Path, rtx: Flavour) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(plan)
    write_manifest(tmp_path / "m.json", tmp_path / "other.engine", onnx, rtx)
    assert read_plan_file(path).manifest is None
    (tmp_path / "m.json").write_text('{"of": "another tool"}')
    assert read_plan_file(path).manifest is None
    (tmp_path / "m.json").write_text('{"format": "yolotrt-manifest", "version": 1')
    with pytest.raises(ModelError, match="not a readable manifest"):
        read_plan_file(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (b"abc", "not a TensorRT plan"),
        (b"PK\x03\x04" + bytes(2000), "not a TensorRT plan"),
        (b"vtrt" + bytes(10), "cut short"),
        ((500).to_bytes(4, "little") + b"{" + b" " * 100, "cut short"),
        ((9).to_bytes(4, "little") + b"{damaged}" + b"vtrt" * 99, "damaged metadata"),
        ((2).to_bytes(4, "little") + b"{}" + b"no plan here", "not a TensorRT plan"),
    ],
)
def test_damaged_and_foreign_files(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        read_plan_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [100, 1000, -1])
def test_truncated(tmp_path: Path, plan: bytes, cut: int) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(plan[:cut])
    with pytest.raises(ModelError, match=f"cut short or damaged, got {len(plan[:cut])} bytes, expected {len(plan)}"):
        read_plan_file(path)


def test_the_header_of_a_tensorrt_plan(tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    data = b"ftrt" + bytes(12) + (1000).to_bytes(8, "little") + bytes((10, 16, 1, 11)) + bytes(972)
    path.write_bytes(data)
    file = read_plan_file(path)
    assert (file.header.family, file.version, file.compute_capabilities) == ("tensorrt", "10.16.1.11", ())
    path.write_bytes(data[:500])
    with pytest.raises(ModelError, match="cut short or damaged, got 500 bytes, expected 1000"):
        read_plan_file(path)
    path.write_bytes(b"ptrt" + bytes(500))
    assert read_plan_file(path).version == ""


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_plan_file(tmp_path / "absent.engine")
    with pytest.raises(ModelError, match="a folder"):
        read_plan_file(tmp_path)


def test_a_plan_for_a_flavour_that_is_not_here(tmp_path: Path, rtx: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(b"ftrt" + bytes(2000))
    file = read_plan_file(path)
    assert file.header.family == "tensorrt"
    monkeypatch.setattr(tensorrt_engine, "installed", lambda: [rtx])
    with pytest.raises(PlanMismatchError) as caught:
        choose_flavour(file)
    for part in ("got TensorRT,", f"expected {rtx.title}", "--target tensorrt-rtx", "yolotrt[tensorrt]"):
        assert part in str(caught.value)
    with pytest.raises(PlanMismatchError, match=r"another TensorRT.*TensorRT-RTX"):
        check_flavour(file, rtx)
    monkeypatch.setattr(tensorrt_engine, "installed", list)
    with pytest.raises(MissingExtraError, match=r"yolotrt\[tensorrt\]"):
        choose_flavour(file)


def test_only_version_compatible_plans_go_to_the_lean_runtime(
    tmp_path: Path, onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(b"ftrt" + bytes(2000))
    lean = Flavour(can=capabilities("tensorrt_lean"), module_name="absent", version="10.16.1.11")
    monkeypatch.setattr(tensorrt_engine, "installed", lambda: [lean])
    with pytest.raises(PlanMismatchError):
        choose_flavour(read_plan_file(path))
    write_manifest(tmp_path / "m.json", path, onnx, lean, version_compatible=True)
    assert choose_flavour(read_plan_file(path)) == lean


def refusal(path: Path, flavour: Flavour, *, errors: tuple[str, ...] = (), diagnostics: tuple[str, ...] = ()) -> str:
    error = explain(read_plan_file(path), flavour, H200, Messages(errors=list(errors)), frozenset(diagnostics))
    assert isinstance(error, PlanMismatchError)
    assert "yolotrt export MODEL --target" in str(error)
    return str(error)


def test_a_plan_of_another_version_by_its_header(tmp_path: Path, plan: bytes, rtx: Flavour) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(plan[:24] + bytes((1, 5, 0, 114)) + plan[28:])
    text = refusal(path, rtx, errors=("Error Code 6: something",))
    assert f"got TensorRT-RTX 1.5.0.114, expected {rtx.title}" in text


def test_a_plan_of_another_version_by_what_tensorrt_says(tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(b"ftrt" + bytes(2000))
    full = Flavour(can=capabilities("tensorrt"), module_name="absent", version="10.16.1.11")
    said = "The engine plan file is not compatible with this version of TensorRT, expecting library version 10.16.1.11"
    text = refusal(path, full, errors=(f"{said} got 10.13.0.35, please rebuild.",))
    assert "got TensorRT 10.13.0.35, expected TensorRT 10.16.1.11" in text
    assert "got TensorRT of another version, expected" in refusal(path, full, errors=(f"{said} got .)",))


def test_a_plan_for_another_gpu(tmp_path: Path, plan: bytes, rtx: Flavour) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(plan)
    text = refusal(path, rtx, diagnostics=("UNSUPPORTED_CC",))
    assert "built for another GPU" in text
    assert "8.9" in text
    assert "9.0 (NVIDIA H200)" in text
    path.write_bytes(b"ftrt" + bytes(2000))
    full = Flavour(can=capabilities("tensorrt"), module_name="absent", version="10.16.1.11")
    said = "The engine plan file is generated on an incompatible device, expecting compute 9.0 got compute 8.6, please"
    text = refusal(path, full, errors=(said,))
    assert "got a plan for compute capability 8.6, expected 9.0 (NVIDIA H200)" in text


def test_a_driver_that_is_too_old_and_an_unknown_reason(tmp_path: Path, plan: bytes, rtx: Flavour) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(plan)
    file = read_plan_file(path)
    old = explain(file, rtx, H200, Messages(), frozenset({"OLD_CUDA_DRIVER"}))
    assert isinstance(old, CudaError)
    assert "newer NVIDIA driver" in str(old)
    for said, part in (("Error Code 2: OutOfMemory (", "out of GPU memory"), ("(cudaError 999: x)", "CUDA failed")):
        failed = explain(file, rtx, H200, Messages(errors=[said]), frozenset())
        assert isinstance(failed, CudaError)
        assert part in str(failed)
    unknown = explain(file, rtx, H200, Messages(errors=["a\nb"]), frozenset())
    assert isinstance(unknown, ModelError)
    assert "cannot load the plan: a b" in str(unknown)


@pytest.mark.skipif(device_count() > 0, reason="says what happens on a machine without a GPU")
def test_opening_a_plan_without_a_gpu(tmp_path: Path, plan: bytes) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(plan)
    with pytest.raises(CudaError, match=r"--device cpu"):
        TensorRTBackend.open(path)
