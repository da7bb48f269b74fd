"""RTSP cameras and what goes wrong with them, against a real server. Each fault has a bound on time."""

from __future__ import annotations

import gc
import itertools
import logging
import socket
import time

import av
import numpy as np
import pytest

from tests.support.lossy_relay import lossy_relay
from tests.support.rtsp import Drawn, RtspServer, RtspStream, burned_in_age_s, free_port, rtsp_server, wait_until
from tests.support.watched import Watched, watched
from yolotrt.sources import LiveOptions, NetworkSource, StreamState
from yolotrt.sources.live import Transport
from yolotrt.types import Frame

pytestmark = pytest.mark.slow


def _frames_come(seen: Watched, count: int = 5, timeout_s: float = 8.0) -> None:
    have = len(seen.frames)
    wait_until(lambda: len(seen.frames) >= have + count, timeout_s)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_pictures_with_their_times(codec: str, transport: Transport) -> None:
    drawn: list[Drawn] = []

    def look(frame: Frame) -> None:
        drawn.append(Drawn.read(frame.pixels))
        if len(drawn) % 5 == 0:
            time.sleep(0.1)  # from here on, the time of a picture's arrival is not that of its making

    with rtsp_server(RtspStream(codec=codec)) as server:
        source = NetworkSource(server.url(), options=LiveOptions(rtsp_transport=transport))
        with watched(source, look=look) as seen:
            _frames_come(seen, 25)
    assert source.info.size == (240, 320)
    assert source.info.live
    assert seen.told == []
    assert [f.index for f in seen.frames] == list(range(len(seen.frames)))
    times = [f.timestamp_s for f in seen.frames]
    assert times[0] == 0
    # The server makes its pictures late on a busy machine: what counts is when it did, not when it should have. FFmpeg
    # knows no time of the first one.
    made = [d.at_ms / 1000 for d in drawn]
    assert np.diff(times[1:]) == pytest.approx(np.diff(made[1:]), abs=0.002)
    missing = sum(later.missing_since(earlier) for earlier, later in itertools.pairwise(drawn))
    assert missing <= seen.lates, "none is left out without a word"
    assert seen.newest is not None
    assert seen.newest.source_id == source.info.name == server.url()
    box = seen.newest.pixels[64:160].reshape(-1, 3)
    assert box[:, 2].max() > 200, "the red box is red"
    assert box[box[:, 2].argmax(), 0] < 60


def test_a_server_that_is_killed_and_started_again() -> None:
    with rtsp_server(RtspStream()) as server, watched(NetworkSource(server.url())) as seen:
        _frames_come(seen)
        server.kill()
        wait_until(lambda: seen.told, 2)
        time.sleep(3)
        server.start()
        back = time.monotonic()
        wait_until(lambda: seen.since(back), 2)
    assert {state for _, state, _ in seen.told} == {StreamState.RECONNECTING}
    before, after = (f.timestamp_s for f in (*[s for s in seen.frames if s.at < back][-1:], seen.since(back)[0]))
    assert 3 < after - before < 7, "the gap is as long as it was"


def test_a_camera_that_comes_back_as_another_one() -> None:
    with rtsp_server(RtspStream()) as server, watched(NetworkSource(server.url())) as seen:
        _frames_come(seen)
        server.kill()
        other = RtspServer(RtspStream(codec="h265", size=(192, 256)), port=server.port)
        try:
            wait_until(lambda: seen.frames[-1].size == (192, 256), 3)
        finally:
            other.kill()
    assert seen.source.info.size == (192, 256)


def test_a_server_that_freezes() -> None:
    options = LiveOptions(read_timeout_s=2, connect_timeout_s=2)
    with rtsp_server(RtspStream()) as server, watched(NetworkSource(server.url(), options=options)) as seen:
        _frames_come(seen)
        server.freeze()
        took = wait_until(lambda: seen.told, 3)
        assert took > 1.5
        assert "no picture for 2 s" in seen.errors[0]
        time.sleep(3)
        server.thaw()
        back = time.monotonic()
        wait_until(lambda: seen.since(back), 6)  # the attempt that is under way may have to run out first, 2 s


def test_a_server_that_accepts_and_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        options = LiveOptions(connect_timeout_s=1)
        started = time.monotonic()
        with watched(NetworkSource(f"rtsp://127.0.0.1:{mute.getsockname()[1]}/a", options=options)) as seen:
            wait_until(lambda: seen.told, 2)
            assert time.monotonic() - started > 0.9
        assert seen.told[0][1] is StreamState.CONNECTING
        assert "no answer within 1 s" in seen.errors[0]


