"""The benchmark of streams on a GPU, on the machine without one: everything but its figures."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.cuda_host.engine import OnnxEngine
from tests.support.cuda_host.machine import HostMachine
from tests.support.host_nvdec import HostNvdec
from tests.support.media import video_times
from tests.support.tiny_models import tiny_yolo
from yolotrt import Detector
from yolotrt.backends import tensorrt_graph
from yolotrt.backends.cuda_graph import GraphRunner
from yolotrt.model_spec import BatchRange

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "bench_streams_gpu.py"


def _imported() -> Any:
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = _imported()


def test_it_starts() -> None:
    command = [sys.executable, str(SCRIPT), "--help"]
    assert "--cameras" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_clip_over_and_over(tmp_path: Path) -> None:
    clip = bench.write_clip(tmp_path / "clip.mp4", size=(96, 128), frames=10)
    path = bench.repeated(clip, tmp_path / "long.mp4", 3)
    assert video_times(path) == pytest.approx([i / 30 for i in range(30)], abs=1e-3)


@pytest.mark.slow
def test_all_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, nvdec = HostMachine(), HostNvdec()
    onnx = tiny_yolo(tmp_path / "m.onnx", batch=None)
    plan = tmp_path / "m.engine"
    plan.write_bytes(b"")

    def open_graphs(_: Path, *, device: int = 0) -> GraphRunner:
        return GraphRunner(machine, OnnxEngine(onnx, machine, batch=BatchRange(min=1, opt=4, max=4)))

    monkeypatch.setattr(tensorrt_graph, "open_graphs", open_graphs)
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", cast("types.ModuleType", nvdec))
    clip = bench.write_clip(tmp_path / "clip.mp4", size=(96, 128), frames=45)
    camera = bench.write_clip(tmp_path / "camera.mp4", size=(96, 128), frames=45, x264=bench.CAMERA)
    # A short run: two cameras for two seconds.
    options = "--files 1 3 --frames 90 --least 1 --cameras 2 --seconds 2 --warm-up 1 --baseline 100"
    with Detector(plan, graphs=True) as detector:
        args = bench.parsed(options.split())
        record = bench.measure(detector, 1e6, clip, camera, tmp_path, args, hardware=lambda _: 1000.0)
    assert [found["frames"] for found in record["files"].values()] == [90, 135]
    for found in record["files"].values():
        assert found["decoders"] == ["nvdec"]
        assert found["frames_per_s"] > 0
        assert found["share_of_the_limit"] == pytest.approx(
            found["steady_per_s"] / found["nvdec_alone_per_s"], abs=0.01
        )
        assert found["times_the_baseline"] == pytest.approx(found["steady_per_s"] / 100, abs=0.01)
    assert record["one file by PyAV"]["decoders"] == ["pyav"]
    cameras = record["cameras"]
    assert cameras["decoders"] == ["nvdec"]
    assert 80 <= cameras["processed"] + cameras["dropped"] <= 140
    assert cameras["failed"] == cameras["corrupt"] == 0
    assert 0 < cameras["age_ms"]["p50"] <= cameras["age_ms"]["p99"]
    assert cameras["memory"]["host"]["last_mb"] > 10
    text = bench.page({**record, "gpu": "none", "date": "2026-01-01", "size": [96, 128], "batch": 4})
    assert "| 3 |" in text
    assert "2 simulated cameras of 30 pictures/s for 2 s" in text
    gc.collect()
    assert machine.open == 0
