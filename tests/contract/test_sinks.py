"""One suite for all sinks: whatever `yolotrt.sinks.base` promises, each of them keeps.

A new sink is one more row in `SINKS`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.media import moving_box, write_video
from tests.support.results import frame_result
from yolotrt.errors import SinkError, YolotrtError
from yolotrt.sinks import (
    AnnotatedSink,
    CocoSink,
    CropsSink,
    JsonLinesSink,
    MjpegSink,
    RtspPushSink,
    Sink,
)
from yolotrt.sources import Source, open_source
from yolotrt.types import FrameResult

FRAMES = 6

Make = Callable[[Path, Source], Sink]


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# name -> how it is made, and the files that it writes into its folder; windows need a screen and have their own tests
SINKS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "annotated": (AnnotatedSink, ("v.mp4",)),
    "crops": (
        CropsSink,
        tuple(f"thing/v-00000{i}-0.jpg" for i in range(FRAMES)),
    ),
    "jsonl": (lambda folder, _: JsonLinesSink(folder / "a.jsonl"), ("a.jsonl",)),
    "coco": (lambda folder, _: CocoSink(folder / "a.json"), ("a.images.json", "a.json")),
    "mjpeg": (lambda *_: MjpegSink(("127.0.0.1", 0)), ()),
    "rtsp": (lambda *_: RtspPushSink(f"rtsp://127.0.0.1:{_closed_port()}/a", encoder="x264"), ()),
}
FILES = [name for name, (_, files) in SINKS.items() if files]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    with open_source(write_video(tmp_path_factory.mktemp("in") / "v.mp4", moving_box(FRAMES))) as source:
        yield source


@pytest.fixture
def results(source: Source) -> list[FrameResult]:
    return [frame_result(f.pixels, f.source_id, index=f.index, timestamp_s=f.timestamp_s) for f in source]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(t.name.startswith("yolotrt") for t in threading.enumerate()):
        time.sleep(0.01)
    assert [t.name for t in threading.enumerate() if t.name.startswith("yolotrt")] == []


def _files(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()))


def _covers(outputs: list[Path], path: Path) -> bool:
    return any(path == output or output in path.parents for output in outputs)


@pytest.mark.parametrize("name", SINKS)
@pytest.mark.parametrize("end", ["close", "abort"])
def test_results_in_files_out(tmp_path: Path, source: Source, results: list[FrameResult], name: str, end: str) -> None:
    make, files = SINKS[name]
    sink = make(tmp_path, source)
    for result in results:
        sink.write(result)
    started = time.monotonic()
    getattr(sink, end)()
    assert time.monotonic() - started < 2
    assert _files(tmp_path) == files
    assert all(_covers(sink.outputs, tmp_path / file) for file in files)
    assert all(output.exists() for output in sink.outputs)
    outputs = list(sink.outputs)
    sink.close()
    sink.abort()
    assert sink.outputs == outputs
    assert _files(tmp_path) == files


@pytest.mark.parametrize("name", SINKS)
def test_nothing_is_written_where_nothing_came(tmp_path: Path, source: Source, name: str) -> None:
    sink = SINKS[name][0](tmp_path, source)
    sink.abort()
    sink.abort()
    assert [file for file in _files(tmp_path) if (tmp_path / file).stat().st_size] == []


@pytest.mark.parametrize("name", SINKS)
def test_results_are_left_as_they_are(tmp_path: Path, source: Source, results: list[FrameResult], name: str) -> None:
    before = [r.frame.pixels.copy() for r in results]
    sink = SINKS[name][0](tmp_path, source)
    for result in results:
        sink.write(result)
    sink.close()
    assert all((r.frame.pixels == b).all() for r, b in zip(results, before, strict=True))


@pytest.mark.parametrize("name", FILES)
def test_a_file_in_the_way_of_the_folder(tmp_path: Path, source: Source, results: list[FrameResult], name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SinkError, match=r"cannot write .*: a file stands where a folder is needed") as caught:
        SINKS[name][0](tmp_path / "file", source).write(results[0])
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"
    assert _files(tmp_path) == ("file",)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that not even root may write")
@pytest.mark.parametrize("name", FILES)
def test_a_folder_that_may_not_be_written(source: Source, results: list[FrameResult], name: str) -> None:
    with pytest.raises(SinkError, match=r"cannot write /sys/.*: the folder is not writable"):
        SINKS[name][0](Path("/sys/yolotrt"), source).write(results[0])


_FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from tests.contract.test_sinks import SINKS
from tests.support.results import frame_result
from yolotrt.errors import SinkError
from yolotrt.sources import open_source
folder = Path(sys.argv[2])
rng = np.random.default_rng(0)
with open_source(sys.argv[3]) as source:
    sink = SINKS[sys.argv[1]][0](folder, source)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    try:
        for i in range(300):
            pixels = rng.integers(0, 255, (480, 640, 3), np.uint8)
            sink.write(frame_result(pixels, sys.argv[3], index=i, timestamp_s=i / 25, boxes=5))
        sink.close()
    except SinkError as e:
        print(e)
    sink.abort()
"""


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
@pytest.mark.parametrize("name", FILES)
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, source: Source, name: str) -> None:
    """A limit on the size of files stands in for a full disk; the writes fail in the same place."""
    run = subprocess.run(
        [sys.executable, "-c", _FULL, name, tmp_path, source.paths[0]],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("cannot write ")
    assert len(run.stdout.splitlines()) == 1
    written = _files(tmp_path)
    if name == "jsonl":  # it grows line by line: whole ones
        assert written == ("a.jsonl",)
        assert all(json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines())
    else:
        assert written == ()


@pytest.mark.parametrize("name", SINKS)
def test_errors_are_of_our_own_kind(tmp_path: Path, source: Source, name: str) -> None:
    """A folder where the file should be: whatever fails is an error that the command line prints as one line."""
    for file in SINKS[name][1]:
        (tmp_path / file).mkdir(parents=True)
    sink: Sink | None = None
    with contextlib.suppress(YolotrtError):
        sink = SINKS[name][0](tmp_path, source)
        for index in range(3):
            sink.write(frame_result(next(iter(source)).pixels, str(source.paths[0]), index=index))
        sink.close()
    if sink is not None:
        sink.abort()
    assert _files(tmp_path) == ()
