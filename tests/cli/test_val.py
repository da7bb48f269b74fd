"""`yolotrt val`, on a set in which the tiny model finds every box exactly, and on what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from tests.support.blocked import run_cli_blocked
from tests.support.command_line import CommandLine
from tests.support.datasets import PICTURES, tiny_set
from tests.support.tiny_models import tiny_yolo
from yolotrt.sources import read_image


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_set(tmp_path)


def val(run: CommandLine, data: Path, *more: str) -> tuple[int, str, str]:
    outcome = run("val", "--model", str(data.parent / "tiny.onnx"), "--data", str(data), *more)
    return outcome.code, outcome.out, outcome.err


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_perfect_model(run: CommandLine, data: Path, backend: str) -> None:
    code, out, err = val(run, data, "--json", "--backend", backend)
    record = json.loads(out)
    assert code == 0
    assert f"in {backend}" in err
    for name in ("map50_95", "map50", "map75", "map_small"):
        assert record[name] == pytest.approx(1.0), name
    assert (record["map_medium"], record["map_large"]) == (None, None)
    assert record["ultralytics"]["map50_95"] == pytest.approx(0.995)
    assert record["backend"]["backend"] == backend
    assert record["model"].endswith("tiny.onnx")
    assert (record["images"], record["boxes"], record["split"]) == (4, 5, "val")
    assert [(c["name"], c["images"], c["boxes"]) for c in record["per_class"]] == [
        ("red", 2, 3),
        ("green", 1, 1),
        ("blue", 1, 1),
    ]
    assert all(c["map50_95"] == pytest.approx(1.0) for c in record["per_class"])
    assert record["problems"] == []


def test_coco_annotations_give_the_same(run: CommandLine, data: Path) -> None:
    folder = data.parent
    coco = json.loads(val(run, folder / "coco.json", "--images", str(folder / "images" / "val"), "--json")[1])
    yolo = json.loads(val(run, data, "--json")[1])
    same = ("map50_95", "map50", "map75", "map_small", "per_class", "best_f1", "images", "boxes")
    assert {k: coco[k] for k in same} == {k: yolo[k] for k in same}


def test_a_table_for_people(run: CommandLine, data: Path) -> None:
    code, out, _ = val(run, data)
    assert code == 0
    for text in ("mAP50-95", "mAP50", "small", "large", "red", "green", "blue", "100.0", "As Ultralytics counts it",
                 "Best F1", "Note: pictures without a label file, taken as background: 1"):  # fmt: skip
        assert text in out


def test_a_narrow_terminal_gets_fewer_columns(run: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = val(run, data)[1].splitlines()
    assert next(line.split() for line in lines if "mAP75" in line)[-1] == "mAP75"
    assert max(map(len, (line for line in lines if not line.startswith(("As ", "Best ", "Note"))))) <= 60
    assert not any("…" in line for line in lines)


def test_wrong_and_missing_boxes_cost(run: CommandLine, data: Path) -> None:
    label = data.parent / "labels" / "val" / "b.txt"
    label.write_text(label.read_text().replace("2 ", "1 ", 1))
    record = json.loads(val(run, data, "--json")[1])
    assert record["per_class"][0]["map50_95"] == pytest.approx(1.0)
    assert record["per_class"][1]["map50_95"] < 0.6
    assert record["per_class"][2]["map50_95"] is None  # no longer labelled
    assert record["boxes"] == 5


def test_plots(run: CommandLine, data: Path, tmp_path: Path) -> None:
    label = data.parent / "labels" / "val" / "b.txt"
    label.write_text(label.read_text().replace("2 ", "1 ", 1))
    data.write_text(data.read_text().replace("red", "_r$ot"))
    tiny_yolo(data.parent / "tiny.onnx", names=("_r$ot", "green", "blue"))
    code, out, _ = val(run, data, "--plots", str(tmp_path / "plots"), "--json")
    assert code == 0
    written = [Path(p) for p in json.loads(out)["plots"]]
    names = ["pr_curve.png", "f1_curve.png", "confusion_matrix.png", "worst-01-b.jpg"]
    assert [p.name for p in written] == names
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == sorted(names)
    pictures = [read_image(p) for p in written]
    assert all(p.std() > 5 for p in pictures)
    assert pictures[-1].shape[1] == 64 * 2 + 8


def test_a_picture_that_cannot_be_read_is_left_out_and_said(run: CommandLine, data: Path) -> None:
    (data.parent / "images" / "val" / "c.png").write_bytes(b"no picture")
    code, out, err = val(run, data, "--json")
    record = json.loads(out)
    assert code == 1
    assert record["images"] == len(PICTURES) - 1
    assert record["map50_95"] == pytest.approx(1.0)
    assert len(record["problems"]) == 1
    assert err.count("Warning:") == 1
    assert "c.png" in err
    code, out, _ = val(run, data)
    assert "Left out: 1 pictures" in out


def test_a_picture_of_another_size_than_annotated_is_left_out(run: CommandLine, data: Path) -> None:
    images = data.parent / "images" / "val"
    cv2.imwrite(str(images / "b.png"), read_image(images / "a.png")[:32])
    code, out, err = val(run, data.parent / "coco.json", "--images", str(images), "--json")
    assert (code, json.loads(out)["images"]) == (1, 3)
    assert "got 64x32, expected 64x64" in err


def test_no_picture_can_be_read(run: CommandLine, data: Path) -> None:
    for path in (data.parent / "images" / "val").iterdir():
        path.write_bytes(b"")
    code, out, err = val(run, data, "--json")
    assert (code, out) == (1, "")
    assert "Error: " in err.splitlines()[-1]
    assert "none of its 4 pictures can be used" in err


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--conf", "2"], 2, "option conf is out of range"),
        (["--split", "all"], 2, "option split is unknown"),
        (["--split", "test"], 1, "no split 'test'"),
        (["--images", "."], 2, "option images belongs to a COCO"),
        (["--backend", "magic"], 2, "option backend is unknown"),
    ],
)
def test_wrong_calls(run: CommandLine, data: Path, more: list[str], code: int, said: str) -> None:
    got, out, err = val(run, data, *more)
    assert (got, out) == (code, "")
    assert len(err.splitlines()) == 1
    assert said in err


def test_other_classes_than_the_models(run: CommandLine, data: Path, tmp_path: Path) -> None:
    tiny_yolo(data.parent / "tiny.onnx", nc=2)
    code, out, err = val(run, data, "--plots", str(tmp_path / "plots"))
    assert (code, out) == (1, "")
    assert "other classes than the model's, got 3 classes (red, green, blue), expected 2" in err.splitlines()[-1]
    assert not any((tmp_path / "plots").iterdir())


def test_plots_are_not_written_among_the_pictures(run: CommandLine, data: Path) -> None:
    folder = data.parent / "images" / "val"
    before = sorted(folder.iterdir())
    code, out, err = val(run, data, "--plots", str(folder / ".." / "val"))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert "holds the pictures that are read, expected another folder" in line
    assert sorted(folder.iterdir()) == before


def test_a_file_where_the_plots_should_go(run: CommandLine, data: Path) -> None:
    code, _, err = val(run, data, "--plots", str(data))
    assert code == 1
    assert "a file stands where a folder is needed" in err


@pytest.mark.parametrize("blocked", ["faster_coco_eval", "matplotlib"])
def test_packages_of_the_extra(data: Path, tmp_path: Path, blocked: str) -> None:
    arguments = ("--model", str(data.parent / "tiny.onnx"), "--data", str(data), "--plots", str(tmp_path / "p"))
    result = run_cli_blocked([blocked], "val", *arguments)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith('Install it with: pip install "yolotrt[eval]"')
