"""Whole exports through the accuracy gate, on a model that quantizes well and on one that does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import onnx
import pytest

from tests.support.datasets import tiny_set
from tests.support.media import write_video
from tests.support.tiny_convs import TRAP, tiny_convs
from yolotrt import Detector
from yolotrt.errors import AccuracyError, DatasetError, UsageError
from yolotrt.evaluation.dataset import open_dataset
from yolotrt.evaluation.validate import VAL_OPTIONS, validate
from yolotrt.export.bundle import latest_bundle
from yolotrt.export.gate.proof import Latency
from yolotrt.export.gate.prove import _Run
from yolotrt.export.gate.yardstick import ByParity
from yolotrt.export.pipeline import ExportResult, export_model
from yolotrt.export.stages import StageLog, StageReport
from yolotrt.manifest import Manifest
from yolotrt.model_spec_infer import read_onnx_spec

Export = Callable[..., ExportResult]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOTRT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set that the tiny models find every box of."""
    return tiny_set(tmp_path / "set")


@pytest.fixture
def export(tmp_path: Path, data: Path) -> Export:
    """`export_model` of a tiny model of four pictures, to `tmp_path / "out"`, for the CPU."""

    def run(model: Path, **options: Any) -> ExportResult:
        given: dict[str, Any] = {
            "precision": "int8", "target": "onnx", "output": tmp_path / "out", "data": data,
            "images": data.parent / "images/val", "calib": data.parent / "images/val", "calib_few": True,
        }  # fmt: skip
        return export_model(model, **(given | options))

    return run


def accuracy(result: ExportResult) -> dict[str, Any]:
    found: dict[str, Any] = result.manifest.checks["accuracy"]
    return found


def version(result: ExportResult, name: str) -> dict[str, Any]:
    return next(v for v in accuracy(result)["versions"] if v["name"] == name)


def map_of(model: Path, data: Path) -> float:
    with Detector(model, options=VAL_OPTIONS, backend="onnxruntime") as detector:
        return float(validate(detector, open_dataset(data)).metrics.map50_95 or 0)


def reads_quantized(model: Path, convolution: str) -> bool:
    graph = onnx.load(model).graph
    node = next(n for n in graph.node if n.name == convolution)
    makers = {output: n.op_type for n in graph.node for output in n.output}
    return makers.get(node.input[0]) == "DequantizeLinear"


def test_int8_is_made_scored_and_recorded(tmp_path: Path, data: Path, export: Export) -> None:
    result = export(tiny_convs(tmp_path / "m.onnx"))
    manifest = Manifest.read(result.manifest_path)
    assert manifest == result.manifest
    assert manifest.accepted
    assert (manifest.spec.precision, manifest.precision_asked) == ("int8", "int8")
    proof = accuracy(result)
    assert (proof["measure"], proof["pictures"], proof["met"], proof["max_drop"]) == ("mAP50-95", 4, True, 0.005)
    assert [v["name"] for v in proof["versions"]] == ["FP32", "FP16", "INT8"]
    chosen = version(result, "INT8")
    assert chosen["chosen"]
    assert chosen["shares"]["int8"] > 0.85
    assert chosen["latency"]["p50_ms"] > 0
    assert chosen["score"]["value"] == pytest.approx(map_of(result.onnx, data), abs=1e-9)
    assert {layer["name"] for layer in proof["layers"]} == {"stem", "spread", "gather", "wide"}
    assert proof["calibration"]["pictures"] == 4
    assert any("calibration pictures are validation pictures too" in note for note in proof["notes"])
    assert reads_quantized(result.onnx, TRAP)
    assert not reads_quantized(result.onnx, "last")
    assert result.report is not None
    assert "INT8" in result.report.read_text(encoding="utf-8")
    json.dumps(result.to_dict())


def test_the_search_gives_back_what_cannot_be_quantized(tmp_path: Path, data: Path, export: Export) -> None:
    result = export(tiny_convs(tmp_path / "m.onnx", trap=True))
    proof = accuracy(result)
    whole, mixed = version(result, "INT8"), version(result, "INT8, 1 convolution in FP16")
    assert not whole["inside"]
    assert whole["relative"] < 0.5
    assert mixed["chosen"]
    assert mixed["given_back"] == [TRAP]
    assert 0.85 < mixed["shares"]["int8"] < whole["shares"]["int8"]
    assert proof["layers"][0]["name"] == TRAP
    assert not proof["layers"][0]["quantized"]
    assert not reads_quantized(result.onnx, TRAP)
    assert reads_quantized(result.onnx, "wide")
    assert map_of(result.onnx, data) >= 0.995


