"""NVDEC itself: the pictures of PyAV to the last bit, boxes without the host between, and what is left behind."""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.gpu.plans import make_plan
from tests.sources import test_nvdec as shared
from tests.support.media import cut, moving_box, video_times, write_video
from tests.support.tiny_models import tiny_yolo
from yolotrt import Detector, assets
from yolotrt.cuda.device import Device
from yolotrt.cuda.driver import check, driver
from yolotrt.cuda.gpu import gpu as gpu_machine
from yolotrt.errors import MissingExtraError, SourceError
from yolotrt.evaluation.matching import match_all
from yolotrt.export.pipeline import export_model
from yolotrt.model_spec import BatchRange
from yolotrt.pipeline import Pipeline, Stream
from yolotrt.sinks.annotated import AnnotatedSink
from yolotrt.sources import VideoSource
from yolotrt.sources.device_images import Budget, PooledImage
from yolotrt.sources.nvdec import Nvdec, load_api
from yolotrt.types import Frame

ROOT = Path(__file__).resolve().parents[2]
SIZE = (96, 128)


class GpuBench(shared.Bench):
    """The `Bench` of the tests without a GPU, on one."""

    def __init__(self, device: Device) -> None:
        self.gpu, self.told = gpu_machine(device), shared.Told()
        self.problems: list[SourceError] = []
        self.limit, self.budget = 1000, 2**30
        try:
            self.module = load_api()
        except MissingExtraError as e:
            pytest.skip(str(e))

    @property
    def has_av1(self) -> bool:  # type: ignore[override]
        """Data-centre GPUs of the Hopper generation do not decode it."""
        caps = self.module.GetDecoderCaps(gpuid=self.gpu.device.index, codec=self.module.cudaVideoCodec.AV1)
        return bool(caps["width_max"])

    @property
    def nvdec(self) -> Nvdec:
        return Nvdec(api=self.module, machine=self.gpu, limit=self.limit, budget=Budget(self.budget))


@pytest.fixture
def bench(gpu: Device) -> GpuBench:
    return GpuBench(gpu)


# These say nothing of the GPU behind the interface.
test_frames_are_those_of_pyav = shared.test_frames_are_those_of_pyav
test_variable_frame_rate = shared.test_variable_frame_rate
test_ntsc_times = shared.test_ntsc_times
test_what_pyav_decodes_instead = shared.test_what_pyav_decodes_instead
test_an_odd_size = shared.test_an_odd_size
test_frames_hidden_by_an_edit_list = shared.test_frames_hidden_by_an_edit_list
test_threads_fetch_a_picture_once = shared.test_threads_fetch_a_picture_once
test_pictures_that_grow = shared.test_pictures_that_grow
test_headers_that_the_container_changes = shared.test_headers_that_the_container_changes


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("number", [1, 5, 7, 9])
def test_matrix_and_range(bench: GpuBench, tmp_path: Path, number: int, full_range: bool) -> None:
    path = write_video(tmp_path / "a.mp4", shared.noise(3), colorspace=number, full_range=full_range)
    shared.assert_same(bench.frames(path), shared.by_pyav(path))


def test_a_file_that_is_cut_short(bench: GpuBench, tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "a.ts", shared.noise(60), encoder={"g": "10"}), 0.6)
    frames, wanted = bench.frames(path), shared.by_pyav(path)
    assert 0 <= len(wanted) - len(frames) <= 1, "what is left of the last picture is up to each decoder"
    shared.assert_same(frames[:-1], wanted[: len(frames) - 1])


def test_sessions_side_by_side(bench: GpuBench, tmp_path: Path) -> None:
    paths = [
        write_video(
            tmp_path / f"{n}.mp4", shared.noise(40, seed=n), encoder={"x264-params": f"bframes={n % 3}:b-adapt=0"}
        )
        for n in range(16)
    ]

    def read(path: Path) -> list[Frame]:
        return list(bench.source(path))

    with ThreadPoolExecutor(16) as pool:
        for path, frames in zip(paths, pool.map(read, paths), strict=True):
            assert all(shared.on_gpu(frames))
            shared.assert_same(frames, shared.by_pyav(path))


