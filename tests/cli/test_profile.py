"""`yolotrt profile`: what is printed and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.tiny_models import tiny_yolo


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_yolo(tmp_path / "tiny.onnx")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_tables_and_a_trace(run: CommandLine, model: Path, tmp_path: Path, backend: str) -> None:
    written = tmp_path / "out" / "trace.json"
    outcome = run(
        "profile", str(model), "--backend", backend, "--inferences", "2", "--top", "3", "--trace", str(written)
    )
    assert (outcome.code, outcome.err) == (0, "")
    for text in ("By operator", "Slowest 3 of", "ONNX nodes found in", "with the profiler on", backend):
        assert text in outcome.out, text
    record = json.loads(written.read_text(encoding="utf-8"))
    assert {event["ph"] for event in record["traceEvents"]} == {"M", "X"}


def test_json(run: CommandLine, model: Path) -> None:
    outcome = run("profile", str(model), "--backend", "onnxruntime", "--inferences", "2", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    record = json.loads(outcome.out)
    assert record["inferences"] == 2
    assert record["layers"][0]["ms"] >= 0
    assert record["layers_ms"] > 0
    assert record["info"]["backend"] == "onnxruntime"


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--inferences", "0"], 2, "option inferences is out of range"),
        (["--top", "0"], 2, "--top"),
        (["--threads", "-1"], 2, "option threads is out of range"),
        (["--backend", "tensorrt"], 2, "cannot run in back-end tensorrt"),
        (["--device", "tpu"], 2, "option device is unknown"),
    ],
)
def test_wrong_calls(run: CommandLine, model: Path, more: list[str], code: int, said: str) -> None:
    outcome = run("profile", str(model), *more)
    assert (outcome.code, outcome.out) == (code, "")
    assert len(outcome.err.splitlines()) == 1
    assert said in outcome.err


def test_a_trace_does_not_take_the_place_of_the_model(run: CommandLine, model: Path) -> None:
    before = model.read_bytes()
    outcome = run("profile", str(model), "--trace", str(model))
    assert (outcome.code, outcome.out) == (2, "")
    assert "is the model itself" in outcome.err
    assert model.read_bytes() == before


def test_a_missing_model(run: CommandLine, tmp_path: Path) -> None:
    outcome = run("profile", str(tmp_path / "nothing.onnx"))
    assert (outcome.code, outcome.out) == (1, "")
    assert "no such file" in outcome.err
