"""`yolotrt inspect` on each kind of file, sound and bad."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.manifests import manifest_of
from tests.support.tiny_models import tiny_yolo
from yolotrt import files
from yolotrt.backends import flavours
from yolotrt.errors import ModelError
from yolotrt.export.plan import build_plan
from yolotrt.inspection.inspect import inspect_model
from yolotrt.inspection.plan_layers import parse_layers
from yolotrt.manifest import FileRecord, PlanRecord
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import PlanOptions


def inspect_cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "yolotrt", "inspect", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def as_json(*arguments: str | Path) -> dict[str, Any]:
    result = inspect_cli(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def runner(found: dict[str, Any], backend: str) -> dict[str, Any]:
    return next(r for r in found["runners"] if r["backend"] == backend)


@pytest.fixture(scope="module")
def plan_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real plan; TensorRT-RTX makes it without a GPU."""
    rtx = next((f for f in flavours.installed() if f.can.builds_without_gpu and f.problem is None), None)
    if rtx is None:
        pytest.skip("TensorRT-RTX is not installed")
    model = tiny_yolo(tmp_path_factory.mktemp("plan") / "tiny.onnx")
    return build_plan(model, flavour=rtx, spec=read_onnx_spec(model), options=PlanOptions()).data


@pytest.fixture
def bundle(tmp_path: Path, plan_bytes: bytes) -> Path:
    folder = tmp_path / "a bundle"
    model = tiny_yolo(folder / "tiny.onnx")
    plan = folder / "tiny.engine"
    plan.write_bytes(plan_bytes)
    version = next(f.version for f in flavours.installed() if f.can.builds_without_gpu)
    manifest_of(
        model,
        source=FileRecord(file="tiny.pt", sha256="5" * 64),
        plan=PlanRecord(
            file=plan.name,
            sha256=files.sha256_of(plan),
            flavour="tensorrt_rtx",
            version=version,
            options={"workspace_mib": 512},
        ),
    ).write(folder / "tiny.json")
    return folder


def test_an_onnx_file(tmp_path: Path) -> None:
    found = as_json(tiny_yolo(tmp_path / "tiny.onnx"))
    assert found["kind"] == "onnx"
    assert found["spec"]["names"] == ["red", "green", "blue"]
    assert found["inputs"] == [{"name": "images", "dtype": "float32", "shape": [1, 3, 64, 64]}]
    assert found["outputs"][0]["shape"] == [1, 7, 16]
    assert found["precisions"][0]["precision"] == "fp32"
    assert found["precisions"][0]["flop_share"] == 1
    assert found["metadata"]["description"] == "tiny test model"
    assert "layers" not in found
    assert runner(found, "onnxruntime")["runs"] is True
    assert "one inference took" in runner(found, "onnxruntime")["detail"]
    assert "yolotrt export" in runner(found, "tensorrt")["remedy"]