def test_a_wrong_password_is_tried_once_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with rtsp_server(RtspStream(user="viewer", password="right")) as server:
        with watched(NetworkSource(server.url(credentials="viewer:right@"))) as seen:
            _frames_come(seen)
        assert seen.newest is not None
        assert seen.newest.source_id == server.url()
        with watched(NetworkSource(server.url(credentials="viewer:s3cret@"))) as seen:
            wait_until(lambda: seen.ended, 2)
    assert seen.told == []
    assert "refuses the user or the password" in str(seen.error)
    assert seen.error is not None
    assert seen.error.__context__ is None, "the error of FFmpeg holds the address"
    assert "s3cret" not in caplog.text + repr(seen.error) + repr(seen.source.info)


def test_a_stream_that_the_server_does_not_know_is_asked_for_rarely() -> None:
    with rtsp_server(RtspStream()) as server, watched(NetworkSource(server.url() + "none")) as seen:
        wait_until(lambda: seen.told, 2)
        time.sleep(2)
        assert not seen.ended
    assert len(seen.errors) == 1
    assert "knows no such stream (404)" in seen.errors[0]


def test_attempts_are_counted() -> None:
    source = NetworkSource(f"rtsp://127.0.0.1:{free_port()}/a", options=LiveOptions(retries=2))
    with watched(source) as seen:
        wait_until(lambda: seen.ended, 3)
    assert len(seen.told) == 2
    assert "cannot connect (Connection refused)" in str(seen.error)


@pytest.mark.parametrize(("asked", "offered"), [("udp", "tcp"), ("auto", "udp")])
def test_a_transport_that_the_server_refuses(asked: Transport, offered: str) -> None:
    options = LiveOptions(rtsp_transport=asked)
    stream = RtspStream(transports=offered)
    with rtsp_server(stream) as server, watched(NetworkSource(server.url(), options=options)) as seen:
        _frames_come(seen, timeout_s=4)
    assert f"trying {offered.upper()}" in seen.errors[0]


def test_udp_that_is_blocked_falls_back_to_tcp() -> None:
    with rtsp_server(RtspStream()) as server, lossy_relay(server.port, loss=1.0) as relay:
        source = NetworkSource(f"rtsp://127.0.0.1:{relay.port}/a", options=LiveOptions(rtsp_transport="udp"))
        with watched(source) as seen:
            _frames_come(seen, timeout_s=8)
    assert relay.lost > 10
    assert "no pictures over UDP, trying TCP" in seen.errors[0]


def test_lost_packets() -> None:
    with rtsp_server(RtspStream()) as server, lossy_relay(server.port, loss=0.05) as relay:
        source = NetworkSource(f"rtsp://127.0.0.1:{relay.port}/a", options=LiveOptions(rtsp_transport="udp"))
        with watched(source) as seen:
            _frames_come(seen, 1)
            started = time.monotonic()
            wait_until(lambda: len(seen.since(started)) > 60, 8)
    assert relay.lost > 2
    assert seen.told == [], "the connection holds"


def test_a_connection_leaves_nothing_to_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        with rtsp_server(RtspStream()) as server:
            for _ in range(3):
                with watched(NetworkSource(server.url())) as seen:
                    _frames_come(seen)
        held = [o for o in gc.get_objects() if type(o) is av.VideoFrame and o.format.name == "yuv420p"]
    finally:
        gc.enable()
    assert held == []


def test_a_picture_size_that_changes() -> None:
    stream = RtspStream(resize_after=30)
    with rtsp_server(stream) as server, watched(NetworkSource(server.url())) as seen:
        wait_until(lambda: seen.frames and seen.frames[-1].size == stream.small, 8)
        _frames_come(seen)
    assert [f.size for f in seen.frames if f.size not in (stream.size, stream.small)] == []
    assert seen.told == []


def test_a_reader_that_is_too_slow_jumps_ahead() -> None:
    ages: list[float] = []

    class Slow(Watched):
        """Takes a fifth of a second for each of 15 pictures a second, as a decoder without enough cores does."""

        def wants(self, index: int, timestamp_s: float) -> bool:
            time.sleep(0.2)
            return True

    with rtsp_server(RtspStream()) as server:
        seen = Slow(NetworkSource(server.url(), options=LiveOptions(max_latency_s=0.5)))
        seen.start()
        try:
            while len(ages) < 40:
                have = len(seen.frames)
                wait_until(lambda have=have: len(seen.frames) > have, 5)
                assert seen.newest is not None
                ages.append(burned_in_age_s(seen.newest.pixels))
        finally:
            seen.stop()
    assert seen.lates > 20
    assert max(ages[10:]) < 4, "without jumps it would be 5 s behind by now"
    assert seen.told == []
