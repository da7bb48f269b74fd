"""Cameras side by side, against real servers: nobody notices another one's trouble, and latency stays as it is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.media import moving_box, video_times, write_video
from tests.support.rtsp import RtspStream, burned_in_age_s, free_port, rtsp_server, wait_until
from tests.support.tiny_models import tiny_yolo
from yolotrt import cli
from yolotrt.assets import demo_model
from yolotrt.detector import Detector
from yolotrt.pipeline import Pipeline, Stream, StreamState
from yolotrt.sinks import JsonLinesSink, Sink
from yolotrt.sources import LiveOptions, NetworkSource, open_source
from yolotrt.types import FrameResult

pytestmark = pytest.mark.slow

OPTIONS = LiveOptions(read_timeout_s=2, connect_timeout_s=2)


@pytest.fixture
def detector(tmp_path: Path) -> Iterator[Detector]:
    with Detector(tiny_yolo(tmp_path / "tiny.onnx"), backend="openvino") as detector:
        yield detector


class _Ages(Sink):
    """How old each picture is when its result is written, by the clock in it, and what its inference took."""

    def __init__(self) -> None:
        super().__init__()
        self.ages: list[float] = []
        self.inference: list[float] = []

    def write(self, result: FrameResult) -> None:
        self.ages.append(burned_in_age_s(result.frame.pixels))
        self.inference.append(result.seconds.inference)

    def close(self) -> None:
        pass


@contextlib.contextmanager
def _running(pipeline: Pipeline, streams: list[Stream]) -> Iterator[None]:
    """Run a pipeline in a thread for the length of a block; its live sources are stopped at the end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            pipeline.run()
        except BaseException as e:  # noqa: BLE001 (for the test to look at)
            failed.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        for stream in streams:
            stream.source.stop()
        thread.join(15)
    assert not thread.is_alive()
    assert failed == []
    for status in pipeline.status():
        assert status.accounted
        assert status.state is StreamState.ENDED
        assert not status.waiting
        assert not status.running


def _processed(pipeline: Pipeline) -> list[int]:
    return [status.processed for status in pipeline.status()]


def _rates(pipeline: Pipeline, seconds: float) -> npt.NDArray[np.float64]:
    """Pictures a second of each stream, over so many seconds."""
    start, began = _processed(pipeline), time.monotonic()
    time.sleep(seconds)
    counted = np.subtract(_processed(pipeline), start)
    return np.asarray(counted / (time.monotonic() - began), np.float64)


def _all_live(pipeline: Pipeline) -> Callable[[], bool]:
    return lambda: all(s.state is StreamState.LIVE and s.processed > 5 for s in pipeline.status())


def test_one_that_freezes_is_not_noticed_by_the_others(detector: Detector) -> None:
    with rtsp_server(RtspStream(), RtspStream(path="/b", codec="h265")) as good, rtsp_server(RtspStream()) as bad:
        urls = [good.url(0), good.url(1), bad.url()]
        streams = [Stream(NetworkSource(url, options=OPTIONS)) for url in urls]
        streams.append(Stream(NetworkSource(f"rtsp://127.0.0.1:{free_port()}/never", options=OPTIONS)))
        pipeline = Pipeline(detector, streams)
        with _running(pipeline, streams):
            wait_until(lambda: all(s.processed > 20 for s in pipeline.status()[:3]), 15)
            before = _rates(pipeline, 8)
            frozen = time.monotonic()
            bad.freeze()
            wait_until(lambda: pipeline.status()[2].state is StreamState.STALLED, 2)
            noticed = OPTIONS.read_timeout_s + 1
            wait_until(
                lambda: pipeline.status()[2].state is StreamState.RECONNECTING, frozen + noticed - time.monotonic()
            )
            during = _rates(pipeline, frozen + 20 - time.monotonic())
            bad.thaw()
            wait_until(lambda: pipeline.status()[2].state is StreamState.LIVE, 5)
            never = pipeline.status()[3]
    assert during[:2] == pytest.approx(before[:2], rel=0.05)
    assert during[2] == 0
    assert pipeline.status()[2].reconnects == 1
    assert (never.state, never.read) == (StreamState.CONNECTING, 0)
    assert "Connection refused" in never.last_error


