"""Races: what is compared, and the real one with Ultralytics."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support import torchvision_ops
from tests.support.tiny_heads import TinyHead, save_raw
from tests.support.tiny_models import tiny_yolo
from yolotrt import assets
from yolotrt.bench import contestants as entrants
from yolotrt.bench.bench import bench
from yolotrt.bench.contestants import Case, Contestant, Timing, started
from yolotrt.bench.options import BenchOptions
from yolotrt.bench.pictures import Pictures
from yolotrt.bench.versus import Race, contestants, race
from yolotrt.bench.view import markdown_grid, race_grid
from yolotrt.errors import EvaluationError, UsageError
from yolotrt.model_files import ModelFiles, find_model_files
from yolotrt.model_spec_infer import read_onnx_spec

needs_ultralytics = pytest.mark.skipif(
    not any(Path(p, "ultralytics").is_dir() for p in sys.path), reason="needs ultralytics"
)
NOTHING = Pictures(sources=(), count=1)


def timing(before: float, inference: float, after: float, wall: float) -> Timing:
    return Timing(before=before, inference=inference, after=after, wall=wall)


RACE = Race(
    case=Case(title="Test", pictures=NOTHING),
    rows={
        "theirs": [[timing(2, 10, 2, 16)] * 3, [timing(4, 10, 4, 20)] * 3],
        "same": [[timing(1, 10, 1, 13)] * 3, [timing(1, 10, 1, 13)] * 3],
        "best": [[timing(1, 5, 1, 8)] * 3, [timing(1, 5, 1, 8)] * 3],
    },
)


def test_ratios_and_their_spread() -> None:
    ratios = RACE.ratios()
    before_after = ratios["before + after, same runtime, of Ultralytics'"]
    assert (before_after.ratio, before_after.low, before_after.high) == pytest.approx((1 / 3, 0.25, 0.5))
    around = ratios["all around the inference, same runtime, of Ultralytics'"]
    assert (around.ratio, around.low, around.high) == pytest.approx((3 / 8, 0.3, 0.5))
    speed = ratios["speed of best, times Ultralytics'"]
    assert (speed.ratio, speed.low, speed.high) == pytest.approx((18 / 8, 2.0, 2.5))
    assert str(speed) == "2.25 (rounds 2.00 to 2.50)"
    assert "speed of same, times Ultralytics'" in ratios


def test_a_race_as_a_table() -> None:
    found = RACE.milliseconds("theirs")
    assert (found["before"], found["inference"], found["whole call"]) == (3000.0, 10000.0, 18000.0)
    grid = race_grid(RACE)
    assert [row[0] for row in grid.rows] == ["theirs", "same", "best"]
    assert len({line.count("|") for line in markdown_grid(grid).splitlines()}) == 1
    stream = Race(case=Case(title="Folder", pictures=NOTHING, stream=True), rows=RACE.rows)
    assert list(stream.ratios()) == ["speed of best, times Ultralytics'", "speed of same, times Ultralytics'"]
    assert race_grid(stream).columns[1] == "per picture"


@needs_ultralytics
def test_who_takes_part_on_the_cpu(tmp_path: Path) -> None:
    path = tiny_yolo(tmp_path / "tiny.onnx")
    files, spec = find_model_files(path), read_onnx_spec(path)
    default = contestants(files, spec, device="cpu", threads=2)
    assert [(c.library, c.backend) for c in default] == [
        ("ultralytics", "auto"),
        ("yolotrt", "onnxruntime"),
        ("yolotrt", "auto"),
    ]
    assert {(c.model, c.device, c.threads) for c in default} == {(path, "cpu", 2)}
    assert [c.backend for c in contestants(files, spec, backend="openvino", device="cpu")[1:]] == [
        "onnxruntime",
        "openvino",
    ]
    assert len(contestants(files, spec, backend="onnxruntime", device="cpu")) == 2


@needs_ultralytics
def test_who_takes_part_on_a_gpu(tmp_path: Path) -> None:
    path = tiny_yolo(tmp_path / "tiny.onnx")
    plan = tmp_path / "tiny.engine"
    spec = read_onnx_spec(path)
    both = contestants(ModelFiles(asked=path, onnx=path, plan=plan), spec, device="cuda:1")
    assert [(c.library, c.backend, c.device) for c in both] == [
        ("ultralytics", "auto", "cuda:1"),
        ("yolotrt", "tensorrt", "cuda:1"),
    ]
    assert {c.model for c in both} == {plan}
    graphs = contestants(ModelFiles(asked=path, onnx=path, plan=plan), spec, device="cuda:1", graphs=True)
    assert [c.graphs for c in graphs] == [False, False, True]
    assert both[0].imgsz == (64, 64)  # a plan does not tell Ultralytics
    with pytest.raises(UsageError, match="expected a TensorRT plan"):
        contestants(ModelFiles(asked=path, onnx=path), spec, device="cuda")
    with pytest.raises(UsageError, match="expected an ONNX file"):
        contestants(ModelFiles(asked=plan, plan=plan), spec, device="cpu")
    raw = save_raw(TinyHead(), tmp_path / "raw.onnx")
    with pytest.raises(UsageError, match="Ultralytics does not decode raw heads"):
        contestants(ModelFiles(asked=raw, onnx=raw), read_onnx_spec(raw), device="cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(paths[-1]), np.full((48, 64, 3), 60 * i, np.uint8))
    return Pictures(sources=tuple(paths), count=2, size=(96, 128))


@pytest.mark.parametrize("kind", ["arrays", "files", "stream"])
def test_a_race_of_one_s_own(tmp_path: Path, pictures: Pictures, kind: str) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx")
    names = ("one", "two")
    taking_part = [
        Contestant(name=n, library="yolotrt", model=model, backend="onnxruntime", device="cpu", threads=1)
        for n in names
    ]
    turns: list[None] = []
    case = Case(title=kind, pictures=pictures, from_files=kind == "files", stream=kind == "stream")
    found = race(taking_part, case, rounds=2, on_turn=lambda: turns.append(None))
    per_round = 1 if kind == "stream" else 2
    for name in names:
        assert [len(row) for row in found.rows[name]] == [per_round] * 2
        for t in (t for row in found.rows[name] for t in row):
            assert t.wall > 0
            assert t.wall >= t.before + t.inference + t.after
            assert t.around == pytest.approx(t.wall - t.inference)
    assert len(turns) == 2 * 2 * per_round
    assert found.rounds == 2


def test_one_that_cannot_run_says_why(tmp_path: Path, pictures: Pictures) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    one = Contestant(name="one", library="yolotrt", model=broken, device="cpu")
    with pytest.raises(EvaluationError, match=r"one cannot run: .*broken\.onnx"):
        race([one], Case(title="t", pictures=pictures), rounds=1)


def test_one_that_dies_is_missed(tmp_path: Path, pictures: Pictures) -> None:
    one = Contestant(name="one", library="ultralytics", model=tmp_path / "m.onnx", device="cpu")
    with (
        pytest.raises(EvaluationError, match="one ended by itself"),
        started([one], Case(title="t", pictures=pictures), prepare=_die),
    ):
        pass


def _die() -> None:
    import os

    os._exit(3)


def test_pictures_are_read_by_whoever_asks(pictures: Pictures) -> None:
    found = pictures.read()
    assert [p.shape for p in found] == [(96, 128, 3)] * 2
    assert [int(p.mean()) for p in found] == [0, 60]
    more = Pictures(sources=pictures.sources, count=5).read()
    assert [p.shape for p in more] == [(48, 64, 3)] * 5


@needs_ultralytics
@pytest.mark.slow
def test_beside_ultralytics(tmp_path: Path) -> None:
    # The demo model: Ultralytics wants a real graph and its metadata.
    options = BenchOptions(
        model=assets.folder() / "yolov8n_demo.onnx",
        images=(assets.sample_images()[0],),
        seconds=0.1,
        threads=1,
        device="cpu",
        starts=0,
        compare="ultralytics",
    )
    found = bench(options, prepare=torchvision_ops.install)
    arrays, folder = found.races
    assert list(arrays.rows) == [
        "Ultralytics predict (ONNX Runtime)",
        "yolotrt (ONNX Runtime)",
        "yolotrt (CPU default)",
    ]
    assert list(folder.rows) == list(arrays.rows)
    assert arrays.rounds == folder.rounds == 3
    for rows in arrays.rows.values():
        assert all(t.before > 0 and t.inference > 0 and t.after > 0 for row in rows for t in row)
    record = found.to_dict()
    assert len(record["races"]) == 2
    ratios = record["races"][0]["ratios"]["all around the inference, same runtime, of Ultralytics'"]
    assert 0 < ratios["low"] <= ratios["high"]
    assert {"ultralytics", "torch"} <= set(found.machine.versions)


@needs_ultralytics
def test_ultralytics_installs_nothing_and_takes_the_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import onnxruntime
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(onnxruntime, "InferenceSession", onnxruntime.InferenceSession)  # put back afterwards
    for name in ("YOLO_AUTOINSTALL", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    one = Contestant(name="one", library="ultralytics", model=tmp_path / "m.onnx", device="cpu", threads=1)
    try:
        entrants._ready_for_ultralytics(one, None)
        assert torch.get_num_threads() == 1
        model = tiny_yolo(tmp_path / "m.onnx")
        session = onnxruntime.InferenceSession(str(model), None, providers=["CPUExecutionProvider"])
        assert session.get_session_options().intra_op_num_threads == 1
    finally:
        torch.set_num_threads(before)
