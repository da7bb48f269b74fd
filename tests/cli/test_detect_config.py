from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from yolotrt.cli.detect_config import DetectConfig, StreamConfig, load
from yolotrt.counting import CountOptions
from yolotrt.errors import ConfigError, UsageError
from yolotrt.options import DetectOptions
from yolotrt.pipeline import Region
from yolotrt.sources import LiveOptions

_EXAMPLE = Path(__file__).parents[2] / "configs" / "detect.yaml"
_STREAMS = _EXAMPLE.with_name("streams.yaml")


def _yaml(folder: Path, text: str) -> Path:
    path = folder / "detect.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults() -> None:
    assert load(None, {}) == DetectConfig()
    assert load(None, {}).thresholds == DetectOptions()


def test_the_example_names_every_option_with_its_default() -> None:
    assert load(_EXAMPLE, {}) == DetectConfig()
    assert list(yaml.safe_load(_EXAMPLE.read_text("utf-8"))) == [f.name for f in dataclasses.fields(DetectConfig)]


def test_the_example_of_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_PASSWORD", "s3cret")
    options = load(_STREAMS, {})
    gate, yard, webcam, video = options.streams
    assert gate == StreamConfig(
        url="rtsp://viewer:s3cret@192.0.2.10/stream1",
        name="gate",
        fps=5,
        roi=Region(x1=0, y1=0.5, x2=1, y2=1),
        classes=("person", "car"),
        conf=0.4,
        save=Path("recordings/gate"),
        crops=Path("crops/gate"),
        counting=CountOptions(
            lines={"entrance": ((0.1, 0.8), (0.9, 0.8))},
            zones={"parking": ((0.5, 0.6), (1.0, 0.6), (1.0, 1.0), (0.5, 1.0))},
        ),
    )
    assert (yard.name, yard.jsonl, webcam.url, video.url) == ("yard", "yard.jsonl", 0, "assets/demo/sample.mp4")
    assert options.jsonl == "boxes.jsonl"
    assert options.live == LiveOptions(read_timeout_s=3)
    assert "s3cret" not in repr(options)
    named = {f.name for f in dataclasses.fields(StreamConfig)}
    given = {
        key
        for stream in yaml.safe_load(_STREAMS.read_text("utf-8"))["streams"]
        if isinstance(stream, dict)
        for key in stream
    }
    assert named - given == {"stride"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("streams: rtsp://me:s3cret@camera", "key 'streams' has a value of the wrong type, expected a list of streams"),
        ("streams: [[rtsp://me:s3cret@camera]]", "stream 1: key 'url' has a value of the wrong type, expected text"),
        (
            "streams: [{url: 0}, {url: 1, colour: red}]",
            "stream 2: unknown key 'colour', expected one of url, name, fps",
        ),
        ("streams: [{name: gate}]", "stream 1: no url"),
        ("streams: [{'rtsp://me:s3cret@camera': {fps: 5}}]", "stream 1: unknown key 'rtsp://camera'"),
        ("'rtsp://me:s3cret@camera': {fps: 5}", "unknown key 'rtsp://camera'"),
        ("streams: [{url: 0, fps: fast}]", "stream 1: key 'fps' has a value of the wrong type, got 'fast'"),
        ("streams: [{url: 0, save: ''}]", "stream 1: key 'save' is empty"),
        ("streams: [{url: 0, conf: 2}]", "option conf is out of range, got 2"),
        ("streams: [{url: 0, stride: 0}]", "option stride is out of range, got 0"),
        ("streams: [{url: 0, roi: [0, 0, 1]}]", "no rectangle"),
        ("streams: [{url: 0, roi: [0, 0, 1, x]}]", "no rectangle"),
        ("streams: [{url: 0}, {url: 0, fps: .nan}]", r"detect\.yaml: stream 2: option fps is out of range, got nan"),
        ("streams: [{url: 0, roi: [0, 0, 2, 1]}]", r"detect\.yaml: stream 1: a region of interest is out of range"),
        ("streams: [{url: 0, fps: 'rtsp://me:s3cret@camera'}]", "stream 1: key 'fps' has a value of the wrong type"),
        ("streams: [{url: 0, name: 'rtsp://me:s3cret@camera'}]", "stream 1: its name holds a password"),
        ("streams: [{url: 0, jsonl: 'rtsp://me:s3cret@camera'}]", "stream 1: option jsonl is an address"),
        ("metrics: 'http://me:s3cret@127.0.0.1:1'", "option metrics is no port"),
        ("streams: ['rtsp://me:${NOT_SET_ANYWHERE}@camera']", "the environment variable NOT_SET_ANYWHERE is not set"),
        ("streams:\n  - url: 'rtsp://me:s3cret@camera\n", "not valid YAML \\(line 3: found unexpected end"),
    ],
)
def test_bad_streams(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(_yaml(tmp_path, text), {})
    assert "s3cret" not in str(caught.value)


def test_environment_variables_in_any_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PLACE", "gate"), ("PUSH_PASSWORD", "s3cret"), ("KIND", "car"), ("ANCHOR", "center")):
        monkeypatch.setenv(name, value)
    text = """
        restream: rtsp://me:${PUSH_PASSWORD}@host/live
        save: out/${PLACE}
        classes: ["${KIND}", 2]
        counting: {lines: {a: [[0, 0], [1, 1]]}, anchor: "${ANCHOR}"}
        streams: [{url: 0, name: "${PLACE}-1", crops: "crops/${PLACE}", jsonl: "${PLACE}.jsonl"}]
    """
    options = load(_yaml(tmp_path, text), {"model": "${PLACE}.onnx"})
    assert options.restream == "rtsp://me:s3cret@host/live"
    assert (options.save, options.classes) == (Path("out/gate"), ("car", 2))
    assert options.counting == CountOptions(lines={"a": ((0, 0), (1, 1))}, anchor="center")
    stream = options.streams[0]
    assert (stream.name, stream.crops, stream.jsonl) == ("gate-1", Path("crops/gate"), "gate.jsonl")
    assert options.model == "${PLACE}.onnx", "a shell has done that for the command line"
    assert "s3cret" not in repr(options)


@pytest.mark.parametrize(
    "text", ["restream: 'rtsp://me:${NOT_SET_ANYWHERE}@host/live'", "classes: [car, '${NOT_SET_ANYWHERE}']"]
)
def test_an_environment_variable_that_is_not_set(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"detect\.yaml: the environment variable NOT_SET_ANYWHERE is not set"):
        load(_yaml(tmp_path, text), {})


def test_no_error_shows_a_password_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSH_PASSWORD", "s3cret")
    for text in ("restream: 'ftp://me:${PUSH_PASSWORD}@host/live'", "conf: '${PUSH_PASSWORD}'"):
        with pytest.raises(UsageError) as caught:
            _ = load(_yaml(tmp_path, text), {}).outputs
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("key", ["model", "save", "jsonl", "coco", "coco_like", "crops"])
def test_an_empty_path_is_not_the_current_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"key '{key}' is empty"):
        load(_yaml(tmp_path, f"{key}: ''"), {})


