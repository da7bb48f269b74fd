"""Data sets as Ultralytics keeps them: a data.yaml, folders of pictures, and a text file of labels per picture."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yolotrt.errors import DatasetError
from yolotrt.evaluation.labels import Dataset, Labels, Sample
from yolotrt.sources.images import SUFFIXES

# Labels may leave the picture by as much as Ultralytics lets them.
_TOLERANCE = 0.01
_SHOWN = 80  # letters of a name in an error
_NO_LISTS = frozenset({".json", ".yaml", ".yml"})


def read_yolo(data: Path, split: str) -> Dataset:
    """Read a data.yaml (or the folder that holds one) and the labels of one split.

    Raises:
        DatasetError: as in `open_dataset`.
    """
    path = yaml_of(data)
    content = _load(path)
    names = _names(content, path)
    pictures = _pictures(content, path, split)
    keypoints = _keypoint_columns(content, path)
    samples, duplicates, missing = [], 0, 0
    for picture in pictures:
        labels = label_path(picture)
        rows, again = _read_labels(labels, len(names), keypoints)
        duplicates += again
        missing += not labels.is_file()
        samples.append(Sample(path=picture, boxes=_as_labels(rows)))
    if missing == len(pictures):
        raise DatasetError(
            f"{path}: none of the {len(pictures)} pictures of split {split!r} has a label file",
            expected=f"for example {label_path(pictures[0])}",
        )
    notes = [f"labels that stand there twice, counted once: {duplicates}"] if duplicates else []
    notes += [f"pictures without a label file, taken as background: {missing}"] if missing else []
    return Dataset(name=str(path), split=split, names=names, samples=tuple(samples), notes=tuple(notes))


def split_pictures(data: Path, split: str) -> list[Path]:
    """The pictures of one split, whether they have labels or not.

    Args:
        data: a data.yaml or the folder that holds one.
        split: `train`, `val` or `test`.

    Raises:
        DatasetError: not readable, not a data set, no such split, or no pictures in it.
    """
    path = yaml_of(data)
    return _pictures(_load(path), path, split)


def yaml_of(data: Path) -> Path:
    """The data.yaml itself. Raises DatasetError where a folder does not hold exactly one."""
    return _yaml_in(data) if data.is_dir() else data


def label_path(picture: Path) -> Path:
    """Where the labels of a picture are: the last folder `images` of its path becomes `labels`, its suffix `.txt`."""
    parts = list(picture.with_suffix(".txt").parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts)


def _yaml_in(folder: Path) -> Path:
    found = sorted(p for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
    if len(found) != 1:
        raise DatasetError(f"{folder}: not a data set", got=f"a folder with {len(found)} YAML files", expected="one")
    return found[0]


def _load(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise DatasetError(f"{path}: cannot read the data set: {e.strerror or e}") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise DatasetError(f"{path}: not valid YAML ({e})", expected="a data.yaml or a COCO .json file") from e
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: not a data set", got=type(content).__name__, expected="train, val and names")
    return content


def _names(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, dict):
        numbered = {int(k) if isinstance(k, str) and k.isdecimal() else k: n for k, n in names.items()}
        if sorted(numbered, key=str) != sorted(range(len(names)), key=str):
            raise DatasetError(f"{path}: names are not numbered 0, 1, 2, ...", got=", ".join(map(str, names))[:80])
        names = [numbered[i] for i in range(len(names))]
    if names is None and isinstance(count, int) and not isinstance(count, bool):
        names = [str(i) for i in range(count)]
    if not isinstance(names, list) or not names:
        raise DatasetError(f"{path}: no class names", got=repr(names)[:80], expected="names as a list or a mapping")
    if count is not None and count != len(names):
        raise DatasetError(f"{path}: nc and names disagree", got=f"nc {count} and {len(names)} names")
    return tuple(map(str, names))


def _pictures(content: Mapping[str, Any], path: Path, split: str) -> list[Path]:
    value = content.get(split)
    if value is None and split == "val":
        value = content.get("validation")
    listed = value if isinstance(value, list) else [value]
    places = [p for p in listed if isinstance(p, str) and p]
    if not places or len(places) < len(listed):
        named = [k for k in ("train", "val", "test") if content.get(k)]
        raise DatasetError(
            f"{path}: no split {split!r}",
            got=f"splits {', '.join(named)}" if named else "no split at all",
            expected=f"{split}: a folder, a .txt list, or a list of these",
        )
    root = _root(content, path)
    found = sorted({picture for place in places for picture in pictures_at(_place(root, place, path), root)})
    if not found:
        raise DatasetError(f"{path}: no pictures in split {split!r}", got=", ".join(places)[:_SHOWN])
    return found


def _root(content: Mapping[str, Any], path: Path) -> Path:
    """The folder that the splits are relative to."""
    named = content.get("path")
    if not named:
        return path.parent
    with _reached(path, str(named)):
        root = Path(str(named)).expanduser()
        # Where Ultralytics keeps data sets by default comes last.
        places = [path.parent / root, root, Path("datasets") / root, Path("..", "datasets") / root]
        for place in places:
            if place.is_dir():
                return place
        where = places[0].resolve()  # as it is written, it may be the very name that was got
    raise DatasetError(
        f"{path}: path names a folder that is not there", got=str(named)[:_SHOWN], expected=f"a folder {where}"
    )


def _place(root: Path, name: str, path: Path) -> Path:
    places = [root / name]
    if name.startswith("../"):  # as Roboflow writes them: one level too many
        places.append(root / name[3:])
    with _reached(path, name):
        for place in places:
            if place.exists():
                return place
        where = places[0].resolve()  # as it is written, it may be the very name that was got
    raise DatasetError(
        f"{path}: names pictures that are not there",
        got=name[:_SHOWN],
        expected=f"a folder or a list of pictures at {where}",
    )


@contextlib.contextmanager
def _reached(path: Path, name: str) -> Iterator[None]:
    """Turn what a look at a name raises into a DatasetError: too long, with a NUL in it, the home of nobody."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as e:
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise DatasetError(f"{path}: names a place that cannot be reached: {reason}", got=repr(name[:_SHOWN])) from e


