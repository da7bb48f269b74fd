"""One JSON object per frame and line."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import IO

from yolotrt import files
from yolotrt.errors import SinkError
from yolotrt.sinks.base import Sink
from yolotrt.types import FrameResult


class JsonLinesSink(Sink):
    """Writes `{"source", "index", "timestamp_s", "size", "boxes"}` per frame; `boxes` as `Detections.to_dict` has them.

    The same pictures give the same lines, byte for byte: nothing in them depends on the time of the run.

    Each line is passed on at once, so that another program can follow along. A line that cannot be written in full is
    taken back.
    """

    def __init__(self, target: Path | None) -> None:
        """Open `target`, or take standard output for None. Raises SinkError where it cannot be written."""
        super().__init__()
        if target is None and sys.stdout is None:
            raise SinkError("cannot write to standard output: it is closed")
        self._target = target
        self._file: IO[bytes] | None = None
        if target is not None:
            with files.writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                self._file = target.open("wb", buffering=0)
        self._closed = False

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        record = {
            "source": frame.source_id,
            "index": frame.index,
            "timestamp_s": round(frame.timestamp_s, 6),
            **result.detections.to_dict(),
        }
        line = json.dumps(record, ensure_ascii=False, separators=(", ", ": ")) + "\n"
        # Names of files that are no valid Unicode carry surrogates, which only this handler writes back.
        data = line.encode("utf-8", errors="surrogateescape")
        if self._target is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            self._append(self._target, data)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._file is not None and self._target is not None:
            with files.writing(self._target):
                self._file.close()
            self.outputs.append(self._target)

    def _append(self, target: Path, data: bytes) -> None:
        assert self._file is not None
        start = self._file.tell() if self._file.seekable() else None
        with files.writing(target):
            try:
                rest = memoryview(data)
                while rest:  # a nearly full disk takes a part before it refuses
                    rest = rest[self._file.write(rest) :]
            except OSError:
                if start is not None:
                    with contextlib.suppress(OSError):
                        self._file.truncate(start)
                raise
