from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.media import cut, moving_box, picture, video_times, write_video
from tests.support.tiny_models import tiny_yolo
from yolotrt.detector import Detector
from yolotrt.errors import CudaError, NonFiniteOutputError, SinkError, SourceError
from yolotrt.options import DetectOptions
from yolotrt.pipeline import Pipeline, Stream, StreamOptions
from yolotrt.pipeline.reader import Reading
from yolotrt.sinks import AnnotatedSink, JsonLinesSink, Sink
from yolotrt.sources import ArraysSource, LiveOptions, Source, SourceInfo, open_source
from yolotrt.sources.live import LiveSource, LostError, Shot
from yolotrt.types import Frame, FrameResult


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def detector(folder: Path) -> Iterator[Detector]:
    with Detector(tiny_yolo(folder / "tiny.onnx"), backend="onnxruntime") as detector:
        yield detector


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    return write_video(folder / "video.mp4", moving_box(60))


class _Collector(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.results: list[FrameResult] = []
        self.ended: list[str] = []

    def write(self, result: FrameResult) -> None:
        self.results.append(result)

    def close(self) -> None:
        self.ended.append("closed")

    def abort(self) -> None:
        self.ended.append("aborted")


def test_every_frame_in_order(detector: Detector, video: Path) -> None:
    sink = _Collector()
    seen: list[FrameResult] = []
    with open_source(video) as source:
        statistics = Pipeline(detector, source, [sink], on_result=seen.append).run()
    assert [r.frame.index for r in sink.results] == list(range(60))
    assert seen == sink.results
    assert sink.ended == ["closed"]
    assert statistics.frames == 60
    assert statistics.boxes == sum(len(r.detections) for r in sink.results) > 30
    assert statistics.classes == {"red": statistics.boxes}
    assert statistics.wall_s > 0
    assert all(statistics.ms_per_frame(s) > 0 for s in ("decode", "preprocess", "inference", "postprocess", "write"))
    assert not statistics.interrupted


def test_same_boxes_as_one_by_one(detector: Detector, video: Path) -> None:
    sink = _Collector()
    Pipeline(detector, open_source(video), [sink]).run()
    for result, frame in zip(sink.results, open_source(video), strict=True):
        expected = detector(frame.pixels)
        assert (result.detections.xyxy == expected.xyxy).all()
        assert (result.detections.confidence == expected.confidence).all()


@pytest.mark.parametrize("batch", [4, 7])
def test_batches(detector: Detector, video: Path, tmp_path: Path, batch: int) -> None:
    one, many = _Collector(), _Collector()
    Pipeline(detector, open_source(video), [one]).run()
    with Detector(tiny_yolo(tmp_path / "batch.onnx", batch=batch), backend="onnxruntime") as batched:
        Pipeline(batched, open_source(video), [many]).run()
    for a, b in zip(one.results, many.results, strict=True):
        assert a.frame.index == b.frame.index
        assert np.allclose(a.detections.xyxy, b.detections.xyxy, atol=1e-3)


def test_two_runs_give_the_same_bytes(detector: Detector, video: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        with open_source(video) as source:
            sinks = [AnnotatedSink(tmp_path / name, source), JsonLinesSink(tmp_path / f"{name}.jsonl")]
            Pipeline(detector, source, sinks).run()
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 60
    assert len(video_times(tmp_path / "a" / "video.mp4")) == 60


class _Counting(Source):
    """Endless work that keeps count of what was asked of it."""

    def __init__(self, frames: int) -> None:
        super().__init__(SourceInfo(kind="arrays", name="counting"))
        self.frames, self.given = frames, 0

    def __iter__(self) -> Iterator[Frame]:
        for i in range(self.frames):
            self.given += 1
            yield Frame(picture=picture(), source_id="counting", index=i)


def test_the_reader_runs_ahead_only_so_far(detector: Detector) -> None:
    source = _Counting(300)
    leads = []
    Pipeline(detector, source, on_result=lambda r: leads.append(source.given - r.frame.index)).run()
    assert max(leads) <= 8


@pytest.mark.parametrize("at", [0, 20])
def test_interrupt(detector: Detector, video: Path, tmp_path: Path, at: int) -> None:
    def stop(result: FrameResult) -> None:
        if result.frame.index == at:
            raise KeyboardInterrupt

    with open_source(video) as source:
        sinks = [AnnotatedSink(tmp_path, source), JsonLinesSink(tmp_path / "out.jsonl")]
        pipeline = Pipeline(detector, source, sinks, on_result=stop)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run()
    assert pipeline.statistics.interrupted
    assert pipeline.statistics.frames == at + 1
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(len(lines)))
    if at:
        assert at - 6 <= len(video_times(tmp_path / "video.mp4")) == len(lines) <= at + 1
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


class _Old(LiveSource):
    """A camera whose pictures take long to get here, and which refuses what comes behind them."""

    def __init__(self, *, max_latency_s: float) -> None:
        options = LiveOptions(max_latency_s=max_latency_s, retries=0)
        super().__init__(SourceInfo(kind="stream", name="camera", live=True), options)

    def _shots(self) -> Iterator[Shot]:
        for _ in range(3):
            yield Shot(received_s=time.monotonic() - 1.5, camera_s=None, picture=picture)
            time.sleep(0.1)
        raise LostError("camera: the server refuses")


@pytest.mark.parametrize(("most_s", "count"), [(1.0, 0), (60.0, 3)])
def test_a_stream_uses_what_is_as_old_as_was_allowed(most_s: float, count: int) -> None:
    with Reading.of([_Old(max_latency_s=most_s)], 1) as reading:
        assert sum(len(taken) for taken in reading) == count


def test_an_interrupt_tells_what_could_not_be_read(detector: Detector) -> None:
    pipeline = Pipeline(detector, [Stream(_Old(max_latency_s=60)), Stream(_Counting(10**9))])
    threading.Thread(target=_interrupt_at_an_error, args=(pipeline,)).start()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    assert pipeline.statistics.problems == ["camera: the server refuses"]


def _interrupt_at_an_error(pipeline: Pipeline) -> None:
    while not pipeline.status()[0].last_error:
        time.sleep(0.01)
    pipeline.interrupt()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_sink_that_fails_ends_the_run(detector: Detector, video: Path, tmp_path: Path) -> None:
    with open_source(video) as source:
        sinks = [AnnotatedSink(tmp_path, source), JsonLinesSink(Path("/dev/full"))]
        with pytest.raises(SinkError, match="disk is full"):
            Pipeline(detector, source, sinks).run()
    assert len(video_times(tmp_path / "video.mp4")) == 1  # the other sink's file is whole


def test_a_sink_that_fails_at_its_end(detector: Detector) -> None:
    class Failing(_Collector):
        def close(self) -> None:
            raise SinkError("cannot finish")

    sink = Failing()
    with pytest.raises(SinkError, match="cannot finish"):
        Pipeline(detector, ArraysSource([picture()]), [sink]).run()
    assert sink.ended == ["aborted"]


def test_a_model_that_fails_ends_the_run(video: Path, tmp_path: Path) -> None:
    sink = _Collector()
    model = tiny_yolo(tmp_path / "nan.onnx", nan=True)
    with Detector(model, backend="onnxruntime") as detector, pytest.raises(NonFiniteOutputError):
        Pipeline(detector, open_source(video), [sink]).run()
    assert sink.ended == ["closed"]


def test_what_was_read_before_an_error_is_written(detector: Detector) -> None:
    class Failing(_Counting):
        def __iter__(self) -> Iterator[Frame]:
            yield from super().__iter__()
            raise SourceError("the cable was pulled")

    sink = _Collector()
    with pytest.raises(SourceError, match="cable"):
        Pipeline(detector, Failing(10), [sink]).run()
    assert len(sink.results) == 10
    assert sink.ended == ["closed"]


def test_an_error_nobody_foresaw_reaches_the_caller(detector: Detector) -> None:
    class Broken(_Counting):
        def __iter__(self) -> Iterator[Frame]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Pipeline(detector, Broken(1)).run()


def test_damage_is_counted_and_told(detector: Detector, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(50))
    cut(write_video(tmp_path / "b.mp4", noise, muxer={"movflags": "faststart"}), 0.6)
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "c.png").write_bytes(cv2.imencode(".png", picture())[1].tobytes())
    told: list[SourceError] = []
    sink = _Collector()
    statistics = Pipeline(detector, open_source(tmp_path), [sink], on_problem=told.append).run()
    assert [str(e) for e in told] == statistics.problems
    assert ["a.png" in statistics.problems[0], "b.mp4" in statistics.problems[1]] == [True, True]
    assert len(sink.results) > 20
    assert sink.results[-1].frame.source_id == str(tmp_path / "c.png")


