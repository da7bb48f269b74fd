"""The options of `yolotrt export`, from the command line and from a YAML file. The command line wins."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from yolotrt.cli.config_file import read_config
from yolotrt.errors import ConfigError, UsageError
from yolotrt.model_spec import BatchRange
from yolotrt.options import ExportOptions, PlanOptions, check_keys

_NAMES_FILES = (".txt", ".names", ".yaml", ".yml")


def load(path: Path | None, given: Mapping[str, Any], plan: Mapping[str, Any]) -> ExportOptions:
    """Merge a YAML file and the command line.

    Args:
        path: the YAML file, or None.
        given: fields of `ExportOptions` as text, numbers or lists; None where an option was not given.
        plan: fields of `PlanOptions` in the same way.

    Raises:
        ConfigError: the file is no YAML mapping, or has unknown keys or bad values.
        UsageError: a value that an option does not take.
    """
    options: dict[str, Any] = {}
    plan_options: dict[str, Any] = {}
    if path is not None:
        data = read_config(path)
        check_keys(ExportOptions, data, where=str(path))
        nested = data.pop("plan", None) or {}
        if not isinstance(nested, dict):
            raise ConfigError(f"{path}: key 'plan' is not a mapping", got=type(nested).__name__)
        check_keys(PlanOptions, nested, where=f"{path}: plan")
        try:
            options, plan_options = _parse(data, _FIELDS), _parse(nested, _PLAN_FIELDS)
        except UsageError as e:
            raise ConfigError(f"{path}: {e.what}", got=e.got, expected=e.expected, remedy=e.remedy) from e
    options |= _parse(given, _FIELDS)
    plan_options |= _parse(plan, _PLAN_FIELDS)
    return ExportOptions(**options, plan=PlanOptions(**plan_options))


def _parse(values: Mapping[str, Any], fields: Mapping[str, Callable[[str, Any], Any]]) -> dict[str, Any]:
    return {key: fields[key](key, value) for key, value in values.items() if value is not None}


def _imgsz(name: str, value: Any) -> tuple[int, int]:
    parts = value if isinstance(value, list | tuple) else str(value).replace("x", ",").split(",")
    sides = [_whole(p) for p in parts]
    if len(sides) not in (1, 2) or any(s is None or s < 1 for s in sides):
        raise UsageError(f"option {name} is no size", got=repr(value), expected="N, or HEIGHTxWIDTH as 384x640")
    return sides[0] or 0, sides[-1] or 0


def _batch(name: str, value: Any) -> BatchRange:
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    sizes = [_whole(p) for p in parts]
    numbers = [s for s in sizes if s is not None]
    expected = "N, or MIN,OPT,MAX with 1 <= MIN <= OPT <= MAX"
    if len(numbers) != len(sizes) or len(sizes) not in (1, 3):
        raise UsageError(f"option {name} is no batch size", got=repr(value), expected=expected)
    low, usual, high = numbers if len(numbers) == 3 else numbers * 3
    try:
        return BatchRange(min=low, opt=usual, max=high)
    except ValueError:
        raise UsageError(f"option {name} is out of range", got=repr(value), expected=expected) from None


def _precision(name: str, value: Any) -> str:
    return _text(name, value).lower()


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):  # as data sets write them: {0: person, 1: car}
        if not all(isinstance(key, int) for key in value):
            raise UsageError(f"option {name} has class ids that are no whole numbers", got=repr(list(value)))
        value = [value[key] for key in sorted(value)]
    if isinstance(value, list | tuple):
        names = [str(v).strip() for v in value]
    # Path.is_file raises for a long list. Nobody calls a class "coco.txt": that is a file which is not there.
    elif isinstance(value, str) and (os.path.isfile(value) or value.endswith(_NAMES_FILES)):  # noqa: PTH113
        names = _names_from(Path(value))
    else:
        names = [n.strip() for n in _text(name, value).split(",")]
    if not names or "" in names:
        raise UsageError(
            f"option {name} holds an empty name", got=repr(value), expected="NAME,NAME,... or a file with one per line"
        )
    return tuple(names)


def _names_from(path: Path) -> list[str]:
    """Names from a file: one per line, or the `names` of a data set's YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise UsageError(f"{path}: no class names can be read from it: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"{path}: no class names can be read from it: not a text file") from e
    if path.suffix not in (".yaml", ".yml"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    import yaml

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise UsageError(f"{path}: not valid YAML ({e})") from e
    names = data.get("names") if isinstance(data, dict) else data
    if not isinstance(names, dict | list):
        raise UsageError(f"{path}: no class names can be read from it", expected="names: [NAME, ...]")
    return list(_names("names", names))


def _number(name: str, value: Any) -> int:
    number = _whole(value)
    if number is None:
        raise UsageError(f"option {name} is not a whole number", got=repr(value))
    return number


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"option {name} is not a number", got=repr(value))
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"option {name} is not true or false", got=repr(value))
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"option {name} is not text", got=repr(value))
    return value


def _path(name: str, value: Any) -> Path:
    if value == "":  # it would be the current folder
        raise UsageError(f"option {name} is empty", expected="a path")
    return value if isinstance(value, Path) else Path(_text(name, value))


def _capabilities(name: str, value: Any) -> tuple[str, ...]:
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    found = tuple(str(p).strip() for p in parts)
    if any(not re.fullmatch(r"\d+\.\d", c) for c in found):
        raise UsageError(f"option {name} is no list of compute capabilities", got=repr(value), expected="8.6,8.9")
    return found


def _whole(value: Any) -> int | None:
    if isinstance(value, bool | float):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "imgsz": _imgsz,
    "batch": _batch,
    "precision": _precision,
    "target": _text,
    "names": _names,
    "output": _path,
    "images": _path,
    "opset": _number,
    "data": _path,
    "calib": _path,
    "calib_pictures": _number,
    "calib_few": _flag,
    "max_drop": _share,
    "head": _text,
    "fp16_input": _flag,
    "trust": _flag,
    "force": _flag,
}
_PLAN_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "workspace_mib": _number,
    "optimization_level": _number,
    "timing_cache": _path,
    "version_compatible": _flag,
    "hardware_compatible": _flag,
    "compute_capability": _capabilities,
    "refittable": _flag,
    "strip": _flag,
}
assert set(_FIELDS) | {"plan"} == {f.name for f in dataclasses.fields(ExportOptions)}
assert set(_PLAN_FIELDS) == {f.name for f in dataclasses.fields(PlanOptions)}
