"""Data sets as COCO keeps them: one JSON file of images, annotations and categories."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from yolotrt.errors import DatasetError
from yolotrt.evaluation.labels import Dataset, Labels, Sample

# Annotation tools round: a box may leave its picture by a little.
_TOLERANCE_PIXELS = 2.0
_KINDS = {int: "a whole number", str: "text", list: "a list"}


def read_coco(path: Path, images: Path | None = None, *, remedy: str | None = None) -> Dataset:
    """Read a COCO instances file; class ids are the ranks of the category ids.

    Args:
        path: the JSON file.
        images: folder of the pictures; None looks beside the file and in the usual folders there.
        remedy: what to do where they are not found.

    Raises:
        DatasetError: as in `open_dataset`.
    """
    content = _load(path)
    categories = {_field(c, "id", int, path): _field(c, "name", str, path) for c in content["categories"]}
    number = {category: rank for rank, category in enumerate(sorted(categories))}
    if not content["images"]:
        raise DatasetError(f"{path}: no pictures")
    if not content["annotations"]:
        raise DatasetError(f"{path}: no annotations", expected="boxes to compare with")
    records = {_field(i, "id", int, path): i for i in content["images"]}
    rows: dict[int, list[tuple[float, ...]]] = defaultdict(list)
    for annotation in content["annotations"]:
        image_id, row = _row(annotation, records, number, path)
        rows[image_id].append(row)
    folder = _folder(path, images, [_field(i, "file_name", str, path) for i in content["images"]], remedy)
    samples = [
        Sample(path=_picture(folder, record["file_name"]), boxes=_as_labels(rows[image_id]), size=_size(record, path))
        for image_id, record in records.items()
    ]
    return Dataset(
        name=str(path),
        split="",
        names=tuple(categories[c] for c in sorted(categories)),
        samples=tuple(sorted(samples, key=lambda s: s.path)),
        by_name=True,
    )


def _load(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise DatasetError(f"{path}: cannot read the data set: {e.strerror or e}") from e
    except ValueError as e:
        raise DatasetError(f"{path}: not valid JSON ({e})") from e
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in keys):
        raise DatasetError(f"{path}: not a COCO file", expected=f"lists {', '.join(keys)}")
    return content


def _field(record: Any, name: str, kind: type, path: Path) -> Any:
    value = record.get(name) if isinstance(record, dict) else None
    if value is None:
        raise DatasetError(f"{path}: a record without {name}", got=repr(record)[:80])
    if not isinstance(value, kind):
        raise DatasetError(f"{path}: a record whose {name} is wrong", got=repr(value)[:80], expected=_KINDS[kind])
    return value


def _size(record: dict[str, Any], path: Path) -> tuple[int, int]:
    return _field(record, "height", int, path), _field(record, "width", int, path)


def _row(
    annotation: Any, images: dict[int, dict[str, Any]], number: dict[int, int], path: Path
) -> tuple[int, tuple[float, ...]]:
    """The picture of an annotation, and class, x1, y1, x2, y2 in pixels, area, crowd."""
    where = f"{path}: annotation {annotation.get('id', '?') if isinstance(annotation, dict) else '?'}"
    image_id, category = _field(annotation, "image_id", int, path), _field(annotation, "category_id", int, path)
    if image_id not in images:
        raise DatasetError(f"{where} belongs to a picture that is not listed", got=image_id)
    if category not in number:
        raise DatasetError(f"{where} has a category that is not listed", got=category)
    box = _field(annotation, "bbox", list, path)
    if len(box) != 4 or not all(isinstance(v, int | float) and np.isfinite(v) for v in box) or min(box[2:]) < 0:
        raise DatasetError(f"{where} has no box", got=repr(box)[:80], expected="x, y, width, height in pixels")
    x, y, w, h = map(float, box)
    height, width = _size(images[image_id], path)
    low, slack = min(x, y), _TOLERANCE_PIXELS
    if low < -slack or x + w > width + slack or y + h > height + slack:
        raise DatasetError(f"{where} lies outside its picture", got=repr(box), expected=f"inside {width}x{height}")
    area = annotation.get("area")
    crowd = bool(annotation.get("iscrowd", 0))
    return image_id, (number[category], x, y, x + w, y + h, w * h if area is None else float(area), crowd)


def _folder(path: Path, images: Path | None, names: list[str], remedy: str | None) -> Path:
    """The folder of the pictures: the first place that holds any of the first ones."""
    if images is not None:
        if not images.is_dir():
            raise DatasetError(f"{images}: no such folder")
        return images
    here = path.parent
    places = [here, here / "images", here / "images" / path.stem, here / path.stem, here.parent / path.stem]
    for place in places:
        if any((place / name).is_file() for name in names[:100]):
            return place
    raise DatasetError(f"{path}: its pictures are not beside it", got=names[0], remedy=remedy)


def _picture(folder: Path, name: str) -> Path:
    """File names may hold a folder that has been lost on the way."""
    return folder / name if (folder / name).is_file() else folder / Path(name).name


def _as_labels(rows: list[tuple[float, ...]]) -> Labels:
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return Labels(
        xyxy=table[:, 1:5], class_id=table[:, 0].astype(np.int64), area=table[:, 5], crowd=table[:, 6].astype(bool)
    )