class _Camera(Source):
    """Five pictures, as if from a camera."""

    def __init__(self) -> None:
        super().__init__(SourceInfo(kind="stream", name="camera", live=True))

    def __iter__(self) -> Iterator[Frame]:
        for index in range(5):
            yield Frame(picture=picture(), source_id="camera", index=index, received_s=time.monotonic())


@pytest.mark.parametrize("error", [CudaError("out of GPU memory"), KeyboardInterrupt()])
def test_a_model_that_does_not_get_ready(
    error: BaseException, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has been read yet; the writers end all the same."""

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(detector, "get_ready", fail)
    sink = _Collector()
    pipeline = Pipeline(detector, _Camera(), [sink])
    with pytest.raises(type(error)):
        pipeline.run()
    assert len(sink.ended) == 1
    assert pipeline.statistics.interrupted == isinstance(error, KeyboardInterrupt)


def test_a_model_gets_ready_for_the_options_of_all_streams(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[DetectOptions]] = []
    monkeypatch.setattr(detector, "get_ready", told.append)
    own = DetectOptions(max_det=900)
    streams = [Stream(_Camera(), name="a"), Stream(_Camera(), name="b", options=StreamOptions(detect=own))]
    Pipeline(detector, streams).run()
    assert told == [[own]]
    Pipeline(detector, ArraysSource([picture()])).run()
    assert len(told) == 1, "files can wait"
