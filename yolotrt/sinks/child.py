"""Processes of their own that are handed pictures, for work that could hold up or end this one.

A window belongs to a program's main thread, and a GUI without a display ends the process. Connecting to an RTSP server
holds Python's lock (in PyAV 18), so one that does not answer would stop every stream of the run.
"""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import cv2
import numpy as np

from yolotrt.types import ImageU8

_HEAD = struct.Struct(">III")  # bytes of the name, height, width


class Child:
    """`python -m MODULE`, which reads its options and pictures from standard input and answers in lines.

    Args:
        module: its name.
        config: its options. They are passed through the pipe, so that a password stands in no list of processes.
        on_line: called with each line that it prints, and with an empty one at its end, in a thread of this object.
    """

    def __init__(self, module: str, config: Mapping[str, Any], on_line: Callable[[str], None]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the run's business, which then ends this one
        )
        self._on_line = on_line
        self._thread = threading.Thread(target=self._read, name="yolotrt-child", daemon=True)
        self._thread.start()
        with contextlib.suppress(OSError):  # it is gone already; `send` will say so
            self._write(json.dumps(dict(config)).encode() + b"\n")

    def send(self, name: str, pixels: ImageU8, *, most: int | None = None) -> None:
        """Hand over a picture; waits until it is taken.

        Args:
            most: the longer side is reduced to so many pixels.

        Raises OSError when the process is gone.
        """
        height, width = pixels.shape[:2]
        if most is not None and max(height, width) > most:
            scale = most / max(height, width)
            size = (max(round(width * scale), 1), max(round(height * scale), 1))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        encoded = name.encode("utf-8", "surrogateescape")
        self._write(_HEAD.pack(len(encoded), *pixels.shape[:2]) + encoded)
        self._write(np.ascontiguousarray(pixels).data)

    def end(self) -> int:
        """Tell it that nothing more comes, and wait. Returns its exit code."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        code = self._process.wait()
        self._thread.join()
        return code

    def kill(self) -> None:
        """End it now, from any thread."""
        self._process.kill()

    def _write(self, data: bytes | memoryview) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                self._on_line(line.decode("utf-8", "replace").strip())
        self._on_line("")


def received(stream: IO[bytes]) -> Iterator[Any]:
    """In the child: the options first, then (name, picture) after (name, picture) until the run ends."""
    yield json.loads(stream.readline() or b"{}")
    while len(head := stream.read(_HEAD.size)) == _HEAD.size:
        length, height, width = _HEAD.unpack(head)
        name = stream.read(length).decode("utf-8", "surrogateescape")
        data = stream.read(height * width * 3)
        if len(data) < height * width * 3:
            return
        yield name, np.frombuffer(data, np.uint8).reshape(height, width, 3)
