"""From packets to boxes without the host between: NVDEC's interface, the graph runner, its kernels as host code."""

from __future__ import annotations

import gc
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from tests.support.command_line import CommandLine
from tests.support.cuda_host.engine import OnnxEngine
from tests.support.cuda_host.machine import HostMachine
from tests.support.host_nvdec import HostNvdec
from tests.support.media import moving_box, video_times, write_video
from tests.support.rtsp import RtspStream, rtsp_server, wait_until
from tests.support.tiny_models import tiny_yolo
from tests.support.watched import watched
from yolotrt import Detector, assets
from yolotrt.backends import tensorrt_graph
from yolotrt.backends.cuda_graph import GraphRunner
from yolotrt.errors import UsageError
from yolotrt.evaluation.matching import match_all
from yolotrt.model_spec import BatchRange
from yolotrt.pipeline import Pipeline, Region, Stream, StreamOptions
from yolotrt.sinks import JsonLinesSink
from yolotrt.sinks.annotated import AnnotatedSink
from yolotrt.sources import LiveOptions, NetworkSource, VideoSource, open_source
from yolotrt.sources.device_images import PooledImage
from yolotrt.types import FrameResult

SIZE = (96, 128)


class Gpu:
    """A GPU in host memory that runs "plans" and decodes: an ONNX file beside each, and FFmpeg."""

    def __init__(self, folder: Path, patched: pytest.MonkeyPatch) -> None:
        self.machine, self.nvdec = HostMachine(), HostNvdec()
        self.onnx = tiny_yolo(folder / "m.onnx", batch=None)
        self.plan = folder / "m.engine"
        self.plan.write_bytes(b"")
        patched.setattr(tensorrt_graph, "open_graphs", self._open)
        patched.setitem(sys.modules, "PyNvVideoCodec", cast("types.ModuleType", self.nvdec))

    def _open(self, path: Path, *, device: int = 0) -> GraphRunner:
        assert (path, device) == (self.plan, 0)
        engine = OnnxEngine(self.onnx, self.machine, batch=BatchRange(min=1, opt=4, max=4))
        return GraphRunner(self.machine, engine)

    def detector(self) -> Detector:
        return Detector(self.plan, graphs=True)


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    made = Gpu(tmp_path, monkeypatch)
    yield made
    gc.collect()
    assert made.machine.open == 0, "something was left open"


def assert_close(got: list[FrameResult], wanted: list[FrameResult]) -> None:
    """The same boxes, but for how the kernel and swscale round colours: by 2 of 255 at most."""
    for a, b in zip(got, wanted, strict=True):
        assert (a.frame.source_id, a.frame.index, a.frame.timestamp_s, a.frame.size) == (
            b.frame.source_id,
            b.frame.index,
            b.frame.timestamp_s,
            b.frame.size,
        )
        assert a.detections.labels == b.detections.labels
        np.testing.assert_allclose(a.detections.xyxy, b.detections.xyxy, atol=0.01)
        np.testing.assert_allclose(a.detections.confidence, b.detections.confidence, atol=0.01)


def test_boxes_are_those_of_the_cpu(gpu: Gpu, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(35, SIZE), encoder={"crf": "1"})
    with gpu.detector() as detector:
        results = list(detector.stream(path))
        by_pyav = list(detector.stream(path, decoder="pyav"))
    with Detector(gpu.onnx, backend="onnxruntime") as cpu:
        wanted = list(cpu.stream(path))
    assert all(isinstance(r.frame.picture, PooledImage) for r in results)
    assert all(isinstance(r.frame.picture, np.ndarray) for r in by_pyav)
    assert sum(len(r.detections) for r in wanted) >= 30
    assert_close(results, wanted)
    assert_close(by_pyav, wanted)