def test_a_region_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="region of interest is out of range"):
        load(_yaml(tmp_path, "streams: [{url: 0, roi: [0, 0, 640, 480]}]"), {})


def test_the_command_line_wins(tmp_path: Path) -> None:
    path = _yaml(tmp_path, "conf: 0.5\niou: 1\nsave: out\nstrict: true\nclasses: [car, 2]\n")
    options = load(path, {"conf": 0.1, "iou": None, "classes": None, "strict": None})
    assert options == DetectConfig(conf=0.1, iou=1, save=Path("out"), strict=True, classes=("car", 2))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0,2", ("0", "2")),
        ("person, traffic light", ("person", "traffic light")),
        ([0, "car"], (0, "car")),
        (3, ("3",)),
    ],
)
def test_classes(value: object, expected: tuple[object, ...]) -> None:
    assert load(None, {"classes": value}).classes == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clases: 0", "unknown key 'clases', expected one of streams, model, .* Did you mean 'classes'"),
        ("conf: high", "key 'conf' has a value of the wrong type, got 'high', expected a number"),
        ("conf: true", "expected a number"),
        ("max_det: 1.5", "expected a whole number"),
        ("strict: 1", "expected true or false"),
        ("strict: null", "expected true or false"),
        ("save: 3", "expected a path"),
        ("model: [a]", "expected text"),
        ("classes: 1.5", "expected a list of class names or ids"),
        ("- conf", "not a mapping, got list"),
        ("conf: [", "not valid YAML"),
        ("conf: '\x01'", "not valid YAML \\(it holds characters that no text has"),
        ("model: 2024-13-45", "not valid YAML \\(it holds a date or a number that there is not"),
        ("conf: 0x_", "not valid YAML \\(it holds a date or a number that there is not"),
        ("metrics: true", "expected text"),
        ("conf: 0.3\niou: 0.5\nconf: 0.4", "not valid YAML \\(line 3: a key is there twice"),
        ("streams: [{url: 0, fps: 1, fps: 2}]", "not valid YAML \\(line 1: a key is there twice"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(_yaml(tmp_path, text), {})
    assert "\n" not in str(caught.value)


def test_yaml_that_repeats_itself_on_purpose(tmp_path: Path) -> None:
    text = "streams: [&a {url: a.mp4, fps: 1}, &b {<<: *a, fps: 2}, {<<: *b, url: c.mp4}]"
    assert [(s.url, s.fps) for s in load(_yaml(tmp_path, text), {}).streams] == [
        ("a.mp4", 1),
        ("a.mp4", 2),
        ("c.mp4", 2),
    ]


def test_a_port_is_a_number(tmp_path: Path) -> None:
    assert load(_yaml(tmp_path, "metrics: 9100"), {}).metrics == "9100"


def test_empty_missing_and_no_text(tmp_path: Path) -> None:
    assert load(_yaml(tmp_path, "# nothing\n"), {}) == DetectConfig()
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load(tmp_path / "none.yaml", {})
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(tmp_path / "binary.yaml", {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"json": True, "jsonl": "-"}, "both claim standard output"),
        ({"classes": "car,,bus"}, "classes is empty"),
        ({"classes": ""}, "classes is empty"),
        ({"stride": 0}, "option stride is out of range, got 0"),
        ({"fps": 0.0}, "option fps is out of range, got 0"),
        ({"fps": 1e308}, r"option fps is out of range, got 1e\+308, expected a number above 0, at most 1000000"),
        ({"fps": float("nan")}, "option fps is out of range, got nan"),
        ({"metrics": "here"}, "option metrics is no port, got 'here'"),
        ({"track": "sort"}, "option track is unknown, got sort"),
        (
            {"save": "rtsp://me:s3cret@host/x"},
            "^option save is an address, expected a file or a folder. --restream pub",
        ),
        ({"model": "rtsp://me:s3cret@host/x"}, "^option model is an address, expected a file or a folder$"),
    ],
)
def test_bad_combinations(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(None, given)


@pytest.mark.parametrize("given", [{"conf": 1.5}, {"iou": -0.1}, {"max_det": 0}])
def test_out_of_range(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="out of range"):
        _ = load(None, given).thresholds
