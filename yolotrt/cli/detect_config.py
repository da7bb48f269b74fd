"""The options of `yolotrt detect`, from the command line and from a YAML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolotrt.cli.config_file import read_config
from yolotrt.errors import ConfigError, UsageError
from yolotrt.options import DetectOptions, check_keys


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """Every option of the command; the YAML file has these keys.

    Attributes:
        model: a file, a bundle, or None for the bundle exported last, else the demo model.
        conf, iou, max_det, agnostic: as in `DetectOptions`.
        classes: class ids or names to keep; None keeps all.
        device, backend, strict, trust: as in `Detector`.
        save: folder for annotated copies.
        jsonl: file for one JSON object per frame; `-` is standard output.
        json: print the summary as one JSON object on standard output.
    """

    model: str | None = None
    conf: float = DetectOptions.conf
    iou: float = DetectOptions.iou
    max_det: int = DetectOptions.max_det
    classes: tuple[int | str, ...] | None = None
    agnostic: bool = DetectOptions.agnostic
    device: str = "auto"
    backend: str = "auto"
    strict: bool = False
    trust: bool = False
    save: Path | None = None
    jsonl: str | None = None
    json: bool = False

    def __post_init__(self) -> None:
        if self.json and self.jsonl == "-":
            raise UsageError(
                "--json and --jsonl - both claim standard output", remedy="Give --jsonl a file, or leave one out."
            )

    @property
    def thresholds(self) -> DetectOptions:
        """The options of the decoding, without `classes`, whose names only the model can resolve."""
        return DetectOptions(conf=self.conf, iou=self.iou, max_det=self.max_det, agnostic=self.agnostic)


def load(path: Path | None, given: Mapping[str, Any]) -> DetectConfig:
    """Merge a YAML file and the command line, which wins. Values of None in `given` were not given.

    Raises ConfigError for a file that is no YAML mapping, or has unknown keys or values of the wrong type.
    """
    values = _from_yaml(path) if path is not None else {}
    values |= {key: value for key, value in given.items() if value is not None}
    if "classes" in values:
        values["classes"] = _classes(values["classes"])
    if values.get("save") is not None:
        values["save"] = Path(values["save"])
    return DetectConfig(**values)


def _from_yaml(path: Path) -> dict[str, Any]:
    data = read_config(path)
    check_keys(DetectConfig, data, where=str(path))
    for key, value in data.items():
        _check_type(path, key, value)
    return {key: value for key, value in data.items() if value is not None}


# By the annotation of the field. bool is an int to Python, yet no number to a reader of YAML.
_ACCEPTED: dict[str, tuple[tuple[type, ...], str]] = {
    "float": ((int, float), "a number"),
    "int": ((int,), "a whole number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "text"),
    "Path": ((str,), "a path"),
    "tuple[int | str, ...]": ((list, str, int), "a list of class names or ids"),
}


def _check_type(path: Path, key: str, value: object) -> None:
    field = next(f for f in dataclasses.fields(DetectConfig) if f.name == key)
    types, expected = _ACCEPTED[str(field.type).removesuffix(" | None")]
    optional = str(field.type).endswith("| None")
    if value is None and optional:
        return
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ConfigError(f"{path}: key {key!r} has a value of the wrong type", got=repr(value), expected=expected)


def _classes(value: object) -> tuple[int | str, ...] | None:
    """Class ids or names: "0,2", "person, traffic light", or a list."""
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    cleaned = tuple(item if isinstance(item, int) else str(item).strip() for item in items)
    if not cleaned or "" in cleaned:
        raise UsageError("option classes is empty", got=repr(value), expected="ids or names, comma separated")
    return cleaned
