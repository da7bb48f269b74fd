"""Two streams of one source: each has a place of its own in everything that the run gives out."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from tests.support.command_line import CommandLine
from tests.support.media import moving_box, picture, write_video
from tests.support.results import frame_result
from tests.support.tiny_models import tiny_yolo
from yolotrt.cli import detect_config, detect_streams
from yolotrt.errors import ConfigError
from yolotrt.sinks import OutputOptions, Outputs
from yolotrt.sources import Source, open_source


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_yolo(tmp_path / "tiny.onnx")
    write_video(tmp_path / "video.mp4", moving_box(4))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def _names(streams: str, *named: str) -> Iterator[list[tuple[str, str]]]:
    """The names of the streams and of their sources."""
    Path("streams.yaml").write_text(f"streams: {streams}\n")
    with contextlib.ExitStack() as stack:
        opened = detect_streams.open_all(named, detect_config.load(Path("streams.yaml"), {}), stack)
        yield [(o.name, o.source.info.name) for o in opened]


@pytest.mark.usefixtures("work")
def test_cameras_carry_the_name_of_their_stream() -> None:
    address = "rtsp://127.0.0.1:9/1"
    with _names(f"[{address}, {{url: {address}, name: gate}}, {{url: 0, name: gate}}]", address, address) as names:
        assert names == [(n, n) for n in (address, f"{address}-2", f"{address}-3", "gate", "gate-2")]


@pytest.mark.usefixtures("work")
def test_files_keep_theirs() -> None:
    with _names("[video.mp4, {url: video.mp4, name: gate}]", "video.mp4") as names:
        assert names == [("video.mp4", "video.mp4"), ("video.mp4-2", "video.mp4"), ("gate", "video.mp4")]


@pytest.mark.usefixtures("work")
def test_a_list_of_cameras_among_the_streams_is_a_stream_for_each() -> None:
    Path("list.txt").write_text("rtsp://127.0.0.1:9/1\nvideo.mp4\n0\n")
    Path("files.txt").write_text("video.mp4\nvideo.mp4\n")
    with _names("[{url: list.txt, fps: 1}, {url: files.txt, name: both}]") as names:
        assert [name for name, _ in names] == ["rtsp://127.0.0.1:9/1", "video.mp4", "webcam-0", "both"]
    Path("outer.txt").write_text("list.txt\n0\n")
    with pytest.raises(ConfigError, match=r"outer\.txt: it names the list .*list\.txt"), _names("[outer.txt]"):
        pass
    for key in ("name", "jsonl"):
        with (
            pytest.raises(ConfigError, match=f"list.txt: its 3 sources cannot share the key '{key}'. Leave it out"),
            _names(f"[{{url: list.txt, {key}: gate}}]"),
        ):
            pass


@pytest.mark.usefixtures("work")
def test_files_of_cameras_of_one_make_are_told_apart() -> None:
    lines = (
        "[rtsp://127.0.0.1:9/Streaming/101, rtsp://127.0.0.2:9/Streaming/101, rtsp://127.0.0.3:9/,"
        " rtsp://127.0.0.4:9/yard, {url: rtsp://127.0.0.5:9/101, name: gate}, video.mp4]"
    )
    Path("streams.yaml").write_text(f"streams: {lines}\n")
    with contextlib.ExitStack() as stack:
        opened = detect_streams.open_all((), detect_config.load(Path("streams.yaml"), {}), stack)
        assert detect_streams.file_names(opened) == [
            "127.0.0.1:9/Streaming/101",
            "127.0.0.2:9/Streaming/101",
            "127.0.0.3:9",
            None,
            "gate",
            None,
        ]


def test_lines_and_pictures_of_one_file(
    work: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = CommandLine(monkeypatch, capfd)
    (work / "streams.yaml").write_text("streams: [{url: video.mp4, name: gate, stride: 2}, video.mp4]\n")
    model = ("--model", "tiny.onnx", "--backend", "onnxruntime")
    found = run("detect", *model, "--config", "streams.yaml", "--jsonl", "a.jsonl", "--coco", "a.json")
    assert found.code == 0, found.err
    lines = [json.loads(line) for line in (work / "a.jsonl").read_text().splitlines()]
    images = json.loads((work / "a.images.json").read_text())["images"]
    for rows, index in ((lines, "index"), (images, "frame")):
        places = sorted((row["stream"], row[index]) for row in rows)
        assert places == [("gate", 0), ("gate", 2), *(("video.mp4", i) for i in range(4))]
    # Where every stream is called as its source, there is nothing to add.
    assert run("detect", *model, "video.mp4", "--jsonl", "a.jsonl").code == 0
    assert "stream" not in json.loads((work / "a.jsonl").read_text().splitlines()[0])


def _shown(sources: Mapping[str, Source]) -> list[str]:
    """What the page of `--restream` shows: the captions of its pictures."""
    with Outputs(OutputOptions(restream="http://:0"), sources) as outputs:
        (sink,) = outputs.shared(lambda: None)
        for stream, source in sources.items():
            for frame in source:
                result = frame_result(frame.pixels, frame.source_id, index=frame.index)
                sink.write(replace(result, stream=stream))
        with urllib.request.urlopen(outputs.addresses[0], timeout=5) as answer:
            page = answer.read().decode()
    return [part.partition("<")[0] for part in page.split("<figcaption>")[1:]]


def test_streams_of_one_file_are_shown_side_by_side(work: Path) -> None:
    video = str(work / "video.mp4")
    cv2.imwrite(str(work / "1.png"), picture())
    both = [video, str(work / "1.png")]
    sources = {
        "gate": open_source(video),
        "gate-2": open_source(video),
        "2 sources": open_source(both),
        "3": open_source(both),
    }
    assert _shown(sources) == ["gate", "gate-2", video, "2 sources", f"{video}-2", "3"]


def test_a_reader_of_standard_error_that_goes_away_costs_nothing(work: Path) -> None:
    """As in `2>&1 >lines | head -n 1`: neither the lines on standard output nor the end of the run."""
    Path("streams.yaml").write_text("streams: [video.mp4, {url: video.mp4, name: other}, 'http://127.0.0.1:1/none']\n")
    command = [sys.executable, "-m", "yolotrt", "detect", "--config", "streams.yaml", "--model", "tiny.onnx"]
    with subprocess.Popen(
        [*command, "--retries", "0", "--jsonl", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline().startswith("Model: ")
        process.stderr.close()
        lines = [json.loads(line) for line in process.stdout]
    assert sorted(line["stream"] for line in lines) == ["other"] * 4 + ["video.mp4"] * 4
    assert process.returncode == 1