def test_the_layers_on_demand(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx")
    assert [layer["kind"] for layer in as_json(model, "--layers")["layers"]] == ["MatMul"]
    shown = inspect_cli(model, "--layers").stdout
    assert "MatMul" in shown
    assert "colour" in shown
    assert "1 x 3 x 16" in shown


def test_a_dynamic_onnx_file(tmp_path: Path) -> None:
    shown = inspect_cli(tiny_yolo(tmp_path / "tiny.onnx", batch=None, dynamic_size=True)).stdout
    assert "height and width may vary" in shown
    assert "1 to 64" in shown
    assert "? x 3 x ? x ?" in shown


def test_a_bundle_and_its_manifest(bundle: Path) -> None:
    folder, manifest = as_json(bundle), as_json(bundle / "tiny.json")
    assert (folder["kind"], manifest["kind"]) == ("bundle", "manifest")
    assert folder["source"] == {"file": "tiny.pt", "sha256": "5" * 64}
    assert folder["plan"]["flavour"] == "TensorRT-RTX"
    assert folder["plan"]["options"] == {"workspace_mib": 512}
    assert {f["role"]: f["changed"] for f in folder["files"]} == {"onnx": False, "plan": False}
    assert folder["runners"][0]["backend"] == "tensorrt"


def test_a_file_that_is_not_the_manifest_s(bundle: Path) -> None:
    tiny_yolo(bundle / "tiny.onnx", names=("other", "class", "names"))
    shown = inspect_cli(bundle).stdout
    assert "changed since the manifest" in " ".join(shown.split())


def test_a_plan_with_its_manifest(bundle: Path) -> None:
    found = as_json(bundle / "tiny.engine")
    assert found["kind"] == "plan"
    assert found["spec"]["names"] == ["red", "green", "blue"]
    assert found["plan"]["version"]
    assert runner(found, "openvino")["detail"] == "takes an ONNX file, not a plan"


def test_a_plan_alone(tmp_path: Path, plan_bytes: bytes) -> None:
    plan = tmp_path / "alone.engine"
    plan.write_bytes(plan_bytes)
    found = inspect_model(plan)
    assert found.kind == "plan"
    assert found.plan is not None
    assert found.plan.flavour == "TensorRT-RTX"
    assert "8.9" in found.plan.compute_capabilities
    # Without a GPU it cannot be loaded, and then it does not tell what it is; with one it does.
    assert (found.spec is None) == (not found.runners[0].runs)
    assert found.spec is not None or "loaded on a GPU" in found.spec_problem


def test_a_plan_of_another_version(tmp_path: Path, plan_bytes: bytes) -> None:
    plan = tmp_path / "old.engine"
    plan.write_bytes(plan_bytes[:24] + bytes([1, 3, 0, 35]) + plan_bytes[28:])
    found = as_json(plan)
    assert found["plan"]["version"] == "1.3.0.35"
    assert runner(found, "tensorrt")["runs"] is False
    assert "1.3.0.35" in runner(found, "tensorrt")["detail"]


def test_a_plan_with_ultralytics_header(tmp_path: Path, plan_bytes: bytes) -> None:
    header = json.dumps({"task": "detect", "stride": 32, "imgsz": [64, 64], "names": {"0": "a"}}).encode()
    plan = tmp_path / "ultralytics.engine"
    plan.write_bytes(len(header).to_bytes(4, "little") + header + plan_bytes)
    found = as_json(plan)
    assert found["kind"] == "plan with Ultralytics' header"
    assert found["metadata"]["imgsz"] == [64, 64]


def test_a_sound_onnx_file_of_something_else(tmp_path: Path) -> None:
    made = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    found = inspect_model(path)
    assert found.spec is None
    assert "not a YOLO detection model" in found.spec_problem
    assert found.runners == ()
    assert inspect_cli(path).returncode == 0


def bad_files(folder: Path) -> dict[str, Path]:
    contents = {
        "empty.onnx": b"",
        "noise.onnx": b"not a model at all",
        "empty.engine": b"",
        "noise.engine": b"\x00\x01\x02\x03 not a plan",
        "short.engine": b"vtrt" + bytes(200),
        "other.json": b'{"format": "else"}',
        "broken.json": b"{",
        "weights.pt": b"PK",
        "picture.jpg": b"\xff\xd8",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder").mkdir()
    return {name: folder / name for name in [*contents, "folder", "missing.onnx"]}


NAMES = [
    *("empty.onnx", "noise.onnx", "empty.engine", "noise.engine", "short.engine", "other.json", "broken.json"),
    *("weights.pt", "picture.jpg", "folder", "missing.onnx"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = bad_files(tmp_path)[name]
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        inspect_model(path)


def test_a_bad_file_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    result = inspect_cli(bad_files(tmp_path)["noise.engine"], "--json")
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert "not a TensorRT plan" in line


def test_the_inspector_s_text_with_details() -> None:
    layer = {
        "Name": "conv1",
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Channel major FP16 format"}],
        "Outputs": [{"Name": "y", "Dimensions": [1, 4, 8, 8], "Format/Datatype": "Row major linear FP32"}],
        "Weights": {"Type": "Half", "Count": 108},
    }
    (found,) = parse_layers(json.dumps({"Layers": [layer]}))
    assert (found.name, found.kind, found.precision) == ("conv1", "CaskConvolution", "fp16")
    assert found.parameters == 108
    assert found.output == "1 x 4 x 8 x 8"


def test_the_inspector_s_text_without_details() -> None:
    assert [layer.name for layer in parse_layers('{"Layers": ["a", "b"]}')] == ["a", "b"]
    assert parse_layers("not JSON") == []
    assert parse_layers("[]") == []
