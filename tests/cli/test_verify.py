"""`yolotrt verify`: two models that agree, two that do not, and wrong calls."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.command_line import CommandLine
from tests.support.datasets import cells_picture
from tests.support.tiny_models import tiny_yolo


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two models, one of which shifts its boxes, and pictures."""
    tiny_yolo(tmp_path / "good.onnx")
    damaged(tmp_path / "moved.onnx", "anchor_table", 6.0)
    for i in range(4):
        cells_picture(tmp_path / "pictures" / f"{i}.png", [(i % 3, i, 1), (0, 0, 3)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def damaged(path: Path, constant: str, shift: float) -> Path:
    """A tiny model in which a constant has been added to; the scores of shifted boxes stay right (TensorRT#4854)."""
    model = onnx.load(tiny_yolo(path))
    (tensor,) = [t for t in model.graph.initializer if t.name == constant]
    tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) + shift).astype(np.float32), constant))
    onnx.save(model, path)
    return path


def test_the_same_model_in_two_back_ends(run: CommandLine, work: Path) -> None:
    backends = ("--reference-backend", "onnxruntime", "--candidate-backend", "openvino")
    outcome = run("verify", "good.onnx", "good.onnx", "--images", "pictures", *backends, "--json")
    record = json.loads(outcome.out)
    assert outcome.code == 0
    assert record["passed"]
    assert record["reference"]["backend"]["backend"] == "onnxruntime"
    assert record["candidate"]["backend"]["backend"] == "openvino"
    assert (record["images"], record["missed"], record["added"], record["match"]) == (4, 0, 0, 1)
    assert record["matched"] == record["reference_boxes"] == record["candidate_boxes"] == 8
    assert record["iou"]["min"] > 0.999
    assert record["best_f1"]["shift"] == 0
    assert {c["name"] for c in record["per_class"]} == {"red", "green", "blue"}


def test_boxes_that_moved_fail_whatever_their_scores(run: CommandLine, work: Path) -> None:
    arguments = ("verify", "good.onnx", "moved.onnx", "--images", "pictures/*.png")
    outcome = run(*arguments, "--json")
    record = json.loads(outcome.out)
    assert outcome.code == 1
    assert not record["passed"]
    assert record["missed"] == record["added"] == 8
    assert abs(record["confidence_delta"]["mean"] or 0) < 0.01
    assert record["worst"][0]["missed"] == 2
    lenient = run(*arguments, "--min-match", "0")
    assert lenient.code == 0
    assert "failed" in run(*arguments).out


def test_confidences_that_sank(run: CommandLine, work: Path) -> None:
    # 4 of 8 logits: a pure cell keeps 0.5, which is above the threshold; the boxes are the same.
    damaged(work / "sunk.onnx", "class_bias", -4.0)
    record = json.loads(run("verify", "good.onnx", "sunk.onnx", "--images", "pictures", "--json").out)
    assert record["confidence_delta"]["mean"] < -0.3
    assert record["iou"]["mean"] == pytest.approx(1, abs=1e-4)


def test_the_worst_pictures_side_by_side(run: CommandLine, work: Path) -> None:
    outcome = run("verify", "good.onnx", "moved.onnx", "--images", "pictures", "--worst", "out")
    assert outcome.code == 1
    assert "Written: 4 files in out" in outcome.out
    files = sorted((work / "out").iterdir())
    assert [f.name[:8] for f in files] == [f"worst-0{i}" for i in range(1, 5)]
    sheet = cv2.imread(str(files[0]))
    assert sheet is not None
    assert sheet.shape[1] == 64 * 2 + 8


def test_a_table_for_people(run: CommandLine, work: Path) -> None:
    outcome = run("verify", "good.onnx", "good.onnx", "--images", "pictures")
    for text in ("missed", "added", "red", "100.0 %", "IoU of pairs", "Best threshold", "passed: 100.00 % match"):
        assert text in outcome.out
    assert "Reference: good.onnx, in " in outcome.err


def test_a_picture_that_cannot_be_read(run: CommandLine, work: Path) -> None:
    (work / "pictures" / "0.png").write_bytes(b"")
    outcome = run("verify", "good.onnx", "good.onnx", "--images", "pictures")
    assert outcome.code == 1
    assert outcome.err.count("Warning:") == 1
    assert "Left out: 1 pictures" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["good.onnx", "two.onnx"], 2, "the candidate has other classes than the reference, got 2 classes, expected 3"),
        (["good.onnx", "renamed.onnx"], 2, "got class 0 'rot', expected 'red'"),
        (["good.onnx", "nothing.onnx"], 1, "nothing.onnx: no such file"),
        (["good.onnx", "good.onnx", "--min-iou", "0.2"], 2, "option min_iou is out of range"),
        (["good.onnx", "good.onnx", "--images", "nowhere"], 1, "no pictures at nowhere"),
        (["good.onnx", "good.onnx", "--worst", "good.onnx"], 1, "a file stands where a folder is needed"),
        (
            ["good.onnx", "good.onnx", "--images", "pictures", "--worst", "pictures"],
            2,
            "--worst pictures holds the pict",
        ),
        (["good.onnx", "good.onnx", "--images", "links", "--worst", "pictures"], 2, "--worst pictures holds the pict"),
        (["good.onnx", "good.onnx", "--candidate-backend", "magic"], 2, "option backend is unknown"),
    ],
)
def test_wrong_calls(run: CommandLine, work: Path, arguments: list[str], code: int, said: str) -> None:
    (work / "links").mkdir()
    (work / "links" / "0.png").symlink_to("../pictures/0.png")
    tiny_yolo(work / "two.onnx", nc=2)
    tiny_yolo(work / "renamed.onnx", names=("rot", "green", "blue"))
    outcome = run("verify", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert len(outcome.err.splitlines()) == 1
    assert said in outcome.err
