"""`--target openvino` proves that OpenVINO computes the graph, the quantized ones too."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import onnx
import pytest
from onnx import helper

from tests.support.tiny_models import tiny_yolo
from tests.support.tiny_quantized import tiny_quantized
from yolotrt.assets import sample_images
from yolotrt.errors import ExportError
from yolotrt.export.openvino_check import check_openvino
from yolotrt.export.stages import RunningStage
from yolotrt.model_spec_infer import read_onnx_spec

pytest.importorskip("openvino")


def check(path: Path) -> RunningStage:
    stage = RunningStage("openvino", None)
    check_openvino(path, read_onnx_spec(path), sample_images(), stage)
    return stage


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_quantized_graphs_pass(tmp_path: Path, kind: Literal["int8", "fp8"]) -> None:
    stage = check(tiny_quantized(tmp_path / "m.onnx", kind))
    assert stage.details["arithmetic"].startswith(kind)
    assert stage.details["score"] < 0.01
    assert f"runs it, {kind}" in stage.result


def test_fp32_is_held_to_fp32(tmp_path: Path) -> None:
    assert check(tiny_yolo(tmp_path / "m.onnx")).details["arithmetic"] == "fp32"


def test_what_it_would_compute_wrongly_fails_in_one_line(tmp_path: Path) -> None:
    path = tiny_quantized(tmp_path / "m.onnx", "int8")
    model = onnx.load(path)
    read = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == "signed_q")
    read.input[0] = "moved"
    model.graph.node.insert(list(model.graph.node).index(read), helper.make_node("Identity", ["signed_q"], ["moved"]))
    onnx.save(model, path)
    with pytest.raises(ExportError, match="signed INT8 data that goes to Identity") as e:
        check(path)
    assert "\n" not in str(e.value)