@pytest.mark.slow
def test_boxes_of_the_demo_model(gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.onnx = assets.demo_model()
    monkeypatch.setattr(
        tensorrt_graph, "open_graphs", lambda *_, **__: GraphRunner(gpu.machine, OnnxEngine(gpu.onnx, gpu.machine))
    )
    found = []
    with gpu.detector() as detector, Detector(gpu.onnx, backend="onnxruntime") as cpu:
        for each, decoder in ((detector, "auto"), (cpu, "pyav")):
            source = open_source(assets.sample_video())
            source.decoders = each.decoders(decoder)  # type: ignore[arg-type]
            frames = [frame for frame in source if frame.index % 40 == 0]
            found.append([result.detections for result in each.detect_frames(frames)])
            assert all(isinstance(f.picture, PooledImage) for f in frames) == (each is detector)
            del frames
    matched = match_all(zip(found[1], found[0], strict=True), min_iou=0.98)
    assert matched.reference > 20
    assert (matched.matched_share, matched.added_share) == (1.0, 0.0)
    assert float(np.abs(matched.confidence_delta).max()) < 0.01


def test_a_detector_of_host_pictures_fetches_them(gpu: Gpu, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(10, SIZE))
    with gpu.detector() as detector, Detector(gpu.onnx, backend="onnxruntime") as cpu:
        source = open_source(path)
        source.decoders = detector.decoders()
        results = cpu.detect_frames(list(source))
        assert all(isinstance(r.frame.picture, PooledImage) for r in results)
        wanted = list(cpu.stream(path))
    for a, b in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(a.detections.xyxy, b.detections.xyxy)
        np.testing.assert_array_equal(a.detections.confidence, b.detections.confidence)


def test_a_picture_of_another_gpu_is_fetched(gpu: Gpu, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(3, SIZE))
    with gpu.detector() as detector:
        source = open_source(path)
        source.decoders = detector.decoders()
        frames = list(source)
        assert detector.backend.machine is gpu.machine  # type: ignore[attr-defined]
        detector.backend.machine = HostMachine()  # type: ignore[attr-defined]
        found = detector.detect_frames(frames)
        assert all(cast("PooledImage", f.picture).surface(gpu.machine) is None for f in frames), "they are on the host"
        assert_close(found, list(detector.stream(path, decoder="pyav")))


def test_a_region_of_interest(gpu: Gpu, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(40, SIZE), encoder={"crf": "1"})
    region = StreamOptions(roi=Region(x1=0.27, y1=0.11, x2=0.91, y2=0.83))
    found: list[list[FrameResult]] = []
    with gpu.detector() as detector:
        for decoder in ("auto", "pyav"):
            results: list[FrameResult] = []
            source = open_source(path)
            source.decoders = detector.decoders(decoder)
            Pipeline(detector, [Stream(source, options=region)], on_result=results.append).run()
            found.append(results)
    assert all(isinstance(r.frame.picture, PooledImage) for r in found[0])
    assert sum(len(r.detections) for r in found[0]) > 10
    assert_close(*found)


def test_many_files_with_all_that_is_written(gpu: Gpu, tmp_path: Path) -> None:
    ticks = [0, 40, 100, 110, 500, 520, 1000, 1001, 1400, 1440]
    paths = [
        write_video(tmp_path / "vfr.mp4", moving_box(10, SIZE), ticks=ticks),
        write_video(tmp_path / "turned.mp4", moving_box(15, SIZE), rotation=90),
        write_video(
            tmp_path / "hevc.mkv", moving_box(40, SIZE), codec="libx265", encoder={"x265-params": "log-level=0"}
        ),
        write_video(tmp_path / "long.mp4", moving_box(120, SIZE)),
    ]
    lines = []
    with gpu.detector() as detector:
        for run in range(2):
            out = tmp_path / f"out{run}"
            sources = [VideoSource(path) for path in paths]
            streams = []
            for source in sources:
                source.decoders = detector.decoders()
                streams.append(Stream(source, [AnnotatedSink(out, source)]))
            pipeline = Pipeline(detector, streams, [JsonLinesSink(out / "all.jsonl")])
            statistics = pipeline.run()
            assert statistics.frames == 185
            assert not statistics.problems
            assert [s.decoders for s in pipeline.status()] == [
                ("nvdec",),
                ("pyav (the pictures are to be turned)",),
                ("nvdec",),
                ("nvdec",),
            ]
            assert all(s.accounted and s.processed == s.read for s in pipeline.status())
            lines.append((out / "all.jsonl").read_bytes())
            for path in paths:
                assert video_times(out / f"{path.stem}.mp4") == pytest.approx(video_times(path), abs=1e-3)
    assert lines[0] == lines[1]
    assert len(lines[0].splitlines()) == 185


def test_memory_does_not_grow_with_a_video(gpu: Gpu, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(400, SIZE))
    surface, peak = SIZE[0] * SIZE[1] * 3 // 2, 0
    sizes: list[int] = []
    allocate = gpu.machine.allocate
    with gpu.detector() as detector, pytest.MonkeyPatch.context() as patched:
        patched.setattr(gpu.machine, "allocate", lambda size: sizes.append(size) or allocate(size))  # type: ignore[func-returns-value]
        peak = sum(1 for _ in detector.stream(path))
    assert peak == 400
    # Those that wait, that run and that are on their way: of batches of 4.
    assert 1 <= sum(size // surface for size in sizes if size % surface == 0 and size <= 16 * surface) <= 40


def test_all_results_at_once(gpu: Gpu, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(120, SIZE))
    with gpu.detector() as detector:
        results = list(detector.stream(path))
        assert len(results) == 120
        on_gpu = [isinstance(r.frame.picture, PooledImage) for r in results]
        assert on_gpu == sorted(on_gpu, reverse=True), "those for which there is no more room are on the host"
        assert 20 <= sum(on_gpu) <= 40
    # They outlive the detector.
    for result, wanted in zip(results, VideoSource(path), strict=True):
        np.testing.assert_array_equal(result.frame.pixels, wanted.pixels)


def test_a_stream_that_is_left_early(gpu: Gpu, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(60, SIZE))
    with gpu.detector() as detector:
        for result in detector.stream(path):
            if result.frame.index == 5:
                break
        del result


def test_the_command_line(
    gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = CommandLine(monkeypatch, capfd)
    good, bad = (str(write_video(tmp_path / f"{n}.mp4", moving_box(9, SIZE), rotation=n)) for n in (0, 90))
    plan = str(gpu.plan)
    found = run("detect", good, "--model", plan, "--graphs")
    assert found.code == 0, found.err
    assert "Videos: decoded by NVDEC, and PyAV for what it cannot decode" in found.err
    assert "Decoded by: nvdec\n" in found.out
    found = run("detect", good, bad, "--model", plan, "--graphs", "--json")
    assert json.loads(found.out)["streams"][0]["decoders"] == ["nvdec", "pyav (the pictures are to be turned)"]
    found = run("detect", bad, "--model", plan, "--graphs", "--decoder", "nvdec")
    assert (found.code, found.out) == (1, "")
    assert found.err.splitlines()[-1] == (
        f"Error: {bad}: NVDEC cannot decode it: the pictures are to be turned. Use --decoder auto."
    )
    found = run("detect", good, "--model", plan, "--graphs", "--decoder", "pyav", "--json")
    assert json.loads(found.out)["streams"][0]["decoders"] == ["pyav"]
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    found = run("detect", good, "--model", plan, "--graphs")
    assert 'Videos: decoded by PyAV (PyNvVideoCodec is not installed: pip install "yolotrt[gpu]")' in found.err
    assert "Decoded by: pyav (PyNvVideoCodec is not installed" in found.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--decoder", "cuvid"], "option decoder is unknown, got cuvid, expected auto | nvdec | pyav"),
        (["--decoder", "nvdec"], "NVDEC cannot decode for this model, got a model that runs on the CPU"),
        (["--graphs", "--backend", "onnxruntime"], "option graphs is for TensorRT plans, got back-end onnxruntime"),
    ],
)
def test_what_cannot_be(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny_yolo(tmp_path / "m.onnx"))
    path = str(write_video(tmp_path / "a.mp4", moving_box(2)))
    found = CommandLine(monkeypatch, capfd)("detect", path, "--model", model, *arguments)
    assert (found.code, found.out) == (2, "")
    assert said in found.err


def test_a_plan_that_runs_without_graphs_says_why(gpu: Gpu, tmp_path: Path) -> None:
    with gpu.detector() as detector:
        backend = detector.backend
        backend.machine = None  # type: ignore[attr-defined]  # as that of a plan through the host
        backend.info = type(backend.info)(backend="tensorrt", flavour="x", version="1", device="g", precision="fp16")
        assert detector.decoders().why == "the model does not run as CUDA graphs"
        with pytest.raises(UsageError, match="got the model does not run as CUDA graphs"):
            detector.decoders("nvdec")


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_camera(gpu: Gpu, codec: str) -> None:
    told = []
    with gpu.detector() as detector, rtsp_server(RtspStream(codec=codec)) as server:
        source = NetworkSource(server.url(), options=LiveOptions(read_timeout_s=2, connect_timeout_s=2))
        source.decoders = detector.decoders()
        with watched(source) as seen:
            seen.decoder = lambda name, why: told.append((name, why))  # type: ignore[method-assign]
            wait_until(lambda: len(seen.frames) >= 20, 10)
            assert seen.newest is not None
            assert isinstance(seen.newest.picture, PooledImage)
            box = seen.newest.pixels[64:160].reshape(-1, 3)
            assert box[:, 2].max() > 200, "the red box is red"
            server.kill()
            wait_until(lambda: seen.told, 3)
            server.start()
            have = len(seen.frames)
            wait_until(lambda: len(seen.frames) >= have + 10, 10)
        times = [f.timestamp_s for f in seen.frames]
        assert times == sorted(times)
        assert np.diff(times[5:18]) == pytest.approx(1 / 15, abs=0.03)
        assert seen.corrupted == 0
        seen.newest = None
    assert set(told) == {("nvdec", "")}
    assert len(gpu.nvdec.sessions) == len(told) == 2
    assert gpu.nvdec.flags == {8}, "each picture is wanted with its packet"


@pytest.mark.slow
def test_a_camera_whose_pictures_change(gpu: Gpu) -> None:
    stream = RtspStream(size=(192, 256), small=(240, 320), resize_after=30)
    with gpu.detector() as detector, rtsp_server(stream) as server:
        source = NetworkSource(server.url(), options=LiveOptions(read_timeout_s=2, connect_timeout_s=2))
        source.decoders = detector.decoders()
        with watched(source) as seen:
            wait_until(lambda: {f.size for f in seen.frames} == {(192, 256), (240, 320)}, 20)
            assert seen.newest is not None
            assert isinstance(seen.newest.picture, PooledImage)
        seen.newest = None
