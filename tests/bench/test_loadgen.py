"""The real LoadGen, on a tiny model."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from tests.support.command_line import CommandLine
from tests.support.tiny_models import tiny_yolo
from yolotrt import Detector
from yolotrt.bench.loadgen import run_scenario
from yolotrt.bench.options import Scenario
from yolotrt.errors import BackendError, SinkError
from yolotrt.types import Batch, RawOutputs

pytest.importorskip("mlperf_loadgen")

PICTURES = [np.full((64, 64, 3), grey, np.uint8) for grey in (0, 100, 200)]
FILES = {"mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_accuracy.json"}


@pytest.fixture
def detector(tmp_path: Path) -> Iterator[Detector]:
    with Detector(tiny_yolo(tmp_path / "tiny.onnx", batch=None), backend="onnxruntime", threads=1) as found:
        yield found


def test_single_stream(detector: Detector, tmp_path: Path) -> None:
    found = run_scenario(detector, "single-stream", PICTURES, output=tmp_path / "out", seconds=0.2)
    assert found.valid
    assert found.reasons == []
    assert found.figure > 0
    assert {path.name for path in found.files} == FILES == {p.name for p in (tmp_path / "out/single-stream").iterdir()}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["single-stream"]
    assert found.summary["Scenario"] == "SingleStream"
    assert float(found.summary["90.0th percentile latency (ns)"]) == pytest.approx(found.figure * 1e6)


@pytest.mark.parametrize("scenario", ["multi-stream", "offline", "server"])
def test_every_picture_is_answered(detector: Detector, tmp_path: Path, scenario: Scenario) -> None:
    seen: list[int] = []
    infer = detector.backend.infer

    def counted(batch: Batch) -> RawOutputs:
        seen.append(len(batch.images))
        return infer(batch)

    detector.backend.infer = counted  # type: ignore[method-assign]
    found = run_scenario(
        detector,
        scenario,
        PICTURES,
        output=tmp_path,
        seconds=0.2,
        target_qps=300.0,
        target_latency_ms=10_000.0,
    )
    # Whether so short an offline run lasts long enough is up to the machine.
    assert found.valid or scenario == "offline", found.reasons
    assert found.figure > 0
    detail = [json.loads(line.removeprefix(":::MLLOG ")) for line in found.files[1].read_text().splitlines()]
    values = {entry["key"]: entry["value"] for entry in detail}
    assert (values["result_validity"] == "VALID") == found.valid
    queries = values.get("result_query_count", 0)
    least = {"multi-stream": 8 * 662, "offline": 1, "server": 662}[scenario]
    assert sum(seen) >= max(least, queries)


def test_a_second_run_takes_the_place_of_the_first(detector: Detector, tmp_path: Path) -> None:
    for _ in range(2):
        run_scenario(detector, "single-stream", PICTURES, output=tmp_path, seconds=0.05)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["single-stream"]


def test_a_run_that_is_not_valid_says_why(detector: Detector, tmp_path: Path) -> None:
    found = run_scenario(
        detector, "server", PICTURES, output=tmp_path, seconds=0.05, target_qps=2000.0, target_latency_ms=1e-5
    )
    assert not found.valid
    assert found.reasons


@pytest.mark.parametrize("scenario", get_args(Scenario))
def test_a_failure_ends_the_run_and_leaves_nothing(detector: Detector, tmp_path: Path, scenario: Scenario) -> None:
    calls: list[None] = []
    infer = detector.backend.infer

    def fails_later(batch: Batch) -> RawOutputs:
        calls.append(None)
        if len(calls) > 35:
            raise BackendError("out of luck")
        return infer(batch)

    detector.backend.infer = fails_later  # type: ignore[method-assign]
    with pytest.raises(BackendError, match="out of luck"):
        run_scenario(detector, scenario, PICTURES, output=tmp_path / "out", seconds=0.05, target_qps=2000.0)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("scenario", get_args(Scenario))
def test_an_interrupted_run_leaves_nothing(detector: Detector, tmp_path: Path, scenario: Scenario) -> None:
    calls: list[None] = []
    infer = detector.backend.infer
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def interrupted(batch: Batch) -> RawOutputs:
        calls.append(None)
        if len(calls) == 36:
            os.kill(os.getpid(), signal.SIGINT)
        return infer(batch)

    detector.backend.infer = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run_scenario(detector, scenario, PICTURES, output=tmp_path / "out", seconds=0.1, target_qps=2000.0)
    assert list((tmp_path / "out").iterdir()) == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_folder_of_something_else_is_left_alone(detector: Detector, tmp_path: Path) -> None:
    kept = tmp_path / "single-stream" / "diary.txt"
    kept.parent.mkdir()
    kept.write_text("dear")
    with pytest.raises(SinkError, match="single-stream"):
        run_scenario(detector, "single-stream", PICTURES, output=tmp_path, seconds=0.05)
    assert kept.read_text() == "dear"


def test_the_command(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = CommandLine(monkeypatch, capfd)
    model = str(tmp_path / "tiny.onnx")
    arguments = ("--device", "cpu", "--seconds", "0.1", "--output", str(tmp_path / "out"))
    outcome = run("bench", model, "--loadgen", "single-stream", "--loadgen", "offline", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    record: dict[str, Any] = json.loads(outcome.out)
    assert [s["scenario"] for s in record["scenarios"]] == ["single-stream", "offline"]
    assert all(Path(path).is_file() for s in record["scenarios"] for path in s["files"])
    assert any("submission" in note for note in record["notes"])
    assert (record["parts"], record["starts"]) == ({}, [])
    assert "mlcommons-loadgen" in record["machine"]["versions"]
    outcome = run("bench", model, "--loadgen", "all", *arguments)
    assert outcome.code == 0, outcome.err
    assert all(f" {scenario} " in outcome.out for scenario in get_args(Scenario))
    assert "MLPerf LoadGen" in outcome.out
    assert "ms, 90th percentile" in outcome.out
