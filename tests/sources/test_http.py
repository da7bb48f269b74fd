"""Streams over HTTP, from a server in this process."""

from __future__ import annotations

import contextlib
import functools
import gc
import http.server
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import av
import cv2
import numpy as np
import pytest
from av.container import InputContainer

from tests.support.media import moving_box, picture, write_video
from tests.support.rtsp import wait_until
from tests.support.sound import write_with_sound
from tests.support.watched import watched
from yolotrt.pipeline.reader import Reading
from yolotrt.sources import LiveOptions, NetworkSource

_STALL_AT = 100_000  # bytes


def _whole() -> bytes:
    return cv2.imencode(".jpg", picture())[1].tobytes()


# The pictures that are sent in turn.
_MOTION_JPEG = {
    "/mjpeg": lambda: [_whole()],
    "/cut": lambda: [_whole(), _whole()[:-200]],
    "/bare": lambda: [_whole()[:-2]],
}


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, and Motion JPEG: pictures without an end, 20 a second, as many cameras send them.

    /locked is open to nobody; what is asked for below /stall/ ends in silence, and below /reset/ with the connection.
    """

    asked: ClassVar[list[str]] = []
    stalled: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/stall/"):
            self._stall(Path(self.directory) / self.path.removeprefix("/stall/"))
            return
        if self.path.startswith("/reset/"):
            self._reset(Path(self.directory) / self.path.removeprefix("/reset/"))
            return
        if self.path == "/locked":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        if self.path not in _MOTION_JPEG:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=next")
        self.end_headers()
        try:
            for data in itertools.cycle(_MOTION_JPEG[self.path]()):
                self.wfile.write(b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
                time.sleep(0.05)
        except OSError:
            pass

    def _stall(self, path: Path) -> None:
        """Half of a file, and then nothing."""
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(path.read_bytes()[:_STALL_AT])
            self.wfile.flush()
            self.stalled.set()
            time.sleep(30)

    def _reset(self, path: Path) -> None:
        """Half of a file, and then the end of the connection, as where a camera is switched off."""
        self.send_response(200)
        self.end_headers()
        data = path.read_bytes()
        with contextlib.suppress(OSError):
            self.wfile.write(data[: len(data) // 2])
            time.sleep(0.1)  # what was not read by then is lost, too
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the base class's)
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(_Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_lost_connection_leaves_nothing_to_the_garbage_collector(address: str, tmp_path: Path) -> None:
    write_video(tmp_path / "a.ts", moving_box(200), encoder={"tune": "zerolatency"})
    kinds = (av.VideoFrame, av.VideoCodecContext, InputContainer)
    gc.collect()
    gc.disable()
    try:
        with watched(NetworkSource(f"{address}/reset/a.ts")) as seen:
            wait_until(lambda: len(seen.told) >= 2, 10)
        with watched(NetworkSource(f"{address}/reset/a.ts", options=LiveOptions(retries=0))) as last:
            wait_until(lambda: last.ended, 10)
        assert last.error is not None
        seen.newest = last.newest = last.error = None
        held = [o for o in gc.get_objects() if type(o) in kinds]
    finally:
        gc.enable()
    assert seen.frames
    assert "the connection broke (" in seen.errors[0]
    assert held == []


def test_a_file_is_read_once_and_whole(address: str, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_box(30))
    source = NetworkSource(f"{address}/a.mp4")
    frames = list(source)
    assert [f.index for f in frames] == list(range(30))
    assert [f.timestamp_s for f in frames] == pytest.approx([i / 25 for i in range(30)], abs=1e-3)
    assert {f.received_s for f in frames} == {None}
    assert not source.info.live


def test_a_recording_keeps_its_own_time(address: str, tmp_path: Path) -> None:
    """However fast it is read: a minute of film takes less than a second."""
    write_video(tmp_path / "a.mp4", moving_box(60), fps=1)
    assert [f.timestamp_s for f in NetworkSource(f"{address}/a.mp4")] == pytest.approx(range(60), abs=1e-3)


@pytest.mark.parametrize("sound_first", [False, True])
def test_a_recording_with_sound_is_read_to_its_end(address: str, tmp_path: Path, sound_first: bool) -> None:
    write_with_sound(tmp_path / "a.mkv")
    if sound_first:
        _swap(tmp_path / "a.mkv", tmp_path / "b.mkv")
    with watched(NetworkSource(f"{address}/{'b' if sound_first else 'a'}.mkv")) as seen:
        wait_until(lambda: seen.ended, 10)
    assert (len(seen.frames), seen.corrupted, seen.error) == (45, 0, None)


def _swap(source: Path, target: Path) -> None:
    """The same with the sound as the first stream."""
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        streams = {
            s.index: after.add_stream_from_template(s) for s in (before.streams.audio[0], before.streams.video[0])
        }
        for packet in before.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                after.mux(packet)


def test_the_best_of_several_qualities_is_read_alone(address: str, tmp_path: Path) -> None:
    for name, size in (("low", (48, 64)), ("high", (96, 128))):
        _with_sound(tmp_path / f"{name}.m3u8", size)
    head = "#EXT-X-STREAM-INF:BANDWIDTH=%d,RESOLUTION=%s\n%s.m3u8\n"
    both = head % (200_000, "64x48", "low") + head % (2_000_000, "128x96", "high")
    (tmp_path / "all.m3u8").write_text("#EXTM3U\n" + both)
    _Handler.asked.clear()
    frames = list(NetworkSource(f"{address}/all.m3u8"))
    assert {f.size for f in frames} == {(96, 128)}
    assert len(frames) == 75
    assert "/high2.ts" in _Handler.asked
    assert "/low2.ts" not in _Handler.asked


def _with_sound(path: Path, size: tuple[int, int]) -> None:
    """Three seconds in pieces of one, with silence, as most playlists are."""
    with av.open(str(path), "w", options={"hls_time": "1", "hls_list_size": "0"}) as container:
        video = container.add_stream("libx264", rate=25, options={"g": "25"})
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        sound = container.add_stream("aac", rate=48_000)
        for number, pixels in enumerate(moving_box(75, size)):
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            frame.pts = number
            container.mux(video.encode(frame))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 48_000, number * 1920
            container.mux(sound.encode(silence))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def test_a_cover_is_not_the_video(address: str, tmp_path: Path) -> None:
    write_video(tmp_path / "plain.mp4", moving_box(30))
    with av.open(str(tmp_path / "plain.mp4")) as before, av.open(str(tmp_path / "a.mp4"), "w") as after:
        video = after.add_stream_from_template(before.streams.video[0])
        cover = after.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 480, 640, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        after.mux(cover.encode(av.VideoFrame.from_ndarray(picture((480, 640)), format="bgr24")))
        after.mux(cover.encode(None))
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = video
                after.mux(packet)
    frames = list(NetworkSource(f"{address}/a.mp4"))
    assert {f.size for f in frames} == {(96, 128)}
    assert len(frames) == 30


def test_a_recording_that_stalls_does_not_hold_up_the_end(address: str, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", moving_box(3000), encoder={"preset": "ultrafast"})
    assert (tmp_path / "a.mkv").stat().st_size > 2 * _STALL_AT
    source = NetworkSource(f"{address}/stall/a.mkv", options=LiveOptions(read_timeout_s=60))
    reading = Reading.of([source], 1)
    with source, reading:
        (taken,) = next(iter(reading))
        assert not source.info.live
        assert taken.frame.received_s is None
        for _ in reading:
            if _Handler.stalled.is_set():
                break
        started = time.monotonic()
    assert time.monotonic() - started < 10


def test_a_host_that_nobody_knows(address: str) -> None:
    with watched(NetworkSource("http://no-such-camera.invalid/1")) as seen:
        wait_until(lambda: seen.errors, 20)
    assert "no host of the name no-such-camera.invalid is known" in seen.errors[0]


def test_a_playlist_with_an_end(address: str, tmp_path: Path) -> None:
    write_video(tmp_path / "index.m3u8", moving_box(60), muxer={"hls_time": "1", "hls_list_size": "0"})
    assert len(list(NetworkSource(f"{address}/index.m3u8"))) == 60


def test_sound_alone(address: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with watched(NetworkSource(f"{address}/a.mp4")) as seen:
        wait_until(lambda: seen.ended, 5)
    assert "no video in the stream" in str(seen.error)


def test_a_title_that_is_no_text(address: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving_box(3), title="XXXX")
    path.write_bytes(path.read_bytes().replace(b"XXXX", b"\xff\xfe\xfa\xff"))
    assert len(list(NetworkSource(f"{address}/a.mkv"))) == 3


def test_a_live_playlist_is_shown_in_its_own_time(address: str, tmp_path: Path) -> None:
    muxer = {"hls_time": "1", "hls_flags": "omit_endlist", "hls_list_size": "0"}
    write_video(tmp_path / "index.m3u8", moving_box(75), muxer=muxer, encoder={"g": "25"})
    source = NetworkSource(f"{address}/index.m3u8")
    with watched(source) as seen:
        wait_until(lambda: seen.frames, 8)
        time.sleep(1.2)
        assert 10 < len(seen.frames) < 60
        wait_until(lambda: len(seen.frames) >= 70, 5)
    assert seen.lates == 0
    assert source.info.live


def test_motion_jpeg(address: str) -> None:
    source = NetworkSource(f"{address}/mjpeg")
    with watched(source) as seen:
        wait_until(lambda: len(seen.frames) > 20, 8)
    assert source.info.live
    assert seen.frames[-1].size == (48, 64)
    assert seen.told == []
    spent = seen.frames[20].at - seen.frames[0].at
    assert seen.frames[20].timestamp_s == pytest.approx(spent, abs=0.1), "FFmpeg counts 25 a second, and these are 20"
    assert seen.newest is not None
    assert seen.newest.received_s is not None


def test_motion_jpeg_that_is_cut_short(address: str) -> None:
    boxes = []
    with watched(NetworkSource(f"{address}/cut"), look=lambda frame: boxes.append(frame.pixels[36, 24])) as seen:
        wait_until(lambda: len(seen.frames) > 10, 8)
    assert abs(seen.corrupted - len(seen.frames)) <= 2  # every other picture
    assert np.abs(np.array(boxes, int) - (0, 0, 255)).max() < 12


def test_motion_jpeg_without_end_markers(address: str) -> None:
    with watched(NetworkSource(f"{address}/bare")) as seen:
        wait_until(lambda: len(seen.frames) > 10, 8)
    assert seen.corrupted == 0


def test_a_playlist_may_not_open_files_of_this_machine(address: str, tmp_path: Path) -> None:
    secret = write_video(tmp_path / "secret.ts", moving_box(30))
    (tmp_path / "index.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    )
    with watched(NetworkSource(f"{address}/index.m3u8", options=LiveOptions(retries=0))) as seen:
        wait_until(lambda: seen.ended, 10)
    assert seen.frames == []
    assert seen.error is not None


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("", "gives nothing without a user and a password. Give them as http://USER:PASSWORD@..."),
        ("me:secret@", "refuses the user or the password. Those in the address are wrong"),
    ],
)
def test_a_server_that_refuses(address: str, user: str, message: str) -> None:
    with watched(NetworkSource(f"{address.replace('//', f'//{user}')}/locked")) as seen:
        wait_until(lambda: seen.ended, 5)
    assert message in str(seen.error)
    assert "secret" not in str(seen.error)


def test_what_is_no_video(address: str, tmp_path: Path) -> None:
    (tmp_path / "text.html").write_text("only text " * 100)
    with watched(NetworkSource(f"{address}/text.html", options=LiveOptions(retries=0))) as seen:
        wait_until(lambda: seen.ended, 5)
    assert "cannot connect (Invalid data found" in str(seen.error)