def pictures_at(place: Path, root: Path) -> Iterator[Path]:
    """The pictures of a folder and all below it, of a text file that lists them, or the one picture itself.

    Those of a list need not exist. Raises DatasetError for a list that is not text, or holds something else.

    Args:
        place: exists.
        root: folder that a list's relative names are looked for in as well.
    """
    if place.is_dir():
        for folder, _, files in os.walk(place, followlinks=True):
            for name in files:
                if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                    yield Path(folder, name)
    elif place.suffix.lower() in SUFFIXES:
        yield place
    else:
        yield from _listed(place, root)


def _listed(listing: Path, root: Path) -> Iterator[Path]:
    if listing.suffix.lower() in _NO_LISTS:
        raise DatasetError(f"{listing}: not a list of pictures", expected="a text file with a picture's path per line")
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DatasetError(f"{listing}: not a list of pictures ({e})") from e
    here = listing.parent
    for line in filter(None, map(str.strip, lines)):
        # Ultralytics: `./` means beside the list; anything else is taken from the working folder.
        places = [here / line] if line.startswith("./") else [Path(line), root / line, here / line]
        with _reached(listing, line):
            found = next((p for p in places if p.is_file()), None)
        if found is None and (places[0].suffix.lower() not in SUFFIXES or "\0" in line):
            raise DatasetError(
                f"{listing}: not a list of pictures", got=repr(line[:_SHOWN]), expected="a picture's path on each line"
            )
        yield found or places[0]


def _keypoint_columns(content: Mapping[str, Any], path: Path) -> int:
    """How many columns of keypoints follow the box in the labels of a pose data set."""
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(v, int) for v in shape):
        raise DatasetError(f"{path}: kpt_shape is not a pair of numbers", got=repr(shape)[:80])
    return int(shape[0]) * int(shape[1])


def _read_labels(path: Path, nc: int, keypoints: int) -> tuple[list[tuple[float, ...]], int]:
    """Rows of class, x1, y1, x2, y2 (shares of the picture), and how many stood there twice."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return [], 0
    except (OSError, UnicodeDecodeError) as e:
        raise DatasetError(f"{path}: cannot read the labels: {e}") from e
    rows: dict[tuple[str, ...], tuple[float, ...]] = {}
    duplicates = 0
    for number, line in enumerate(text.splitlines(), 1):
        columns = tuple(line.split())
        if columns:
            duplicates += columns in rows
            rows[columns] = _row(columns, nc, keypoints, f"{path}:{number}")
    return list(rows.values()), duplicates


def _row(columns: tuple[str, ...], nc: int, keypoints: int, where: str) -> tuple[float, ...]:
    """One line of a label file: a box, a box with keypoints, or an outline."""
    try:
        values = [float(c) for c in columns]
    except ValueError:
        raise DatasetError(f"{where}: not a label", got=repr(" ".join(columns))[:80], expected="numbers") from None
    if keypoints and len(values) == 5 + keypoints:
        values = values[:5]
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise DatasetError(
            f"{where}: a label of {len(values)} columns",
            expected="class cx cy w h, or a class and the corners of an outline",
        )
    class_id, points = values[0], values[1:]
    if not class_id.is_integer() or class_id < 0:
        raise DatasetError(f"{where}: not a class number", got=columns[0])
    if class_id >= nc:
        raise DatasetError(f"{where}: a class that has no name", got=int(class_id), expected=f"0 to {nc - 1}")
    if not all(math.isfinite(v) and -_TOLERANCE <= v <= 1 + _TOLERANCE for v in points):
        raise DatasetError(
            f"{where}: a label outside the picture",
            got=" ".join(columns[1:5]),
            expected="shares of its width and height, 0 to 1",
        )
    if len(points) > 4:
        return class_id, min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
    cx, cy, w, h = points
    if w < 0 or h < 0:
        raise DatasetError(f"{where}: a box of negative size", got=f"{w} {h}")
    return class_id, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def _as_labels(rows: list[tuple[float, ...]]) -> Labels:
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return Labels(
        xyxy=table[:, 1:],
        class_id=table[:, 0].astype(np.int64),
        area=np.zeros(len(table)),  # known once the picture's size is
        crowd=np.zeros(len(table), dtype=bool),
    )