@pytest.fixture
def detector(gpu: Device, tmp_path: Path) -> Iterator[Detector]:
    plan = make_plan(tiny_yolo(tmp_path / "m.onnx", batch=None), batch=BatchRange(min=1, opt=4, max=8))
    with Detector(plan, graphs=True) as made:
        yield made


def used_memory(device: Device) -> int:
    with gpu_machine(device).active():
        free, total = check(driver().cuMemGetInfo(), "memory")
    return int(total) - int(free)


@pytest.mark.real_gpu("tests/pipeline/test_nvdec.py has it on host code")
def test_boxes_are_those_of_pictures_by_pyav(bench: GpuBench, tmp_path: Path) -> None:
    made = export_model(
        assets.folder() / "yolov8n_demo.pt",
        precision="fp16",
        batch=BatchRange(min=1, opt=8, max=8),
        output=tmp_path / "model",
    )
    with Detector(made.manifest_path, strict=True, graphs=True) as detector:
        found = {}
        for decoder in ("nvdec", "pyav"):
            results = list(detector.stream(assets.sample_video(), decoder=decoder))
            assert len(results) == 300
            found[decoder] = [result.detections for result in results]
            on_gpu = [isinstance(result.frame.picture, PooledImage) for result in results]
            assert sum(on_gpu) > 40 if decoder == "nvdec" else not any(on_gpu)
    matched = match_all(zip(found["pyav"], found["nvdec"], strict=True), min_iou=0.98)
    assert matched.reference > 1000
    assert matched.matched_share > 0.995
    assert matched.added_share < 0.005


def test_many_files_with_annotated_copies(bench: GpuBench, detector: Detector, tmp_path: Path) -> None:
    paths = [
        write_video(tmp_path / f"{n}.mp4", moving_box(100, SIZE), rotation=90 if n == 3 else None) for n in range(6)
    ]
    streams = []
    for path in paths:
        source = VideoSource(path)
        source.decoders = detector.decoders()
        streams.append(Stream(source, [AnnotatedSink(tmp_path / "out", source)], name=path.name))
    pipeline = Pipeline(detector, streams)
    assert pipeline.run().frames == 600
    decoders = [status.decoders for status in pipeline.status()]
    assert decoders.pop(3) == ("pyav (the pictures are to be turned)",)
    assert decoders == [("nvdec",)] * 5
    for path in paths:
        assert video_times(tmp_path / "out" / path.name) == pytest.approx(video_times(path), abs=1e-3)


def test_memory_comes_back(bench: GpuBench, detector: Detector, gpu: Device, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", shared.noise(200))
    after = []
    for _ in range(6):
        results = list(detector.stream(path, decoder="nvdec"))
        assert len(results) == 200
        del results
        gc.collect()
        after.append(used_memory(gpu))
    assert max(after[1:]) - after[1] < 32 * 2**20, after


def test_a_stream_that_is_left_early(bench: GpuBench, detector: Detector, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", shared.noise(60))
    wanted = shared.by_pyav(path)
    kept = []
    for result in detector.stream(path, decoder="nvdec"):
        kept.append(result.frame)
        if len(kept) == 10:
            break
    for frame, other in zip(kept, wanted, strict=False):
        np.testing.assert_array_equal(frame.pixels, other.pixels)


def test_the_command_line_prints_nothing_else(bench: GpuBench, detector: Detector, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", shared.noise(30))
    command = [sys.executable, "-m", "yolotrt", "detect", str(path), "--model", str(tmp_path / "m.engine"), "--graphs"]
    done = subprocess.run(
        [*command, "--decoder", "nvdec", "--json"], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["frames"] == 30
    assert record["streams"][0]["decoders"] == ["nvdec"]
    assert "Videos: decoded by NVDEC" in done.stderr


def test_simulated_cameras(bench: GpuBench, detector: Detector, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("streams", ROOT / "scripts" / "bench_streams_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    clip = script.write_clip(tmp_path / "clip.mp4", size=(360, 640), frames=90, x264=script.CAMERA)
    found = script.cameras(detector, clip, 4, detector.decoders("nvdec"), seconds=4, warm_up_s=3)
    assert found["decoders"] == ["nvdec"]
    assert found["failed"] == found["corrupt"] == 0
    assert found["dropped"] <= 0.02 * found["read"]
    assert found["processed"] == pytest.approx(4 * 4 * 30, abs=20)
    assert found["age_ms"]["p95"] < 100
