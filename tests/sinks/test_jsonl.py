from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.media import picture
from tests.support.results import frame_result
from yolotrt.counting import CountOptions, CountStep
from yolotrt.errors import SinkError, UsageError
from yolotrt.sinks import JsonLinesSink
from yolotrt.sinks.limits import Limit

ROOT = Path(__file__).resolve().parents[2]


def test_one_line_per_frame(tmp_path: Path) -> None:
    target = tmp_path / "deeper" / "out.jsonl"
    sink = JsonLinesSink(target)
    results = [
        frame_result(picture(), "größe.mp4", index=i, timestamp_s=i / 30000 * 1001, boxes=i % 3) for i in range(5)
    ]
    for number, result in enumerate(results, 1):
        sink.write(result)
        assert len(target.read_text("utf-8").splitlines()) == number  # others can follow along
    sink.close()
    sink.close()
    assert sink.outputs == [target]
    for line, result in zip(target.read_text("utf-8").splitlines(), results, strict=True):
        assert json.loads(line) == {
            "source": "größe.mp4",
            "index": result.frame.index,
            "timestamp_s": round(result.frame.timestamp_s, 6),
            **result.detections.to_dict(),
        }


def test_standard_output(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    sink = JsonLinesSink(None)
    sink.write(frame_result(picture()))
    sink.close()
    assert sink.outputs == []
    assert json.loads(capsysbinary.readouterr().out)["source"] == "a.png"


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "out.jsonl")
    name = os.fsdecode(b"gr\xc3\xb6\xc3\x9fe-caf\xe9.png")
    sink.write(frame_result(picture(), name))
    sink.close()
    text = (tmp_path / "out.jsonl").read_text("utf-8")
    assert r"größe-caf\udce9.png" in text
    assert json.loads(text)["source"] == name


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_full_disk() -> None:
    sink = JsonLinesSink(Path("/dev/full"))
    with pytest.raises(SinkError, match=r"cannot write /dev/full: the disk is full"):
        sink.write(frame_result(picture()))
    sink.abort()


def _fill_up(target: Path, *, room: int, append: bool = False) -> None:
    """Write a line to a disk that takes so many bytes in all."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.support.media import picture\n"
        "from tests.support.results import frame_result\n"
        "from yolotrt.errors import SinkError\n"
        "from yolotrt.sinks import JsonLinesSink\n"
        "sink = JsonLinesSink(Path(sys.argv[1]), append=sys.argv[3] == 'True')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try:\n    sink.write(frame_result(picture()))\nexcept SinkError:\n    sys.exit(3)\n"
    )
    arguments = [sys.executable, "-c", code, str(target), str(room), str(append)]
    assert subprocess.run(arguments, cwd=ROOT, check=False).returncode == 3


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the size of files")
def test_a_first_line_that_is_torn_is_taken_back(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_bytes(b'{"source": "older"}\n' * 20)
    _fill_up(target, room=30)
    assert target.read_bytes() == b""
    target.write_bytes(b'{"a": 1}\n{"b')
    _fill_up(target, room=20, append=True)
    assert target.read_bytes() == b'{"a": 1}\n'


def test_folder_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="a file stands where a folder is needed"):
        JsonLinesSink(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="a file stands where a folder is needed"):
        JsonLinesSink(tmp_path / "file" / "out.jsonl")


def _write(sink: JsonLinesSink, *numbers: int) -> None:
    for number in numbers:
        sink.write(frame_result(picture(), "a.mp4", index=number))


def _indices(path: Path) -> list[int]:
    return [json.loads(line)["index"] for line in path.read_text("utf-8").splitlines()]


def test_append(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    for numbers in ((0, 1), (2,)):
        sink = JsonLinesSink(target, append=True)
        _write(sink, *numbers)
        sink.close()
    assert _indices(target) == [0, 1, 2]
    JsonLinesSink(target).close()
    assert target.read_bytes() == b""


@pytest.mark.parametrize(("rest", "kept"), [(b'{"index": 7}', [5, 7]), (b'{"index": 7, "bo', [5]), (b"", [5])])
def test_append_behind_a_line_that_was_torn(tmp_path: Path, rest: bytes, kept: list[int]) -> None:
    target = tmp_path / "out.jsonl"
    target.write_bytes(b'{"index": 5}\n' + rest)
    sink = JsonLinesSink(target, append=True)
    _write(sink, 8)
    sink.close()
    assert _indices(target) == [*kept, 8]


@pytest.mark.parametrize("content", [b"\x89PNG\r\n", b"index,box\n1,2\n", b'{"index": 1}\nnot json\n{"ind', b"[]\n"])
def test_append_to_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "out.jsonl"
    target.write_bytes(content)
    with pytest.raises(UsageError, match="holds something other than JSON lines"):
        JsonLinesSink(target, append=True)
    assert target.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="needs file locks")
def test_a_second_run_on_the_same_file_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    first = JsonLinesSink(target)
    _write(first, 0)
    for append in (True, False):
        with pytest.raises(SinkError, match="another run writes it"):
            JsonLinesSink(target, append=append)
    _write(first, 1)
    first.close()
    assert _indices(target) == [0, 1]
    JsonLinesSink(target, append=True).close()


def test_rotation_by_size(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    sink = JsonLinesSink(target, rotate=Limit(size=400))
    _write(sink, *range(10))
    sink.close()
    assert sink.outputs[-1] == target
    assert sorted(sink.outputs) == sorted(tmp_path.iterdir())
    assert len(sink.outputs) > 2
    assert [i for path in sink.outputs for i in _indices(path)] == list(range(10))
    assert all(path.stat().st_size < 800 for path in sink.outputs)
    assert re.fullmatch(r"out-\d{8}-\d{6}\.jsonl", sink.outputs[0].name)


def test_rotation_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("yolotrt.sinks.jsonl.time.monotonic", lambda: now)
    sink = JsonLinesSink(tmp_path / "out.jsonl", rotate=Limit(seconds=60))
    for number in range(6):
        _write(sink, number)
        now += 25
    sink.close()
    assert [_indices(path) for path in sink.outputs] == [[0, 1, 2, 3], [4, 5]]


def test_rotation_leaves_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "lines.jsonl", tmp_path / "out.jsonl"
    real.parent.mkdir()
    link.symlink_to("real/lines.jsonl")
    sink = JsonLinesSink(link, rotate=Limit(size=400))
    _write(sink, *range(10))
    sink.close()
    assert link.is_symlink()
    assert [i for path in sink.outputs for i in _indices(path)] == list(range(10))
    assert len(list(real.parent.iterdir())) == len(sink.outputs) > 2


def test_a_pipe_cannot_be_rotated(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is a pipe or a device"):
        JsonLinesSink(tmp_path / "pipe", rotate=Limit(size=400))
    assert (tmp_path / "pipe").is_fifo()


def test_counts_and_tracks(tmp_path: Path) -> None:
    result = frame_result(picture())
    tracked = replace(result, detections=replace(result.detections, tracker_id=np.array([4])))
    sink = JsonLinesSink(tmp_path / "out.jsonl")
    sink.write(CountStep(CountOptions(lines={"gate": ((0, 0), (1, 1))}))(tracked))
    sink.close()
    line = json.loads((tmp_path / "out.jsonl").read_text())
    assert line["boxes"][0]["tracker_id"] == 4
    assert line["counts"] == {"lines": {"gate": {"in": {}, "out": {}}}, "zones": {}}
