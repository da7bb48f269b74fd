from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from yolotrt.cli.detect_config import DetectConfig, load
from yolotrt.errors import ConfigError, UsageError
from yolotrt.options import DetectOptions

_EXAMPLE = Path(__file__).parents[2] / "configs" / "detect.yaml"


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
        ("conf: '\x01'", "not valid YAML"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(_yaml(tmp_path, text), {})
    assert "\n" not in str(caught.value)


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
    ],
)
def test_bad_combinations(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(None, given)


@pytest.mark.parametrize("given", [{"conf": 1.5}, {"iou": -0.1}, {"max_det": 0}])
def test_out_of_range(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="out of range"):
        _ = load(None, given).thresholds
