"""What can be wrong with the pictures, labels and graphs of an INT8 or FP8 export: one clear line each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import helper

from tests.support.command_line import CommandLine
from tests.support.datasets import tiny_set
from tests.support.tiny_convs import tiny_convs

Spoil = Callable[[Path], None]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOTRT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def yolotrt(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    """The command line, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return CommandLine(monkeypatch, capfd)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def labels(folder: Path, text: str) -> None:
    (folder / "labels/val/a.txt").write_text(text)


def names(folder: Path, text: str) -> None:
    data = folder / "data.yaml"
    data.write_text(data.read_text().replace("[red, green, blue]", text))


def without_labels(folder: Path) -> None:
    for path in (folder / "labels/val").iterdir():
        path.unlink()


def damaged(folder: Path) -> None:
    for path in (folder / "images/val").iterdir():
        path.write_bytes(path.read_bytes()[:60])


def quantized(folder: Path) -> None:
    model = onnx.load(folder / "tiny.onnx")
    tensor = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["plain" if name == tensor else name for name in node.output]
    model.graph.initializer.extend([
        helper.make_tensor("q_scale", onnx.TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("q_zero", onnx.TensorProto.INT8, [], [0]),
    ])  # fmt: skip
    model.graph.node.extend([
        helper.make_node("QuantizeLinear", ["plain", "q_scale", "q_zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "q_scale", "q_zero"], [tensor]),
    ])  # fmt: skip
    onnx.save(model, folder / "tiny.onnx")


def of_an_unknown_kind(folder: Path) -> None:
    model = onnx.load(folder / "tiny.onnx")
    tensor = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["plain" if name == tensor else name for name in node.output]
    model.graph.node.append(helper.make_node("Sharpen", ["plain"], [tensor], domain="com.example"))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, folder / "tiny.onnx")


def nothing(_folder: Path) -> None:
    pass


FEW = ["--calib", "SET/images/val", "--calib-few"]


@pytest.mark.parametrize(
    ("spoil", "arguments", "code", "message"),
    [
        pytest.param(nothing, ["--data", "none.yaml", *FEW], 1, "none.yaml: no such data set", id="no data set"),
        pytest.param(without_labels, FEW, 1, "has a label file", id="no labels"),
        pytest.param(lambda f: labels(f, "0 2.5 0.5 0.1 0.1"), FEW, 1, "a.txt", id="labels out of range"),
        pytest.param(lambda f: labels(f, "7 0.5 0.5 0.1 0.1"), FEW, 1, "a.txt", id="a class that is none"),
        pytest.param(lambda f: names(f, "[red, green]"), FEW, 1, "class", id="other classes"),
        pytest.param(nothing, ["--calib", "SET/images/val"], 2, "got 4, expected 64 or more", id="too few"),
        pytest.param(nothing, ["--calib", "SET/labels", "--calib-few"], 1, "no pictures", id="no pictures"),
        pytest.param(nothing, ["--calib", "SET/none", "--calib-few"], 1, "SET/none", id="no folder"),
        pytest.param(damaged, FEW, 1, "none of the 4 calibration pictures can be read", id="damaged pictures"),
        pytest.param(nothing, [], 1, "no calibration pictures", id="no train split"),
        pytest.param(quantized, FEW, 2, "quantized to INT8 already", id="quantized already"),
        pytest.param(of_an_unknown_kind, FEW, 1, "Sharpen", id="an operator that nobody knows"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, yolotrt: CommandLine, spoil: Spoil, arguments: list[str], code: int, message: str
) -> None:
    folder = tmp_path / "SET"
    tiny_set(folder)
    spoil(folder)
    before = files(tmp_path)
    given = [] if "--data" in arguments else ["--data", "SET/data.yaml"]
    found = yolotrt("export", "SET/tiny.onnx", "--int8", "--target", "onnx", *given, *arguments)
    errors = [line for line in found.err.splitlines() if line.startswith("Error: ")]
    assert found.code == code, found.err
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in found.err
    assert "Made" not in found.out
    assert files(tmp_path) == before


def test_a_missed_budget_ends_with_1_and_says_where_the_best_version_is(tmp_path: Path, yolotrt: CommandLine) -> None:
    tiny_set(tmp_path / "SET")
    tiny_convs(tmp_path / "m.onnx", trap=True, heavy=True)
    call = ["export", "m.onnx", "--int8", "--target", "onnx", "--data", "SET/data.yaml", *FEW, "--json"]
    found = yolotrt(*call)
    assert found.code == 1
    assert "Error: INT8 keeps" in found.err
    record = json.loads(found.out)
    assert not record["accepted"]
    assert "m-int8-rejected" in record["onnx"]
    assert Path(record["report"]).is_file()
    assert not (tmp_path / "m-int8").exists()
