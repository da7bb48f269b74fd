from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.media import picture
from tests.support.results import frame_result
from yolotrt.errors import SinkError
from yolotrt.sinks import JsonLinesSink


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
    sink.write(frame_result(picture(), os.fsdecode(b"caf\xe9.png")))
    sink.close()
    assert b"caf\xe9.png" in (tmp_path / "out.jsonl").read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_full_disk() -> None:
    sink = JsonLinesSink(Path("/dev/full"))
    with pytest.raises(SinkError, match=r"cannot write /dev/full: the disk is full"):
        sink.write(frame_result(picture()))
    sink.abort()


def test_folder_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="a file stands where a folder is needed"):
        JsonLinesSink(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="a file stands where a folder is needed"):
        JsonLinesSink(tmp_path / "file" / "out.jsonl")