def test_what_misses_the_budget_is_kept_under_another_name(tmp_path: Path, export: Export) -> None:
    good = export(tiny_convs(tmp_path / "m.onnx"))
    kept = {p.name: p.read_bytes() for p in good.manifest_path.parent.iterdir()}
    model = tiny_convs(tmp_path / "m.onnx", trap=True, heavy=True)
    with pytest.raises(
        AccuracyError, match=r"INT8 keeps 1\.\d+% of FP32's mAP50-95, got a drop of .* at most 0\.50%"
    ) as e:
        export(model)
    assert e.value.exit_code == 1
    rejected = e.value.result.manifest_path
    assert rejected == tmp_path / "out-rejected" / "m-int8-rejected.json"
    assert not Manifest.read(rejected).accepted
    assert (rejected.parent / "m-int8-rejected-report.html").is_file()
    assert {p.name: p.read_bytes() for p in good.manifest_path.parent.iterdir()} == kept
    assert latest_bundle(tmp_path) == good.manifest_path
    seen: list[StageReport] = []
    with pytest.raises(AccuracyError, match="INT8 keeps"):
        export(model, on_stage=seen.append)
    assert [s.state for s in seen if s.name == "onnx"] == ["reused"], "it was measured once"
    assert export(model, max_drop=0.99).manifest.accepted


def test_auto_takes_the_fastest_inside_the_budget(tmp_path: Path, export: Export) -> None:
    result = export(tiny_convs(tmp_path / "m.onnx", trap=True), precision="auto")
    versions = accuracy(result)["versions"]
    assert {"FP32", "FP16", "INT8"} < {v["name"] for v in versions}
    timed = {v["name"]: v["latency"]["p50_ms"] for v in versions if v["inside"] and v["name"] != "FP32"}
    (chosen,) = (v for v in versions if v["chosen"])
    assert chosen["name"] == min(timed, key=lambda name: timed[name])
    assert result.manifest.spec.precision == chosen["precision"]
    assert result.onnx.name == "m-auto.onnx"


def test_auto_takes_fp16_where_nothing_can_be_measured(tmp_path: Path, export: Export) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    if not _no_gpu():
        pytest.skip("there is a GPU to measure on")
    result = export(tiny_convs(tmp_path / "m.onnx"), precision="auto", target="tensorrt-rtx")
    proof = accuracy(result)
    assert {v["latency"] for v in proof["versions"]} == {None}
    assert all("no GPU here" in v["latency_note"] for v in proof["versions"])
    assert result.manifest.spec.precision == "fp16"
    assert any("could not be measured" in note for note in proof["notes"])


def chosen_by_speed(inside: set[str], times: dict[str, Latency | str]) -> tuple[str, list[str]]:
    """What `auto` chooses of FP32, FP16 and INT8, and what it notes."""
    run: Any = _Run(cast("Any", SimpleNamespace(choose=True, notes=())), None, cast("Any", None), StageLog(None))
    names = ("FP32", "FP16", "INT8")
    run._candidates = [SimpleNamespace(name=n, precision=n.lower(), quantized=None) for n in names]
    return run._choose(SimpleNamespace(inside=lambda c: c.name in inside), times).name, run._notes


def test_auto_says_that_nothing_was_timed_only_where_that_is_so() -> None:
    timed: dict[str, Latency | str] = {
        name: Latency(p50_ms=ms, p90_ms=ms, runs=1, batch=1, runtime="x")
        for name, ms in {"FP32": 3, "FP16": 2, "INT8": 1}.items()
    }
    assert chosen_by_speed({"FP32", "FP16", "INT8"}, timed) == ("INT8", [])
    assert chosen_by_speed({"FP32"}, timed) == ("FP32", []), "outside the budget is not untimed"
    untimed: dict[str, Latency | str] = dict.fromkeys(timed, "no GPU")
    for inside, chosen in (({"FP16", "INT8"}, "FP16"), ({"INT8"}, "FP32")):
        note = f"Speed could not be measured here, so the choice fell on {chosen}."
        assert chosen_by_speed(inside, untimed) == (chosen, [note])


def _no_gpu() -> bool:
    from yolotrt.cuda.device import device_count

    return device_count() == 0


