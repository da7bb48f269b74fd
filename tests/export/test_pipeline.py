"""Whole exports through the Python call: stages, reuse, targets, ONNX sources."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.export.conftest import Weights
from tests.support.tiny_models import tiny_yolo
from yolotrt import files
from yolotrt.backends.flavours import FAMILY
from yolotrt.errors import (
    ExportError,
    MissingExtraError,
    ModelError,
    SinkError,
    SourceError,
    UnsupportedOptionError,
    UsageError,
)
from yolotrt.export.bundle import latest_bundle
from yolotrt.export.compare import Comparison
from yolotrt.export.pipeline import ExportResult, export_model
from yolotrt.export.stages import StageReport
from yolotrt.manifest import Manifest
from yolotrt.model_spec import BatchRange
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import PlanOptions

STAGES = ["load", "onnx", "checker", "onnxsim", "comparison", "precision", "plan"]


@pytest.fixture
def export(tmp_path: Path, pictures: Path) -> Any:
    """`export_model` with small pictures, into `tmp_path / "out"`."""

    def run(model: str | Path, **options: Any) -> ExportResult:
        options = {"output": tmp_path / "out", "images": pictures, "target": "onnx", **options}
        return export_model(model, **options)

    return run


def states(result: ExportResult) -> dict[str, str]:
    return {s.name: s.state for s in result.stages}


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_plan_is_built_from_weights(weights: Weights, export: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    seen: list[StageReport] = []
    result = export(weights("yolov8n"), target="tensorrt-rtx", imgsz=(96, 128), on_stage=seen.append)
    assert [s.name for s in result.stages] == STAGES
    assert [s for s in seen if s.state != "running"] == list(result.stages)
    assert names_in(tmp_path / "out") == ["yolov8n-fp16.engine", "yolov8n-fp16.json", "yolov8n-fp16.onnx"]
    manifest = Manifest.read(result.manifest_path)
    assert manifest == result.manifest
    assert (manifest.spec.precision, manifest.spec.imgsz, manifest.precision_asked) == ("fp16", (96, 128), "fp16")
    assert manifest.plan is not None
    assert result.plan is not None
    assert manifest.plan.flavour == "tensorrt_rtx"
    assert files.sha256_of(result.plan) == manifest.plan.sha256
    assert manifest.checks["comparison"]["pictures"] == 3
    assert manifest.checks["precision"]["kept_fp32"]["box decode"] > 0
    json.dumps(result.to_dict())
    spec = read_onnx_spec(result.onnx)
    assert spec == manifest.spec
    metadata = {p.key: p.value for p in onnx.load(result.onnx).metadata_props}
    assert (metadata["task"], metadata["imgsz"], metadata["end2end"]) == ("detect", "[96, 128]", "False")


def test_the_same_export_again_makes_nothing(weights: Weights, export: Any, tmp_path: Path) -> None:
    first = export(weights("yolov8n"), imgsz=(64, 64))
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    os.utime(first.manifest_path, (1, 1))
    again = export(weights("yolov8n"), imgsz=(64, 64))
    assert again.unchanged
    assert not first.unchanged
    assert states(again) == {"onnx": "reused"}
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert first.manifest_path.stat().st_mtime > 1, "it is the bundle exported last"
    assert latest_bundle(tmp_path) == first.manifest_path


@pytest.mark.parametrize(
    "change", [{"imgsz": (64, 96)}, {"names": tuple("abcde")}, {"opset": 17}, {"batch": BatchRange(max=2)}]
)
def test_other_options_make_it_again(weights: Weights, export: Any, change: dict[str, Any]) -> None:
    export(weights("yolov8n"), imgsz=(64, 64))
    result = export(weights("yolov8n"), **{"imgsz": (64, 64), **change})
    assert not result.unchanged
    assert states(result)["onnx"] == "done"
    spec = result.manifest.spec
    assert spec.imgsz == change.get("imgsz", (64, 64))
    assert spec.names == change.get("names", ("thing0", "thing1", "thing2", "thing3", "thing4"))
    assert spec.batch == change.get("batch", BatchRange())


def test_force_and_a_damaged_file_make_it_again(weights: Weights, export: Any) -> None:
    first = export(weights("yolov8n"), imgsz=(64, 64))
    content = first.onnx.read_bytes()
    assert not export(weights("yolov8n"), imgsz=(64, 64), force=True).unchanged
    assert first.onnx.read_bytes() == content, "the same inputs give the same bytes"
    first.onnx.write_bytes(content[:1000])
    assert not export(weights("yolov8n"), imgsz=(64, 64)).unchanged
    assert first.onnx.read_bytes() == content


def test_another_plan_of_the_same_graph_reuses_the_graph(weights: Weights, export: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    options = {"imgsz": (64, 64), "target": "tensorrt-rtx"}
    export(weights("yolov8n"), **options)
    result = export(weights("yolov8n"), **options, plan=PlanOptions(compute_capability=("8.9",)))
    assert states(result) == {"onnx": "reused", "plan": "done"}
    assert result.manifest.plan is not None
    assert result.manifest.plan.compute_capabilities == ("8.9",)
    without = export(weights("yolov8n"), **{**options, "target": "onnx"}, precision="fp16")
    assert states(without) == {"onnx": "reused", "plan": "skipped"}
    assert names_in(tmp_path / "out") == ["yolov8n-fp16.json", "yolov8n-fp16.onnx"]


def test_a_failing_export_leaves_the_older_bundle(
    weights: Weights, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(weights("yolov8n"), imgsz=(64, 64))
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}

    def refuse(*_: object, **__: object) -> None:
        raise ExportError("boxes are lost")

    monkeypatch.setattr(Comparison, "check", refuse)
    with pytest.raises(ExportError, match="boxes are lost"):
        export(weights("yolov8n"), imgsz=(96, 96))
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


def test_openvino_is_checked(weights: Weights, export: Any) -> None:
    pytest.importorskip("openvino")
    result = export(weights("yolov8n"), imgsz=(64, 64), target="openvino")
    assert states(result)["openvino"] == "done"
    assert result.manifest.checks["openvino"]["version"].startswith("20")
    assert result.manifest.spec.precision == "fp32"
    assert export(weights("yolov8n"), imgsz=(64, 64), target="openvino").unchanged


def test_an_end_to_end_head(weights: Weights, export: Any) -> None:
    result = export(weights("yolo26n"), imgsz=(64, 96), precision="fp16")
    assert result.manifest.spec.head == "end_to_end"
    assert result.manifest.spec.precision == "fp16"


def test_a_dynamic_onnx_is_fixed_to_what_was_asked(export: Any, tmp_path: Path) -> None:
    source = tiny_yolo(tmp_path / "tiny.onnx", batch=None, dynamic_size=True, imgsz=(64, 96))
    result = export(source)
    assert [s.name for s in result.stages] == STAGES
    spec = result.manifest.spec
    assert (spec.input.shape, spec.outputs[0].shape) == ((1, 3, 64, 96), (1, 7, 24))
    assert spec.names == ("red", "green", "blue")
    ranged = export(source, imgsz=(128, 64), batch=BatchRange(min=1, opt=4, max=8), names=("x", "y", "z"))
    spec = read_onnx_spec(ranged.onnx)
    assert (spec.input.shape, spec.outputs[0].shape) == ((None, 3, 128, 64), (None, 7, 32))
    assert (spec.batch, spec.names) == (BatchRange(min=1, opt=4, max=8), ("x", "y", "z"))


def test_a_bundle_of_our_own_is_a_source_again(weights: Weights, export: Any, tmp_path: Path) -> None:
    first = export(weights("yolov8n"), imgsz=(64, 64))
    half = export(first.onnx, output=tmp_path / "half", precision="fp16", names=tuple("abcde"))
    assert half.onnx.name == "yolov8n-fp16.onnx"
    assert half.manifest.spec.names == tuple("abcde")
    again = export(half.onnx, output=tmp_path / "again")
    assert again.manifest.spec.precision == "fp16"
    assert "already" in next(s.result for s in again.stages if s.name == "precision")
    with pytest.raises(UsageError, match="FP16 already"):
        export(half.onnx, precision="fp32")
    with pytest.raises(UsageError, match="overwrite its own source"):
        export(first.onnx)


def test_an_onnx_with_a_fixed_shape(export: Any, tmp_path: Path) -> None:
    source = tiny_yolo(tmp_path / "tiny.onnx", batch=2)
    assert export(source).manifest.spec.batch == BatchRange(min=2, opt=2, max=2)
    with pytest.raises(UsageError, match="fixed batch size, got 1,4,8, expected 2"):
        export(source, batch=BatchRange(min=1, opt=4, max=8))
    with pytest.raises(UsageError, match=r"fixed input size, got --imgsz 96x96, expected 64x64"):
        export(source, imgsz=(96, 96))
    with pytest.raises(UsageError, match="weights only"):
        export(source, opset=17)
    with pytest.raises(UsageError, match="got 2 names, expected 3 classes"):
        export(source, names=("a", "b"))


def test_sources_that_are_no_yolo(export: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not onnx")
    with pytest.raises(ModelError, match="not a"):
        export(broken)
    other = tmp_path / "other.onnx"
    value = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"])]
    made = onnx.helper.make_graph(nodes, "g", [value("x", 1, [1, 10])], [value("y", 1, [1, 10])])
    onnx.save(onnx.helper.make_model(made, ir_version=10), other)
    with pytest.raises(ModelError, match="not a YOLO"):
        export(other)


def test_a_model_that_gives_nan(export: Any, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="NaN") as raised:
        export(tiny_yolo(tmp_path / "nan.onnx", nan=True))
    assert type(raised.value).__name__ == "NonFiniteOutputError"
    assert not (tmp_path / "out").exists()


def test_options_that_contradict_each_other(weights: Weights, export: Any) -> None:
    with pytest.raises(UsageError, match="options of the plan were given"):
        export(weights("yolov8n"), plan=PlanOptions(refittable=True))
    if pytest.importorskip("tensorrt_rtx_bindings"):
        with pytest.raises(UnsupportedOptionError, match="timing_cache"):
            export(weights("yolov8n"), target="tensorrt-rtx", plan=PlanOptions(timing_cache=Path("x")))


def test_pictures(weights: Weights, export: Any, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no pictures at"):
        export(weights("yolov8n"), images=tmp_path / "none")
    one = export(weights("yolov8n"), imgsz=(64, 64), images=pictures / "0.png")
    assert one.manifest.checks["comparison"]["pictures"] == 1
    two = export(weights("yolov8n"), imgsz=(64, 64), images=pictures / "[01].png")
    assert two.manifest.checks["comparison"]["pictures"] == 2
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SourceError, match="no pictures at"):
        export(weights("yolov8n"), images=tmp_path)


def test_the_output_cannot_be_written(weights: Weights, export: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SinkError, match="a file stands where a folder is needed"):
        export(weights("yolov8n"), imgsz=(64, 64), output=tmp_path / "file")


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make packages look as if they were not installed."""
    for name in [*packages, *(m for m in sys.modules if m.partition(".")[0] in packages)]:
        monkeypatch.setitem(sys.modules, name, None)


