"""Several streams in one run, from files: order, options of their own, and troubles that stay where they are."""

from __future__ import annotations

import errno
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.media import moving_box, picture, video_times, write_video
from tests.support.tiny_models import BLUE, tiny_yolo
from yolotrt.detector import Detector
from yolotrt.errors import CudaError, SinkError, SourceError, UsageError
from yolotrt.options import DetectOptions
from yolotrt.pipeline import Pipeline, Region, Stream, StreamOptions, StreamState, StreamStatus
from yolotrt.sinks import AnnotatedSink, JsonLinesSink, Sink
from yolotrt.sources import ArraysSource, Source, SourceInfo, open_source
from yolotrt.types import Frame, FrameResult


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def detector(request: pytest.FixtureRequest, folder: Path) -> Iterator[Detector]:
    with Detector(tiny_yolo(folder / "tiny.onnx"), backend=request.param) as detector:
        yield detector


@pytest.fixture(scope="module")
def videos(folder: Path) -> list[Path]:
    return [
        write_video(folder / "a.mp4", moving_box(40)),
        write_video(folder / "b.mp4", moving_box(15, (480, 640))),
        write_video(folder / "c.mp4", moving_box(25, (64, 64))),
    ]


class _Collector(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.results: list[FrameResult] = []
        self.ended = self.aborted = False

    def write(self, result: FrameResult) -> None:
        self.results.append(result)

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True


def test_each_stream_gets_all_its_frames_in_order(detector: Detector, videos: list[Path]) -> None:
    sinks = [_Collector() for _ in videos]
    shared = _Collector()
    streams = [Stream(open_source(v), [sink]) for v, sink in zip(videos, sinks, strict=True)]
    pipeline = Pipeline(detector, streams, [shared])
    statistics = pipeline.run()
    assert [[r.frame.index for r in sink.results] for sink in sinks] == [list(range(n)) for n in (40, 15, 25)]
    for video, sink in zip(videos, sinks, strict=True):
        assert {r.frame.source_id for r in sink.results} == {str(video)}
    assert len(shared.results) == statistics.frames == 80
    assert all(sink.ended for sink in (*sinks, shared))
    for status, frames in zip(pipeline.status(), (40, 15, 25), strict=True):
        assert (status.read, status.processed, status.state) == (frames, frames, StreamState.ENDED)
        assert status.accounted


def test_two_runs_give_the_same_lines(detector: Detector, videos: list[Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        streams = [Stream(open_source(v)) for v in videos]
        Pipeline(detector, streams, [JsonLinesSink(tmp_path / name)]).run()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    first = [json.loads(line)["source"] for line in (tmp_path / "a").read_text().splitlines()[:4]]
    assert first == [str(videos[0]), str(videos[1]), str(videos[2]), str(videos[0])]


def test_stride_and_rate(detector: Detector, videos: list[Path]) -> None:
    found = []
    for options in (
        StreamOptions(stride=3),
        StreamOptions(fps=10),
        StreamOptions(stride=2, fps=5),
        StreamOptions(fps=99),
    ):
        sink = _Collector()
        pipeline = Pipeline(detector, [Stream(open_source(videos[0]), [sink], options=options)])
        pipeline.run()
        (status,) = pipeline.status()
        assert (status.read, status.processed + status.skipped, status.accounted) == (40, 40, True)
        found.append([r.frame.index for r in sink.results])
    assert found[0] == list(range(0, 40, 3))
    assert found[1] == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30, 33, 35, 38]
    assert found[2] == [0, 6, 10, 16, 20, 26, 30, 36]
    assert found[3] == list(range(40))


def test_a_rate_begins_anew_with_each_video(detector: Detector, tmp_path: Path) -> None:
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", moving_box(20))  # 0.8 s
    cv2.imwrite(str(tmp_path / "d.png"), picture())
    sink = _Collector()
    Pipeline(detector, [Stream(open_source(tmp_path), [sink], options=StreamOptions(fps=1))]).run()
    assert [Path(r.frame.source_id).name for r in sink.results] == ["a.mp4", "b.mp4", "c.mp4", "d.png"]


def test_thresholds_of_their_own(detector: Detector) -> None:
    image = np.hstack([picture((64, 32), box=(0, 0, 32, 64)), picture((64, 32), box=(0, 0, 32, 64), colour=BLUE)])
    labels = []
    for options in (None, detector.options_with(classes=["blue"]), DetectOptions(conf=0.999)):
        sink = _Collector()
        stream = Stream(ArraysSource([image] * 3), [sink], options=StreamOptions(detect=options))
        Pipeline(detector, [stream, Stream(ArraysSource([image] * 3))]).run()
        labels.append({label for r in sink.results for label in r.detections.labels})
    assert labels == [{"red", "blue"}, {"blue"}, set()]


def test_a_region_of_interest(detector: Detector) -> None:
    image = picture((128, 128), box=(0, 0, 32, 128))  # a red band on the left
    image[:, 96:] = BLUE
    sinks = [_Collector(), _Collector()]
    right = StreamOptions(roi=Region(x1=0.5, y1=0.5, x2=1, y2=1))
    streams = [Stream(ArraysSource([image]), [sinks[0]]), Stream(ArraysSource([image]), [sinks[1]], options=right)]
    Pipeline(detector, streams).run()
    whole, part = (sink.results[0] for sink in sinks)
    assert set(whole.detections.labels) == {"red", "blue"}
    assert set(part.detections.labels) == {"blue"}
    assert part.frame.pixels is image
    assert part.detections.size == (128, 128)
    expected = detector(np.ascontiguousarray(image[64:, 64:]))
    assert (part.detections.xyxy == expected.xyxy + 64).all()


@pytest.mark.parametrize("corners", [(0, 0, 0, 1), (0.5, 0, 0.4, 1), (-0.1, 0, 1, 1), (0, 0, 1, 1.5)])
def test_regions_out_of_range(corners: tuple[float, float, float, float]) -> None:
    x1, y1, x2, y2 = corners
    with pytest.raises(UsageError, match="region of interest"):
        Region(x1=x1, y1=y1, x2=x2, y2=y2)


def test_regions_begin_and_end_at_even_pixels() -> None:
    assert Region(x1=0.999, y1=0.999, x2=1, y2=1).pixels((2, 3)) == (2, 0, 3, 2)
    assert Region(x1=0.33, y1=0.5, x2=0.34, y2=0.51).pixels((1080, 1920)) == (632, 540, 654, 552)
    assert Region(x1=0.1, y1=0.1, x2=0.1001, y2=1).pixels((101, 101)) == (10, 10, 12, 101)


@pytest.mark.parametrize("options", [{"fps": 0}, {"fps": -1}, {"fps": float("nan")}, {"stride": 0}])
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="out of range"):
        StreamOptions(**options)  # type: ignore[arg-type]


def test_steps_come_before_the_outputs(detector: Detector) -> None:
    order: list[str] = []

    def first(result: FrameResult) -> FrameResult:
        order.append("first")
        return result

    def second(result: FrameResult) -> FrameResult:
        order.append("second")
        return FrameResult(frame=result.frame, detections=result.detections[:0], seconds=result.seconds)

    own, shared = _Collector(), _Collector()
    streams = [Stream(ArraysSource([picture()]), [own], steps=[first, second]), Stream(ArraysSource([picture()]))]
    Pipeline(detector, streams, [shared]).run()
    assert order == ["first", "second"]
    assert len(own.results[0].detections) == 0
    assert sorted(len(r.detections) > 0 for r in shared.results) == [False, True]


class _Failing(Source):
    """Some pictures, and then an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(SourceInfo(kind="arrays", name="failing"))
        self._error = error

    def __iter__(self) -> Iterator[Frame]:
        for i in range(3):
            yield Frame(picture=picture(), source_id="failing", index=i)
        raise self._error


def test_a_source_that_fails_ends_only_its_stream(detector: Detector, videos: list[Path]) -> None:
    told: list[str] = []
    failing, other = _Collector(), _Collector()
    streams = [
        Stream(_Failing(SourceError("the cable was pulled")), [failing]),
        Stream(open_source(videos[0]), [other]),
    ]
    pipeline = Pipeline(detector, streams, on_state=lambda status, error: told.append(f"{status.name} {error}"))
    statistics = pipeline.run()
    assert (len(failing.results), len(other.results)) == (3, 40)
    assert failing.ended
    assert other.ended
    assert statistics.problems == ["the cable was pulled"]
    assert pipeline.status()[0].last_error == "the cable was pulled"
    assert "failing the cable was pulled" in told


def test_an_error_nobody_foresaw_ends_only_its_stream(detector: Detector, videos: list[Path]) -> None:
    other = _Collector()
    streams = [Stream(_Failing(ZeroDivisionError("a bug"))), Stream(open_source(videos[0]), [other])]
    pipeline = Pipeline(detector, streams)
    assert pipeline.run().problems == ["failing: cannot be read (ZeroDivisionError: a bug)"]
    assert len(other.results) == 40
    assert other.ended
    assert all(status.accounted for status in pipeline.status())
    with pytest.raises(ZeroDivisionError, match="a bug"):
        Pipeline(detector, [Stream(_Failing(ZeroDivisionError("a bug")))]).run()


@pytest.mark.parametrize("error", [CudaError("the GPU is lost"), KeyboardInterrupt()])
def test_a_lost_gpu_ends_all(detector: Detector, error: BaseException) -> None:
    other = _Collector()
    streams = [Stream(_Failing(error)), Stream(_Endless("endless"), [other])]
    with pytest.raises(type(error)):
        Pipeline(detector, streams).run()
    assert other.ended


class _Full(Sink):
    """A disk that is full after some frames."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._left, self._error = 2, error

    def write(self, result: FrameResult) -> None:
        self._left -= 1
        if not self._left:
            raise self._error

    def close(self) -> None:
        pass


def test_an_output_that_fails_ends_only_its_stream(detector: Detector, videos: list[Path], tmp_path: Path) -> None:
    source = open_source(videos[0])
    streams = [
        Stream(open_source(videos[0]), [_Full(SinkError("full"))]),
        Stream(source, [AnnotatedSink(tmp_path, source)]),
    ]
    pipeline = Pipeline(detector, streams)
    assert pipeline.run().problems == ["full"]
    assert len(video_times(tmp_path / "a.mp4")) == 40
    status = pipeline.status()[0]
    assert status.processed == 1
    assert status.failed >= 1
    assert status.accounted


@pytest.mark.parametrize("shared", [False, True])
def test_an_output_that_fails_ends_the_run(detector: Detector, videos: list[Path], shared: bool) -> None:
    bad = _Full(SinkError("full") if shared else ZeroDivisionError("a bug"))
    other = _Collector()
    streams = [Stream(open_source(videos[0]), [] if shared else [bad]), Stream(open_source(videos[2]), [other])]
    pipeline = Pipeline(detector, streams, [bad] if shared else [])
    with pytest.raises(SinkError if shared else ZeroDivisionError):
        pipeline.run()
    assert other.ended
    assert all(status.accounted and not status.waiting and not status.running for status in pipeline.status())


def test_an_interrupt_accounts_for_every_frame(detector: Detector, videos: list[Path]) -> None:
    def stop(result: FrameResult) -> None:
        if result.frame.index == 7:
            raise KeyboardInterrupt

    pipeline = Pipeline(detector, [Stream(open_source(v), [_Collector()]) for v in videos], on_result=stop)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    for status in pipeline.status():
        assert status.state is StreamState.ENDED
        assert status.accounted
        assert not status.waiting
        assert not status.running


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ends", ["by itself", "by its source", "by its output"])
def test_whoever_is_told_of_states_cannot_stop_the_run(
    ends: str, detector: Detector, videos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Where standard error is a disk that is full, say."""

    def on_state(status: StreamStatus, error: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = _Failing(SourceError("gone")) if ends == "by its source" else open_source(videos[0])
    sinks = [_Full(SinkError("full"))] if ends == "by its output" else []
    other = _Collector()
    pipeline = Pipeline(detector, [Stream(source, sinks), Stream(open_source(videos[0]), [other])], on_state=on_state)
    pipeline.run()
    assert len(other.results) == 40
    assert all(status.accounted and status.state is StreamState.ENDED for status in pipeline.status())
    assert "its state could not be told" in caplog.text


class _Endless(Source):
    """A file whose next wanted frame is far."""

    def __init__(self, name: str) -> None:
        super().__init__(SourceInfo(kind="video", name=name))

    def __iter__(self) -> Iterator[Frame]:
        for i in itertools.count():
            if self.watcher.wants(i, i / 30):
                yield Frame(picture=picture(), source_id=self.info.name, index=i)


@pytest.mark.timeout(60)
def test_a_reader_notices_the_end_though_it_hands_in_nothing(detector: Detector) -> None:
    options = StreamOptions(stride=10**9)

    def stop(_: FrameResult) -> None:
        while not all(status.skipped for status in pipeline.status()):
            time.sleep(0.001)
        pipeline.stop()

    pipeline = Pipeline(detector, [Stream(_Endless(name), options=options) for name in "ab"], on_result=stop)
    pipeline.run()
    assert all(status.accounted for status in pipeline.status())


class _Damaged(Source):
    """Nothing of it can be read, and it is long."""

    def __init__(self, name: str) -> None:
        super().__init__(SourceInfo(kind="video", name=name))
        self.told = 0

    def __iter__(self) -> Iterator[Frame]:
        while True:
            self.told += 1
            if self.info.name == "packets":
                self.watcher.corrupt()
            else:
                self.on_problem(SourceError(f"{self.told} cannot be read"))
            yield from ()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["packets", "pictures"])
def test_a_reader_of_damaged_things_notices_the_end(detector: Detector, name: str) -> None:
    source = _Damaged(name)
    pipeline = Pipeline(detector, [Stream(source)])

    def stop() -> None:
        while not source.told:
            time.sleep(0.001)
        pipeline.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    pipeline.run()
    thread.join()
    assert pipeline.status()[0].accounted


@pytest.mark.timeout(60)
def test_an_interrupt_from_another_thread(detector: Detector) -> None:
    sink, began = _Collector(), threading.Event()
    pipeline = Pipeline(
        detector,
        [Stream(_Endless(name), [sink] if name == "a" else []) for name in "ab"],
        on_result=lambda _: began.set(),
    )

    def interrupt() -> None:
        began.wait()
        pipeline.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    thread.join()
    assert pipeline.statistics.interrupted
    assert sink.aborted
    assert not sink.ended
    assert all(status.accounted and not status.running for status in pipeline.status())


@pytest.mark.timeout(60)
def test_a_reader_that_cannot_be_started(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system gives no more threads: those that have begun end."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def some(thread: threading.Thread) -> None:
        if thread.name == "yolotrt-reader":
            if started:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", some)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Pipeline(detector, [Stream(_Endless(name)) for name in "abc"]).run()
    assert not started[0].is_alive()
