"""`open_dataset` reads labelled pictures, whatever form they are kept in: Ultralytics' data.yaml or COCO's JSON.

Labels are read and checked as a whole before a model runs, pictures one by one while it runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yolotrt.errors import DatasetError, UsageError
from yolotrt.evaluation.coco_dataset import read_coco
from yolotrt.evaluation.labels import Dataset
from yolotrt.evaluation.yolo_dataset import read_yolo

_RENAMED = 10  # classes of another name than the model's that are listed


def open_dataset(
    data: Path,
    *,
    images: Path | None = None,
    split: str | None = None,
    remedy: str = "Name their folder with --images.",
) -> Dataset:
    """Read the labels of a data set.

    Args:
        data: Ultralytics' data.yaml, a folder with one, or a COCO instances JSON.
        images: folder of the pictures of a COCO file; beside the file by default.
        split: `train`, `val` (the default) or `test` of a data.yaml.
        remedy: what to do where the pictures of a COCO file are not found; the caller may have no option for `images`.

    Raises:
        DatasetError: missing, not readable, of unknown structure, without pictures or labels, or with bad labels.
        UsageError: options that this kind of data set does not have.
    """
    if split not in (None, "train", "val", "test"):
        raise UsageError("option split is unknown", got=split, expected="train | val | test")
    if not data.exists():
        raise DatasetError(f"{data}: no such data set", expected="a data.yaml or a COCO .json file")
    if data.suffix.lower() == ".json":
        if split is not None:
            raise UsageError("option split belongs to a data.yaml", remedy="Name the JSON file of that split.")
        return read_coco(data, images, remedy=remedy)
    if images is not None:
        raise UsageError("option images belongs to a COCO .json file", remedy="A data.yaml names its pictures itself.")
    return read_yolo(data, split or "val")


def align(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The data set with the class ids of a model.

    Args:
        dataset: as read.
        names: class names of the model; empty where they are not known, which leaves the ids as they are.

    Raises:
        DatasetError: the classes of the data set are not those of the model.
    """
    names = tuple(names)
    if not names or names == dataset.names:
        return dataset
    if dataset.by_name and _labelled(dataset) <= set(names):
        return _renumbered(dataset, names)
    if len(names) != len(dataset.names):
        raise DatasetError(
            f"{dataset.name}: other classes than the model's",
            got=f"{len(dataset.names)} classes ({_some(dataset.names)})",
            expected=f"{len(names)} ({_some(names)})",
            remedy="Take the data set that the model was trained for.",
        )
    pairs = list(zip(dataset.names, names, strict=True))
    if any(ours != theirs and ours in names for ours, theirs in pairs):
        remedy = "Write the names in the model's order and number the labels accordingly."
        if dataset.by_name:
            unknown = sorted(_labelled(dataset) - set(names))
            remedy = f"Write all names as the model has them: it does not know {_some(unknown)}."
        raise DatasetError(
            f"{dataset.name}: the model's classes in another order",
            got=_some(dataset.names),
            expected=_some(names),
            remedy=remedy,
        )
    renamed = [
        f"class {i} is {ours!r} in the data set and {theirs!r} in the model"
        for i, (ours, theirs) in enumerate(pairs)
        if ours != theirs
    ]
    note = f"{_some(renamed, most=_RENAMED, separator='; ')}; taken as one"
    return dataclasses.replace(dataset, names=names, notes=(*dataset.notes, note))


def _labelled(dataset: Dataset) -> set[str]:
    """The names of the classes that any label has."""
    return {dataset.names[c] for s in dataset.samples for c in np.unique(s.boxes.class_id)}


def _renumbered(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """With the ids of `names`, which hold all classes but some that no label has."""
    number = np.array([names.index(n) if n in names else -1 for n in dataset.names], dtype=np.int64)
    unknown = [n for n in dataset.names if n not in names]
    samples = tuple(
        dataclasses.replace(s, boxes=dataclasses.replace(s.boxes, class_id=number[s.boxes.class_id]))
        for s in dataset.samples
    )
    notes = (f"classes without a label that the model does not know, left out: {_some(unknown)}",) if unknown else ()
    return dataclasses.replace(dataset, names=names, samples=samples, notes=(*dataset.notes, *notes))


def _some(names: Sequence[str], *, most: int = 5, separator: str = ", ") -> str:
    return separator.join([*names[:most], *(["..."] if len(names) > most else [])])
