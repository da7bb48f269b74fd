"""The sinks of a run, from options."""

from __future__ import annotations

import urllib.request
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from tests.support.media import moving_box, picture, write_video
from tests.support.results import frame_result
from yolotrt.errors import SinkError, UsageError
from yolotrt.sinks import JsonLinesOptions, OutputOptions, Outputs
from yolotrt.sinks.limits import Limit
from yolotrt.sources import Source, open_source


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return open_source(write_video(tmp_path / "in" / "v.mp4", moving_box(3)))


def test_everything_at_once(tmp_path: Path, source: Source) -> None:
    options = OutputOptions(
        save=tmp_path / "out",
        crops=tmp_path / "crops",
        jsonl=str(tmp_path / "all.jsonl"),
        coco=tmp_path / "all.json",
        restream="http://:0",
    )
    with Outputs(options, {"s": source}) as outputs:
        own = outputs.of_stream(source, jsonl=str(tmp_path / "own.jsonl"))
        shared = outputs.shared(lambda: None)
        assert len(outputs.addresses) == 1
        assert outputs.addresses[0].startswith("http://127.0.0.1:")
        for frame in source:
            for sink in (*own, *shared):
                sink.write(frame_result(frame.pixels, frame.source_id, index=frame.index))
        for sink in (*own, *shared):
            sink.close()
    written = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    crops = [f"crops/thing/v-00000{i}-0.jpg" for i in range(3)]
    assert written == ["all.images.json", "all.json", "all.jsonl", *crops, "in/v.mp4", "out/v.mp4", "own.jsonl"]


def test_a_stream_may_have_its_own_folders(tmp_path: Path, source: Source) -> None:
    with Outputs(OutputOptions(save=tmp_path / "all"), {"s": source}) as outputs:
        for sink in outputs.of_stream(source, save=tmp_path / "own", crops=tmp_path / "crops"):
            sink.write(frame_result(picture(), str(source.paths[0])))
            sink.close()
    assert (tmp_path / "own" / "v.mp4").exists()
    assert (tmp_path / "crops" / "thing").exists()
    assert not (tmp_path / "all").exists()


def test_nothing_is_left_of_a_run_that_does_not_begin(tmp_path: Path, source: Source) -> None:
    coco = tmp_path / "coco.json"
    coco.write_text("[1]")
    (tmp_path / "file").touch()
    options = OutputOptions(coco=coco, jsonl=str(tmp_path / "file" / "a.jsonl"))
    with Outputs(options, {"s": source}) as outputs, pytest.raises(SinkError, match="a file stands where"):
        outputs.shared(lambda: None)
    assert coco.read_text() == "[1]"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coco.json", "file", "in"]


def test_no_output_takes_the_place_of_an_input(source: Source) -> None:
    path = source.paths[0]
    before = path.read_bytes()
    for options in (OutputOptions(jsonl=str(path)), OutputOptions(coco=path)):
        with Outputs(options, {"s": source}) as outputs, pytest.raises(UsageError, match="is the source itself"):
            outputs.shared(lambda: None)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "url",
    ["8080", "http://host", "http://me:secret@host:1", "ftp://a:1", "http://:99999", "https://:8080", "http://a:1/b"],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError, match="option restream is no address") as caught:
        OutputOptions(restream=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("rtsp://", "option restream has no host"),
        ("rtsps://me:secret@/x", "option restream has no host"),
        ("rtsp://me:secret@host:99999/x", "option restream has an impossible port, got 99999"),
    ],
)
def test_addresses_to_publish_to_that_lead_nowhere(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        OutputOptions(restream=url)
    assert "secret" not in str(caught.value)


def test_combinations_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="need a file"):
        OutputOptions(jsonl="-", lines=JsonLinesOptions(rotate=Limit(size=5)))
    with pytest.raises(UsageError, match="--coco-like takes the ids for --coco"):
        OutputOptions(coco_like=Path("a.json"))


def test_a_folder_of_pictures_is_one_stream(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", picture())[1].tobytes())
    write_video(tmp_path / "v.mp4", moving_box(2))
    with open_source(tmp_path) as source, Outputs(OutputOptions(restream="http://:0"), {"s": source}) as outputs:
        (sink,) = outputs.shared(lambda: None)
        for frame in source:
            result = frame_result(frame.pixels, frame.source_id, index=frame.index)
            sink.write(replace(result, stream="s"))
        with urllib.request.urlopen(outputs.addresses[0], timeout=5) as answer:
            page = answer.read().decode()
    assert page.count("<img") == 2