def test_without_tensorrt_auto_stops_at_the_onnx(
    weights: Weights, export: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, *(name for can in FAMILY for name in can.modules))
    result = export(weights("yolov8n"), imgsz=(64, 64), target="auto")
    assert (result.plan, result.manifest.spec.precision) == (None, "fp32")
    assert states(result)["plan"] == "skipped"
    assert 'pip install "yolotrt[rtx]"' in result.note
    with pytest.raises(MissingExtraError, match=r"yolotrt\[rtx\]"):
        export(weights("yolov8n"), imgsz=(64, 64), target="tensorrt-rtx")


@pytest.mark.parametrize(
    ("package", "extra", "target"),
    [("ultralytics", "export", "onnx"), ("onnxsim", "export", "onnx"), ("openvino", "openvino", "openvino")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    weights: Weights, export: Any, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, target: str
) -> None:
    path = weights("yolov8n")
    hide(monkeypatch, package)
    with pytest.raises(MissingExtraError, match=rf"{package}, which is not installed.*yolotrt\[{extra}\]"):
        export(path, imgsz=(64, 64), target=target)


@pytest.mark.slow
def test_rtdetr(weights: Weights, export: Any) -> None:
    result = export(weights("rtdetr-l"), imgsz=(160, 160))
    assert result.manifest.spec.head == "detr"
