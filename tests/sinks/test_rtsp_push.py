"""Publishing to a real RTSP server: FFmpeg's own, which listens for one publisher."""

from __future__ import annotations

import errno
import itertools
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest

from tests.support.media import picture
from tests.support.results import frame_result
from yolotrt.sinks import RtspPushSink, Sink, rtsp_push
from yolotrt.sinks.child import Child


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class _Server:
    """Takes `count` pictures of one publisher at `url`."""

    def __init__(self, url: str, count: int) -> None:
        self.frames: list[av.VideoFrame] = []
        self._url, self._count = url, count
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with av.open(self._url, options={"rtsp_flags": "listen", "listen_timeout": "15"}) as container:
            for frame in container.decode(video=0):
                self.frames.append(frame)
                if len(self.frames) == self._count:
                    return


@pytest.fixture
def feed() -> Iterator[list[Sink]]:
    """Feeds the sinks in the list with streams `a` and `b` until the test is over."""
    sinks: list[Sink] = []
    over = threading.Event()

    def run() -> None:
        index = 0
        while not over.wait(0.02):
            for sink in sinks:
                for name in ("a", "b") if getattr(sink, "_several", False) else ("a",):
                    sink.write(frame_result(picture((97, 129)), name, index=index))
            index += 1

    thread = threading.Thread(target=run)
    thread.start()
    yield sinks
    over.set()
    thread.join()
    for sink in sinks:
        sink.close()
        sink.close()
    assert "yolotrt-push" not in [t.name for t in threading.enumerate()]


def test_pictures_arrive(feed: list[Sink]) -> None:
    url = f"rtsp://127.0.0.1:{_free_port()}/live/street"
    server = _Server(url, 15)
    feed.append(RtspPushSink(url, encoder="x264"))
    server.join()
    assert [(f.height, f.width) for f in server.frames[-1:]] == [(98, 130)]  # odd sides are padded
    shown = server.frames[-1].to_ndarray(format="bgr24").astype(int)
    assert np.abs(shown[30:36, 80:120] - 114).max() < 12
    times = [f.time for f in server.frames[1:]]
    assert all(0 < b - a < 2 for a, b in itertools.pairwise(times))


def test_a_server_that_goes_away_is_found_again(feed: list[Sink], caplog: pytest.LogCaptureFixture) -> None:
    address = f"127.0.0.1:{_free_port()}/a"
    with caplog.at_level(logging.WARNING, logger="yolotrt"):
        feed.append(RtspPushSink(f"rtsp://user:secret@{address}", encoder="x264"))
        deadline = time.monotonic() + 10
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.02)
        for _ in range(2):
            server = _Server(f"rtsp://{address}", 5)
            server.join()
            assert len(server.frames) == 5
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("yolotrt")]
    assert lines[0].startswith(f"rtsp://{address} cannot be published (Connection refused)")
    assert f"rtsp://{address} is published" in lines
    assert "secret" not in caplog.text


def test_a_process_that_cannot_be_started_is_tried_again(
    feed: list[Sink], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = iter([OSError(errno.EMFILE, "Too many open files")])

    def child(*arguments: Any) -> Child:
        for error in started:
            raise error
        return Child(*arguments)

    monkeypatch.setattr(rtsp_push, "Child", child)
    url = f"rtsp://127.0.0.1:{_free_port()}/a"
    server = _Server(url, 3)
    with caplog.at_level(logging.WARNING, logger="yolotrt"):
        feed.append(RtspPushSink(url, encoder="x264"))
        server.join()
    assert len(server.frames) == 3
    assert "cannot be published ([Errno 24] Too many open files); it is tried again" in caplog.text


def test_a_short_run_says_that_nothing_was_published(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="yolotrt"):
        sink = RtspPushSink(f"rtsp://user:secret@127.0.0.1:{_free_port()}/a", encoder="x264")
        sink.write(frame_result(picture(), "a"))
        sink.close()
    assert "was not published" in caplog.text
    assert "secret" not in caplog.text


def test_each_of_several_streams_has_its_own_address(feed: list[Sink]) -> None:
    port = _free_port()
    server = _Server(f"rtsp://127.0.0.1:{port}/base/b", 3)
    feed.append(RtspPushSink(f"rtsp://127.0.0.1:{port}/base/", several=True, encoder="x264"))
    server.join()
    assert len(server.frames) == 3


def test_streams_whose_names_look_alike_have_addresses_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    address = f"rtsp://127.0.0.1:{_free_port()}"
    with caplog.at_level(logging.WARNING, logger="yolotrt"):
        sink = RtspPushSink(address, several=True, encoder="x264")
        deadline = time.monotonic() + 15
        while len(caplog.records) < 2 and time.monotonic() < deadline:
            for name in ("camera/1", "camera_1"):
                sink.write(frame_result(picture(), name))
            time.sleep(0.05)
        sink.close()
    assert {r.getMessage().split()[0] for r in caplog.records} == {f"{address}/camera_1", f"{address}/camera_1-2"}


def test_pictures_of_another_size_are_published_anew(caplog: pytest.LogCaptureFixture) -> None:
    url = f"rtsp://127.0.0.1:{_free_port()}/a"
    sink = RtspPushSink(url, encoder="x264")
    for size in ((96, 128), (48, 64)):
        server = _Server(url, 3)
        deadline = time.monotonic() + 15
        index = 0
        while len(server.frames) < 3 and time.monotonic() < deadline:
            sink.write(frame_result(picture(size), f"{size}.mp4", index=index))  # one file after the other
            index += 1
            time.sleep(0.02)
        server.join()
        assert {(f.height, f.width) for f in server.frames} == {size}
    sink.close()


def test_the_end_of_a_run_does_not_wait_for_a_server_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        sink = RtspPushSink(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/a", encoder="x264")
        sink.write(frame_result(picture(), "a"))
        connection, _ = silent.accept()
        started = time.monotonic()
        for index in range(50):  # more than a pipe holds
            sink.write(frame_result(picture((97, 129)), "a", index=index))
        sink.abort()
        assert time.monotonic() - started < 1.8
        connection.close()
