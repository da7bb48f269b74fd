"""Exports with a raw head or pictures in FP16: the bundle, the boxes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.export.conftest import Weights
from tests.support.command_line import CommandLine
from tests.support.tiny_heads import TinyHead, tiny_head
from tests.support.tiny_models import tiny_yolo
from yolotrt import Detector
from yolotrt.errors import UsageError
from yolotrt.export.edges import half_input
from yolotrt.export.head_surgery import HeadError
from yolotrt.export.pipeline import export_model
from yolotrt.manifest import Manifest
from yolotrt.model_spec_infer import load_onnx, read_onnx_spec
from yolotrt.sources.images import read_image

HEAD = TinyHead(reg_max=8, strides=(8, 16, 32), imgsz=(96, 96), nc=2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_head(HEAD), path)
    return path


def export(source: Path, pictures: Path, **options: Any) -> Any:
    return export_model(source, images=pictures, target="onnx", output=source.parent / "out", **options)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("precision", "fp16_input"), [("fp32", False), ("fp16", False), ("fp16", True)])
def test_a_raw_head_finds_the_same(
    source: Path, pictures: Path, precision: Any, fp16_input: bool, backend: Any, tmp_path: Path
) -> None:
    result = export(source, pictures, precision=precision, head="raw", fp16_input=fp16_input)
    assert [s.name for s in result.stages][-3:] == ["precision", "edges", "plan"]
    assert "edges" in result.manifest.checks
    spec = read_onnx_spec(result.onnx)
    assert Manifest.read(result.manifest_path).spec == spec
    assert (spec.head, spec.raw, spec.precision) == ("raw", HEAD.raw, precision)
    assert spec.input.dtype == ("float16" if fp16_input else "float32")
    reference = export_model(source, images=pictures, target="onnx", output=tmp_path / "whole", precision=precision)
    images = [read_image(p) for p in sorted(pictures.iterdir())]
    with (
        Detector(reference.manifest_path, backend=backend, conf=0.6) as whole,
        Detector(result.manifest_path, backend=backend, conf=0.6) as cut,
    ):
        assert cut.spec == spec
        # CPU libraries leave a cast to FP16 and back out, so only the picture that is FP16 itself is rounded.
        px, score = (1.0, 0.02) if fp16_input else (0.05, 1e-4)
        for a, b in zip(whole(images), cut(images), strict=True):
            assert len(a) >= 3
            np.testing.assert_array_equal(a.class_id, b.class_id)
            np.testing.assert_allclose(a.xyxy, b.xyxy, atol=px)
            np.testing.assert_allclose(a.confidence, b.confidence, atol=score)


def test_other_edges_are_another_export(source: Path, pictures: Path) -> None:
    made = [export(source, pictures, precision="fp16", **options) for options in ({}, {"head": "raw"}, {"head": "raw"})]
    assert [result.unchanged for result in made] == [False, False, True]
    assert "edges" not in made[0].manifest.checks


def test_weights_and_a_plan(weights: Weights, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    result = export_model(
        weights("yolov8n"), images=pictures, imgsz=96, target="tensorrt-rtx", head="raw", fp16_input=True,
        batch=(1, 2, 4), output=tmp_path / "out",
    )  # fmt: skip
    spec = result.manifest.spec
    assert result.plan is not None
    assert spec.raw is not None
    assert (spec.raw.reg_max, spec.input.dtype, spec.batch.max) == (16, "float16", 4)
    assert spec.outputs[0].shape == (None, 64, 12, 12)


def test_heads_that_do_not_fit_are_named_before_anything_takes_long(tmp_path: Path, pictures: Path) -> None:
    seen: list[str] = []
    with pytest.raises(HeadError, match=r"no raw form: .*--head whole"):
        export_model(
            tiny_yolo(tmp_path / "m.onnx"), head="raw", precision="fp16", target="onnx", images=pictures,
            output=tmp_path / "out", on_stage=lambda report: seen.append(report.name),
        )  # fmt: skip
    assert "comparison" not in seen
    assert not (tmp_path / "out").exists()


def test_options_that_have_no_use(source: Path, pictures: Path) -> None:
    with pytest.raises(UsageError, match="option fp16_input is for graphs in FP16, got precision fp32"):
        export(source, pictures, precision="fp32", fp16_input=True)
    with pytest.raises(UsageError, match=r"option head is unknown, got cut, expected whole \| raw"):
        export(source, pictures, head="cut")
    made = export(source, pictures, precision="fp32", head="raw")
    with pytest.raises(UsageError, match="its head is raw, which cannot be exported again"):
        export_model(made.onnx, output=source.parent / "again")


def test_an_input_that_is_read_as_it_is(tmp_path: Path) -> None:
    model = load_onnx(tiny_yolo(tmp_path / "m.onnx"))
    spec = read_onnx_spec(model)
    (same, described), why = half_input(model, spec)
    assert same is model
    assert described is spec
    assert why == "input left in FLOAT32: AveragePool reads it as it is"


def test_from_the_command_line(
    source: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = CommandLine(monkeypatch, capfd)
    options = ["--target", "onnx", "--images", str(pictures), "--output", str(source.parent / "out")]
    done = run("export", str(source), "--fp16", "--head", "raw", "--fp16-input", "--json", *options)
    assert done.code == 0, done.err
    assert [s["name"] for s in json.loads(done.out)["stages"]][-2] == "edges"
    shown = run("inspect", str(source.parent / "out"))
    assert "levels of stride 8, 16, 32, 8 numbers per side" in shown.out
    refused = run("export", str(source), "--head", "half", *options)
    assert refused.code == 2
    assert refused.err.strip() == "Error: option head is unknown, got half, expected whole | raw"