def test_fp16_can_be_proven_too(tmp_path: Path, export: Export) -> None:
    result = export(tiny_convs(tmp_path / "m.onnx"), precision="fp16", calib=None)
    assert version(result, "FP16")["chosen"]
    assert accuracy(result)["calibration"] is None
    assert "calibration" not in {s.name for s in result.stages}


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_without_labels_boxes_are_compared(tmp_path: Path, data: Path, export: Export, kind: str) -> None:
    calib = data.parent / "images/val"
    if kind == "video":
        frames = [np.asarray(cv2.imread(str(p)), np.uint8) for p in sorted(calib.iterdir())]
        calib = write_video(tmp_path / "clip.mp4", frames)
    good = export(tiny_convs(tmp_path / "m.onnx"), data=None, calib=calib)
    proof = accuracy(good)
    assert (proof["measure"], version(good, "INT8")["score"]["value"]) == ("parity", 1.0)
    assert any("no labels" in note for note in proof["notes"])
    trapped = export(tiny_convs(tmp_path / "m.onnx", trap=True), data=None, calib=calib)
    assert version(trapped, "INT8")["score"]["value"] < 0.5
    assert version(trapped, "INT8, 1 convolution in FP16")["given_back"] == [TRAP]


def test_validation_pictures_that_cannot_be_read_are_left_out(tmp_path: Path, data: Path, export: Export) -> None:
    good = shutil.copytree(data.parent / "images/val", tmp_path / "good")
    (data.parent / "images/val/a.png").write_bytes(b"")
    result = export(tiny_convs(tmp_path / "m.onnx"), images=good, calib=good)
    proof = accuracy(result)
    assert (proof["pictures"], version(result, "INT8")["chosen"]) == (3, True)
    assert "1 validation pictures cannot be used and are left out: a.png" in proof["notes"]
    assert next(s for s in result.stages if s.name == "accuracy").result.endswith("on 3 pictures")


def test_compared_pictures_that_cannot_be_read_are_left_out(tmp_path: Path, data: Path) -> None:
    model = tiny_convs(tmp_path / "m.onnx")
    paths = sorted((data.parent / "images/val").iterdir())
    missing = [tmp_path / "folder" / f"{i}.png" for i in range(10)]
    yardstick = ByParity(read_onnx_spec(model), onnx.load(model), "some", [*missing, *paths])
    assert yardstick.score(onnx.load(model), "fp16").value == 1
    assert (yardstick.paths, yardstick.pictures) == (paths, 4)
    names = ", ".join(f"{i}.png" for i in range(8))
    assert yardstick.notes == (f"10 validation pictures cannot be used and are left out: {names}, and 2 more",)


def test_a_coco_file_apart_from_its_pictures(tmp_path: Path, data: Path, export: Export) -> None:
    apart = tmp_path / "apart" / "coco.json"
    apart.parent.mkdir()
    (data.parent / "coco.json").rename(apart)
    with pytest.raises(DatasetError, match=r"its pictures are not beside it, .*\. Put the file beside its pictures\.$"):
        export(tiny_convs(tmp_path / "m.onnx"), data=apart)


def test_the_same_again_is_reused_and_other_labels_are_not(tmp_path: Path, data: Path, export: Export) -> None:
    model = tiny_convs(tmp_path / "m.onnx")
    first = export(model)
    again = export(model)
    assert again.unchanged
    assert again.report == first.report
    assert again.report is not None
    again.report.unlink()
    assert not export(model).unchanged
    label = data.parent / "labels/val/a.txt"
    label.write_text(f"2{label.read_text()[1:]}")  # the first box is blue now
    third = export(model)
    assert not third.unchanged
    assert next(s for s in third.stages if s.name == "calibration").details["reused"]
    assert version(third, "FP32")["score"]["value"] < version(first, "FP32")["score"]["value"]


def test_an_interrupt_leaves_nothing(tmp_path: Path, export: Export) -> None:
    def interrupt(report: StageReport) -> None:
        if report.name == "int8 layers":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(tiny_convs(tmp_path / "m.onnx"), on_stage=interrupt)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out-rejected").exists()


def test_a_quantized_graph_is_taken_as_it_is_or_not_at_all(tmp_path: Path, export: Export) -> None:
    quantized = export(tiny_convs(tmp_path / "m.onnx")).onnx
    for precision in ("fp32", "fp16", "fp8", "auto"):
        with pytest.raises(UsageError, match="its graph is quantized to INT8 already and cannot be made"):
            export(quantized, precision=precision, output=tmp_path / "b")
    with pytest.raises(UsageError, match="its graph is quantized to INT8 already, and without FP32"):
        export(quantized, output=tmp_path / "b")
    result = export(quantized, precision=None, data=None, calib=None, output=tmp_path / "b")
    assert result.manifest.spec.precision == "int8"
    assert reads_quantized(result.onnx, TRAP)
