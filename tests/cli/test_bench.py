"""`yolotrt bench`, on a tiny model: what is printed and written, not how long it took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.support.blocked import run_cli_blocked
from tests.support.command_line import CommandLine
from tests.support.tiny_models import tiny_yolo
from yolotrt.bench.machine import Load
from yolotrt.bench.timing import ROUNDS

SHORT = ("--seconds", "0.05", "--device", "cpu")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_yolo(tmp_path / "tiny.onnx", batch=None)


def picture(path: Path, width: int, height: int) -> Path:
    cv2.imwrite(str(path), np.full((height, width, 3), (0, 0, 255), np.uint8))
    return path


def bench(run: CommandLine, model: Path, *more: str) -> dict[str, Any]:
    outcome = run("bench", str(model), *SHORT, "--json", *more)
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_what_is_measured(run: CommandLine, model: Path, backend: str) -> None:
    found = bench(run, model, "--backend", backend, "--threads", "1", "--starts", "1")
    whole, *parts = [name for name in found["parts"] if name.startswith("host to boxes")]
    assert list(found["parts"]) == ["engine alone", whole, *parts, "stream"]
    assert [part.removeprefix("host to boxes: ") for part in parts] == [
        *("before", "inference", "after", "around the inference"),
    ]
    for name, summary in found["parts"].items():
        assert summary["runs"] >= ROUNDS, name
        assert 0 < summary["fastest"] <= summary["p50"] <= summary["p90"], name
        low, high = summary["rounds"]
        assert summary["fastest"] <= low <= high
    assert found["info"]["backend"] == backend
    assert (found["threads"], found["batch"], found["picture"]) == (1, 1, [[1080, 1920]])
    assert found["machine"]["versions"][backend] == found["info"]["version"]
    assert set(found["load"]) == {"others", "average", "gpu_before", "busy"}
    assert found["starts"][0]["whole"] > found["starts"][0]["load"] > 0
    assert found["peak_mib"] > 1
    assert found["device_mib"] is None
    assert found["roof"]["work"]["flops"]["fp32"] > 0
    assert found["roof"]["share"] > 0
    assert (found["races"], found["scenarios"]) == ([], [])


def test_pictures_and_batches_of_one_s_own(run: CommandLine, model: Path, tmp_path: Path) -> None:
    images = [picture(tmp_path / "a.png", 64, 48), picture(tmp_path / "b.png", 128, 128)]
    named = [text for image in images for text in ("--image", str(image))]
    found = bench(run, model, *named, "--batch", "3", "--starts", "0")
    assert found["picture"] == [[48, 64], [128, 128]]
    assert {"host to boxes, 64 x 48", "host to boxes, 128 x 128"} <= set(found["parts"])
    assert found["batch"] == 3
    assert found["streamed"] % 3 == 0
    assert found["roof"]["batch"] == 3
    assert (found["starts"], found["peak_mib"]) == ([], None)


def test_models_that_take_any_size(run: CommandLine, tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx", dynamic_size=True)
    images = [picture(tmp_path / "a.png", 64, 32), picture(tmp_path / "b.png", 32, 64)]
    found = bench(run, model, "--image", str(images[0]), "--image", str(images[1]), "--starts", "0")
    assert found["parts"]["stream"]["p50"] > 0


def test_tables_for_people(run: CommandLine, model: Path, tmp_path: Path) -> None:
    written = tmp_path / "out" / "bench.md"
    outcome = run("bench", str(model), *SHORT, "--starts", "1", "--markdown", str(written))
    assert outcome.code == 0, outcome.err
    for text in ("Load while it was measured", "engine alone", "host to boxes", "stream",
                 "1 fresh process", "first boxes", "Memory (MiB)", "Roofline: 0.0", "spread of"):  # fmt: skip
        assert text in outcome.out, text
    text = written.read_text(encoding="utf-8")
    assert "| host to boxes |" in text
    assert "|   around the inference |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    by_table = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(rows) == sum(len(block.splitlines()) for block in by_table)
    for block in by_table:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_a_busy_machine_is_warned_of(run: CommandLine, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolotrt.bench.machine.Watch.load", lambda _: Load(others=0.62, average=3.0))
    outcome = run("bench", str(model), *SHORT, "--starts", "0")
    assert outcome.code == 0
    assert "Warning: the machine was busy (other programs took 62% of the CPUs" in outcome.err
    monkeypatch.setattr("yolotrt.bench.machine.Watch.load", lambda _: Load(others=0.01, average=3.0))
    assert "Warning" not in run("bench", str(model), *SHORT, "--starts", "0").err


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--seconds", "0"], 2, "option seconds is out of range"),
        (["--threads", "-2"], 2, "option threads is out of range"),
        (["--batch", "4"], 2, "option batch is out of range, got 4, expected 1 to 1, as this model takes"),
        (["--backend", "magic"], 2, "option backend is unknown"),
        (["--backend", "tensorrt"], 2, "cannot run in back-end tensorrt"),
        (["--graphs", "--device", "cpu"], 2, "cannot run in back-end tensorrt"),
        (["--compare", "darknet"], 2, "option compare is unknown"),
        (["--loadgen", "offline"], 2, "--output DIR"),
        (["--loadgen", "offlin", "--output", "x"], 2, "option loadgen is unknown"),
        (["--image", "missing.jpg"], 1, "missing.jpg"),
    ],
)
def test_wrong_calls(run: CommandLine, tmp_path: Path, more: list[str], code: int, said: str) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx")
    outcome = run("bench", str(model), *more)
    assert (outcome.code, outcome.out) == (code, "")
    assert len(outcome.err.splitlines()) == 1
    assert said in outcome.err


def test_tables_do_not_take_the_place_of_what_is_measured(run: CommandLine, model: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png", 64, 48)
    for path, what in ((model, "the model"), (image, "a picture")):
        before = path.read_bytes()
        outcome = run("bench", str(model), "--image", str(image), "--markdown", str(path))
        assert (outcome.code, outcome.out) == (2, "")
        assert f"--markdown {path} is {what} itself" in outcome.err
        assert path.read_bytes() == before


def test_a_missing_model(run: CommandLine, tmp_path: Path) -> None:
    outcome = run("bench", str(tmp_path / "nothing.onnx"))
    assert (outcome.code, outcome.out) == (1, "")
    assert "no such file" in outcome.err


def test_what_was_measured_is_shown_where_it_cannot_be_written(run: CommandLine, model: Path, tmp_path: Path) -> None:
    assert run("bench", str(model), *SHORT, "--markdown", str(tmp_path)).code == 2
    outcome = run("bench", str(model), *SHORT, "--starts", "0", "--markdown", str(model / "bench.md"))
    assert outcome.code == 1
    assert "engine alone" in outcome.out
    assert "cannot write" in outcome.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("blocked", "more", "extra"),
    [
        ("ultralytics", ["--compare", "ultralytics"], "export"),
        ("torch", ["--compare", "ultralytics"], "export"),
        ("mlperf_loadgen", ["--loadgen", "offline", "--output", "out"], "loadgen"),
    ],
)
def test_packages_of_extras(model: Path, blocked: str, more: list[str], extra: str) -> None:
    result = run_cli_blocked([blocked], "bench", str(model), "--device", "cpu", *more)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith(f'Install it with: pip install "yolotrt[{extra}]"')
