"""The HTTP server, with real clients."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import av
import cv2
import numpy as np
import pytest

from tests.support.media import picture
from tests.support.results import frame_result
from yolotrt.errors import SinkError
from yolotrt.sinks import MjpegSink

NAME = "rtsp://host/ü 1"


@pytest.fixture
def sink() -> Iterator[MjpegSink]:
    sink = MjpegSink(("127.0.0.1", 0))
    yield sink
    sink.close()
    sink.close()
    assert "yolotrt-mjpeg" not in [t.name for t in threading.enumerate()]


@pytest.fixture
def feeding(sink: MjpegSink) -> Iterator[None]:
    """Two streams that go on and on."""
    over = threading.Event()

    def feed() -> None:
        index = 0
        while not over.wait(0.01):
            sink.write(frame_result(picture((96, 128)), NAME, index=index))
            sink.write(frame_result(picture((48, 64)), "b.mp4", index=index))
            index += 1

    thread = threading.Thread(target=feed)
    thread.start()
    time.sleep(0.1)
    yield
    over.set()
    thread.join()


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        data: bytes = answer.read()
        return data


@pytest.mark.usefixtures("feeding")
def test_a_player_shows_a_stream(sink: MjpegSink) -> None:
    with av.open(sink.url + quote(NAME, safe=""), format="mpjpeg", timeout=5) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(20), strict=False)]
    assert {(f.height, f.width) for f in frames} == {(96, 128)}
    shown = frames[-1].to_ndarray(format="bgr24").astype(int)
    assert np.abs(shown[20:36, 70:120] - 114).max() < 12  # the grey ground, where nothing is drawn
    assert np.abs(shown - picture((96, 128))).max() > 60  # the box


@pytest.mark.usefixtures("feeding")
def test_a_page_and_single_pictures(sink: MjpegSink) -> None:
    page = _get(sink.url).decode()
    assert f'<img src="/{quote(NAME, safe="")}">' in page
    assert '<img src="/b.mp4">' in page
    image = cv2.imdecode(np.frombuffer(_get(sink.url + "b.mp4.jpg"), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (48, 64, 3)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        _get(sink.url + "c.mp4")


@pytest.mark.usefixtures("feeding")
@pytest.mark.parametrize(("path", "status"), [("", 200), ("b.mp4", 200), ("b.mp4.jpg", 200), ("c.mp4", 404)])
def test_a_monitor_asks_for_no_more_than_the_head(sink: MjpegSink, path: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(sink.url).port), 5) as line:
        line.sendall(f"HEAD /{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = b"".join(iter(lambda: line.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f" {status} ".encode() in head.splitlines()[0]
    assert body == b""


@pytest.mark.usefixtures("feeding")
def test_a_client_that_takes_nothing_holds_nobody_up(sink: MjpegSink) -> None:
    port = int(sink.url.rsplit(":", 1)[1].strip("/"))
    with socket.create_connection(("127.0.0.1", port)) as idle:
        idle.sendall(b"GET /b.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(3):
            assert _get(sink.url + "b.mp4.jpg").startswith(b"\xff\xd8")
        started = time.monotonic()
        sink.close()
        assert time.monotonic() - started < 2


def test_a_client_is_released_at_the_end(sink: MjpegSink) -> None:
    sink.write(frame_result(picture(), "a"))
    port = int(sink.url.rsplit(":", 1)[1].strip("/"))
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    client.request("GET", "/a")
    answer = client.getresponse()
    assert answer.read(9) == b"--frame\r\n"
    sink.abort()
    assert answer.read().count(b"--frame") == 0  # to its end
    client.close()


def test_a_page_before_the_first_picture(sink: MjpegSink) -> None:
    page = _get(sink.url).decode()
    assert "no stream yet" in page
    assert 'http-equiv="refresh"' in page  # until there is one


def test_a_port_that_is_taken(sink: MjpegSink) -> None:
    port = int(sink.url.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(SinkError, match=f"cannot serve pictures at 127.0.0.1:{port}: Address already in use"):
        MjpegSink(("127.0.0.1", port))


@pytest.mark.timeout(60)
def test_clients_that_leave_while_nothing_comes_are_let_go(sink: MjpegSink) -> None:
    sink.write(frame_result(picture(), "a"))
    port = int(sink.url.rsplit(":", 1)[1].strip("/"))
    before = threading.active_count()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(4) == b"HTTP"
    while threading.active_count() > before:
        time.sleep(0.1)


def test_a_client_of_a_stream_that_is_silent_gets_its_picture_again(sink: MjpegSink) -> None:
    sink.write(frame_result(picture(), "a"))
    port = int(sink.url.rsplit(":", 1)[1].strip("/"))
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request("GET", "/a")
    answer, said = client.getresponse(), b""
    while said.count(b"--frame") < 3:
        more = answer.read(1)
        assert more, "the stream has ended"
        said += more
    client.close()


def test_a_client_that_asks_for_nothing(sink: MjpegSink, capfd: pytest.CaptureFixture[str]) -> None:
    port = int(sink.url.rsplit(":", 1)[1].strip("/"))
    before = threading.active_count()
    for _ in range(5):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # by a reset
    sink.write(frame_result(picture(), "a"))
    assert b"/a" in _get(sink.url)
    until = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert "Traceback" not in capfd.readouterr().err
