"""One JSON object per frame and line."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import IO

from yolotrt import files
from yolotrt.errors import SinkError, UsageError
from yolotrt.sinks.base import Sink
from yolotrt.sinks.limits import Limit, stamp
from yolotrt.types import FrameResult

_LONGEST_LINE = 1 << 22  # bytes; what is behind the last line break of a file of JSON lines is less than that


class JsonLinesSink(Sink):
    """Writes `{"source", "index", "timestamp_s", "size", "boxes"}` per frame; `boxes` as `Detections.to_dict` has them.

    With `streams`, the name of the stream stands behind `source`; two streams may read the same one.
    Where lines or zones are counted at, `counts` follows, as `Counts.to_dict` has them. The same pictures give the
    same lines, byte for byte: nothing in them depends on the time of the run.

    Each line is passed on at once, so that another program can follow along. A line that cannot be written in full is
    taken back. Where the system has file locks, a second run on the same file is refused.
    """

    def __init__(
        self, target: Path | None, *, append: bool = False, rotate: Limit | None = None, streams: bool = False
    ) -> None:
        """Open `target`, or take standard output for None.

        Args:
            append: keep the lines that are there. One that was torn by the end of an earlier run is taken away.
            rotate: when the file is that large, or this run has written to it for that long, it becomes
                `NAME-DATE-TIME.SUFFIX` (of that begin) and a new one is begun.
            streams: name the stream of each line.

        Raises:
            SinkError: it cannot be written, or another run writes it.
            UsageError: to append to, it holds something other than JSON lines; a pipe or a device to `rotate`.
        """
        super().__init__()
        if target is None and sys.stdout is None:
            raise SinkError("cannot write to standard output: it is closed")
        if target is not None and rotate is not None and files.is_pipe_or_device(target):
            raise UsageError(f"{target} is a pipe or a device, which --jsonl-rotate has no use for", expected="a file")
        self._target, self._rotate, self._streams = target, rotate, streams
        self._file: IO[bytes] | None = None
        if target is not None:
            with files.writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            self._file = _opened(target, append=append)
        self._begun = time.monotonic()
        self._closed = False

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        record = {
            "source": frame.source_id,
            **({"stream": result.stream} if self._streams else {}),
            "index": frame.index,
            "timestamp_s": round(frame.timestamp_s, 6),
            **result.detections.to_dict(),
        }
        if result.counts is not None:
            record["counts"] = result.counts.to_dict()
        line = json.dumps(record, ensure_ascii=False, separators=(", ", ": ")) + "\n"
        # Names of files that are no valid Unicode carry surrogates, which this handler writes as JSON escapes them.
        data = line.encode("utf-8", errors="backslashreplace")
        if self._target is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        assert self._file is not None
        _append(self._file, self._target, data)
        age = time.monotonic() - self._begun
        if self._rotate is not None and self._rotate.reached(seconds=age, size=self._file.tell()):
            self._begin_next(self._target, age)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._file is not None and self._target is not None:
            with files.writing(self._target):
                self._file.close()
            self.outputs.append(self._target)

    def _begin_next(self, target: Path, age: float) -> None:
        assert self._file is not None
        place = files.behind_link(target)  # the link itself stays
        name = f"{place.stem}-{stamp(seconds_ago=age)}"
        old = place.with_name(name + place.suffix)
        number = 1
        while old.exists():
            number += 1
            old = place.with_name(f"{name}-{number}{place.suffix}")
        with files.writing(target):
            self._file.close()
            place.rename(old)
            self.outputs.append(old)
        self._file = _opened(target, append=False)
        self._begun = time.monotonic()


def _opened(target: Path, *, append: bool) -> IO[bytes]:
    with files.writing(target):
        # To append in any case: until it is locked, its lines may be those of another run.
        file = target.open("ab", buffering=0)
    try:
        with files.writing(target):
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # no pipe or device
                _lock(file, target)
                if append:
                    _mend(file, target)
                else:
                    file.truncate(0)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: IO[bytes], target: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise SinkError(f"cannot write {target}: another run writes it", remedy="Choose another file.") from e
    except OSError:
        return  # some network drives have no locks


def _mend(file: IO[bytes], target: Path) -> None:
    """Make sure that the next line begins behind a whole one."""
    size = os.fstat(file.fileno()).st_size
    with target.open("rb") as existing:
        head = existing.read(1)
        existing.seek(max(size - _LONGEST_LINE, 0))
        tail = existing.read()
    if not size:
        return
    lines, line_break, rest = tail.rpartition(b"\n")
    before = lines[lines.rfind(b"\n") + 1 :]
    if head != b"{" or (line_break and not _is_json(before)) or len(rest) == _LONGEST_LINE:
        raise UsageError(f"{target} holds something other than JSON lines", remedy="Append to another file.")
    if rest and _is_json(rest):
        file.write(b"\n")
    elif rest:
        file.truncate(size - len(rest))


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _append(file: IO[bytes], target: Path, data: bytes) -> None:
    start = os.fstat(file.fileno()).st_size if file.seekable() else None  # and not tell(), which may be behind the end
    with files.writing(target):
        try:
            rest = memoryview(data)
            while rest:  # a nearly full disk takes a part before it refuses
                rest = rest[file.write(rest) :]
        except OSError:
            if start is not None:
                with contextlib.suppress(OSError):
                    file.truncate(start)
            raise
