"""A real RTSP server for tests, in a process of its own, that can be frozen, killed and started again."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from yolotrt.types import ImageU8

_SERVER = Path(__file__).with_name("rtsp_server.py")
_PROBE = 'import gi; gi.require_version("GstRtspServer", "1.0"); from gi.repository import GstRtspServer'
_BOX_SIDE = 96
_PLACES = 32


@dataclass(frozen=True, kw_only=True)
class RtspStream:
    """One stream of the server.

    Attributes:
        path: of its address.
        codec: h264 or h265.
        size: (height, width) in pixels.
        fps: pictures, and key frames every second.
        transports: both, tcp or udp; others are refused.
        user, password: asked for where they are not empty.
        resize_after: pictures after which they come in the size `small`; never if negative.
    """

    path: str = "/a"
    codec: str = "h264"
    size: tuple[int, int] = (240, 320)
    fps: int = 15
    transports: str = "both"
    user: str = ""
    password: str = ""
    resize_after: int = -1
    small: tuple[int, int] = (192, 256)


class RtspServer:
    """The server's process."""

    def __init__(self, *streams: RtspStream, port: int | None = None) -> None:
        self.port = port or free_port()
        self._streams = streams
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def url(self, number: int = 0, *, credentials: str = "") -> str:
        """The address of a stream; `credentials` are user:password@."""
        return f"rtsp://{credentials}127.0.0.1:{self.port}{self._streams[number].path}"

    def start(self) -> None:
        """Start, or start again at the same port; it listens when this returns."""
        arguments = json.dumps([dataclasses.asdict(s) for s in self._streams])
        self._process = subprocess.Popen(
            [_system_python(), str(_SERVER), str(self.port), arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the RTSP server did not start"

    def freeze(self) -> None:
        """It stops in the middle of whatever it does; its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone, at once."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


@contextlib.contextmanager
def rtsp_server(*streams: RtspStream) -> Iterator[RtspServer]:
    """A server for the length of a block. Skips the test without GStreamer, or fails under YOLOTRT_REQUIRE_RTSP=1."""
    require_gstreamer()
    server = RtspServer(*streams)
    try:
        yield server
    finally:
        server.kill()


def require_gstreamer() -> None:
    """Skip the test where GStreamer's RTSP server is missing; fail it under YOLOTRT_REQUIRE_RTSP=1."""
    if not _has_gstreamer():
        reason = "needs GStreamer's RTSP server and its Python bindings (.ci/run names their packages)"
        if os.environ.get("YOLOTRT_REQUIRE_RTSP") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@functools.cache
def _has_gstreamer() -> bool:
    return (
        bool(_system_python()) and subprocess.run([_system_python(), "-c", _PROBE], capture_output=True).returncode == 0
    )


@functools.cache
def _system_python() -> str:
    """The Python that Debian's bindings are made for, which is not the one of a virtual environment."""
    return shutil.which("python3", path="/usr/bin:/bin") or ""


def free_port() -> int:
    """A TCP port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What the server drew into a picture.

    Attributes:
        at_ms: the monotonic clock, modulo 2 ** 32.
        place: of the red box: that of the next picture is the next one, and after the last comes the first.
    """

    at_ms: int
    place: int

    def missing_since(self, before: Drawn) -> int:
        """Pictures between another one and this one."""
        return (self.place - before.place - 1) % _PLACES

    @classmethod
    def read(cls, pixels: ImageU8) -> Drawn:
        """From a picture as a client has it."""
        blocks = pixels[4:12, :256].mean(axis=(0, 2)).reshape(32, 8)[:, 2:6].mean(axis=1) > 128
        middle = pixels[96:128].mean(axis=0)
        left = np.flatnonzero(middle[:, 2] - middle[:, 0] > 100).mean() - (_BOX_SIDE - 1) / 2
        return cls(
            at_ms=int("".join("01"[int(b)] for b in blocks), 2),
            place=round(left * _PLACES / (pixels.shape[1] - _BOX_SIDE)),
        )


def burned_in_age_s(pixels: ImageU8) -> float:
    """Seconds since the server drew a picture, by the clock in it."""
    return ((time.monotonic_ns() // 1_000_000 - Drawn.read(pixels).at_ms) % 2**32) / 1000


def wait_until(condition: object, timeout_s: float) -> float:
    """Wait until `condition()` holds; the seconds that it took. Fails the test if it takes longer."""
    assert callable(condition)
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, f"not within {timeout_s} s"
        time.sleep(0.01)
    return time.monotonic() - started