def test_cameras_beside_a_file_whose_frames_are_all_used(detector: Detector, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", moving_box(300))
    with rtsp_server(RtspStream()) as server:
        streams = [Stream(NetworkSource(server.url())), Stream(open_source(video))]
        pipeline = Pipeline(detector, streams)
        with _running(pipeline, streams):
            wait_until(lambda: pipeline.status()[1].state is StreamState.ENDED, 20)
            wait_until(lambda: pipeline.status()[0].processed > 10, 10)
    assert pipeline.status()[1].processed == 300


def test_latency_from_the_camera_to_the_line(tmp_path: Path) -> None:
    fps = 5  # that the demo model holds on two slow cores
    ages = _Ages()
    with Detector(demo_model()) as detector, rtsp_server(RtspStream(fps=fps)) as server:
        streams = [Stream(NetworkSource(server.url()), [JsonLinesSink(tmp_path / "lines"), ages])]
        pipeline = Pipeline(detector, streams)
        with _running(pipeline, streams):
            wait_until(lambda: len(ages.ages) >= 50, 40)
    steady = slice(10, None)  # without the pictures that waited for the connection
    inference = np.percentile(ages.inference[steady], 95)
    waiting = max(inference - 1 / fps, 0)  # for the inference before it, on a machine that is busy with other things
    bound = 1 / fps + inference + waiting + 0.05
    assert np.percentile(ages.ages[steady], 95) <= bound
    assert len((tmp_path / "lines").read_text().splitlines()) == len(ages.ages)


def test_too_many_cameras_share_what_there_is_and_get_no_older() -> None:
    sinks = [_Ages() for _ in range(4)]
    cameras = [RtspStream(path=f"/{i}", fps=25) for i in range(4)]
    with Detector(demo_model()) as detector, rtsp_server(*cameras) as server:
        streams = [Stream(NetworkSource(server.url(i)), [sink]) for i, sink in enumerate(sinks)]
        pipeline = Pipeline(detector, streams)
        with _running(pipeline, streams):
            wait_until(_all_live(pipeline), 30)
            start = _processed(pipeline)
            marks = [len(sink.ages) for sink in sinks]
            time.sleep(12)
            shares = np.subtract(_processed(pipeline), start)
            ages = [sink.ages[mark:] for sink, mark in zip(sinks, marks, strict=True)]
    assert all(status.dropped > status.processed for status in pipeline.status()), "the model holds them all"
    assert shares.max() / shares.min() <= 1.2
    for mine in ages:
        half = len(mine) // 2
        assert np.median(mine[half:]) <= np.median(mine[:half]) * 1.25 + 0.05
        assert max(mine[half:]) < 2


def test_detector_stream_of_cameras(detector: Detector) -> None:
    with rtsp_server(RtspStream(), RtspStream(path="/b")) as server:
        results = detector.stream([server.url(0), server.url(1)])
        seen: dict[str, list[FrameResult]] = {server.url(0): [], server.url(1): []}
        for result in results:
            seen[result.frame.source_id].append(result)
            if min(map(len, seen.values())) >= 10:
                break
        results.close()
    for found in seen.values():
        assert [r.detections.labels for r in found[-3:]] == [["red"] * len(r.detections) for r in found[-3:]]
        assert len(found[-1].detections) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_playable_outputs(tmp_path: Path, number: signal.Signals) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx")
    refused = f"rtsp://viewer:s3cret@127.0.0.1:{free_port()}/never"
    with rtsp_server(RtspStream(), RtspStream(path="/b")) as server, socket.create_server(("127.0.0.1", 0)) as mute:
        unanswered = f"rtsp://viewer:s3cret@127.0.0.1:{mute.getsockname()[1]}/never"
        sources = [server.url(0), server.url(1), refused, unanswered]
        outputs = ["--save", str(tmp_path / "out"), "--jsonl", str(tmp_path / "lines.jsonl")]
        process = subprocess.Popen(
            [sys.executable, "-m", "yolotrt", "detect", *sources, "--model", str(model), *outputs],
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = tmp_path / "lines.jsonl"
        wait_until(lambda: lines.exists() and len(lines.read_text().splitlines()) > 60, 30)
        process.send_signal(number)
        started = time.monotonic()
        out, err = process.communicate(timeout=30)
        took = time.monotonic() - started
    assert took < 2
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.rstrip().endswith("Interrupted.")
    assert "s3cret" not in out + err
    assert f"{server.url(0)}: live" in err
    videos = sorted((tmp_path / "out").iterdir())
    assert [v.suffix for v in videos] == [".mp4", ".mp4"]
    assert all(len(video_times(v)) > 20 for v in videos)
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    for url in sources[:2]:
        indices = [r["index"] for r in records if r["source"] == url]
        assert indices == sorted(set(indices))


def test_files_of_one_name_beside_a_camera_are_told_apart(detector: Detector, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(7))
    seen: dict[str | None, list[int]] = {}
    with rtsp_server(RtspStream()) as server:
        results = detector.stream([str(path), str(path), server.url()])
        for result in results:
            seen.setdefault(result.stream, []).append(result.frame.index)
            if sum(map(len, seen.values())) >= 24:
                break
        results.close()
    assert seen.pop(str(path)) == seen.pop(f"{path}-2") == list(range(7))
    assert list(seen) == [server.url()]
