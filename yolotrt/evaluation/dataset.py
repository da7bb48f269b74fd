"""Labelled pictures, whatever form they are kept in: `open_dataset` reads Ultralytics' data.yaml and COCO's JSON.

Labels are read and checked as a whole before a model runs, pictures one by one while it runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolotrt.errors import DatasetError, UsageError

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """The boxes that should be found in one picture.

    Attributes:
        xyxy: `[n, 4]`: x1, y1, x2, y2 in pixels of the picture.
        class_id: `[n]`.
        area: `[n]`, square pixels: of the object's outline where the data set knows it, else of the box.
        crowd: `[n]`: regions with many objects (COCO's `iscrowd`), in which boxes are neither right nor wrong.
    """

    xyxy: Float64Array
    class_id: Int64Array
    area: Float64Array
    crowd: BoolArray

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, chosen: npt.NDArray[np.bool_ | np.integer]) -> Labels:
        """A subset: a mask `[n]` or indices."""
        return Labels(
            xyxy=self.xyxy[chosen], class_id=self.class_id[chosen], area=self.area[chosen], crowd=self.crowd[chosen]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One picture and its labels.

    Attributes:
        path: of the picture.
        boxes: labels; in pixels, or as shares of the picture's sides where `size` is None.
        size: (height, width) in pixels that the data set says the picture has; None where it says nothing.
    """

    path: Path
    boxes: Labels
    size: tuple[int, int] | None = None

    def labels(self, size: tuple[int, int]) -> Labels:
        """The labels in pixels of the picture, which has turned out to be of `size` (height, width).

        Raises:
            DatasetError: the data set names another size, so its boxes lie elsewhere.
        """
        if self.size is not None:
            if self.size != size:
                raise DatasetError(
                    f"{self.path}: the picture has another size than its annotations say",
                    got=f"{size[1]}x{size[0]}",
                    expected=f"{self.size[1]}x{self.size[0]}",
                    remedy="A rotation noted in its EXIF data may be the reason.",
                )
            return self.boxes
        height, width = size
        xyxy = self.boxes.xyxy * np.array([width, height, width, height], dtype=np.float64)
        area = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
        return dataclasses.replace(self.boxes, xyxy=xyxy, area=area)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Labelled pictures.

    Attributes:
        name: the file it was read from.
        split: `train`, `val` or `test`; empty where the file holds one split only.
        names: class names; the index is the class id of the labels.
        samples: by path.
        by_name: classes are told by their names (COCO), not by their numbers.
        notes: what a reader should know of it, one line each.
    """

    name: str
    split: str
    names: tuple[str, ...]
    samples: tuple[Sample, ...] = field(repr=False)
    by_name: bool = False
    notes: tuple[str, ...] = ()

    @property
    def boxes(self) -> int:
        """Number of labels, crowds included."""
        return sum(len(s.boxes) for s in self.samples)


def open_dataset(data: Path, *, images: Path | None = None, split: str | None = None) -> Dataset:
    """Read the labels of a data set.

    Args:
        data: Ultralytics' data.yaml, a folder with one, or a COCO instances JSON.
        images: folder of the pictures of a COCO file; beside the file by default.
        split: `train`, `val` (the default) or `test` of a data.yaml.

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
        from yolotrt.evaluation.coco_dataset import read_coco

        return read_coco(data, images)
    if images is not None:
        raise UsageError("option images belongs to a COCO .json file", remedy="A data.yaml names its pictures itself.")
    from yolotrt.evaluation.yolo_dataset import read_yolo

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
    ours = set(dataset.names)
    if dataset.by_name and ours <= set(names):
        return _renumbered(dataset, names)
    if len(names) != len(dataset.names):
        raise DatasetError(
            f"{dataset.name}: other classes than the model's",
            got=f"{len(dataset.names)} classes ({_some(dataset.names)})",
            expected=f"{len(names)} ({_some(names)})",
            remedy="Take the data set that the model was trained for.",
        )
    if ours == set(names):
        raise DatasetError(
            f"{dataset.name}: the model's classes in another order",
            got=_some(dataset.names),
            expected=_some(names),
            remedy="Write the names in the model's order and number the labels accordingly.",
        )
    wrong = next(i for i, (a, b) in enumerate(zip(dataset.names, names, strict=True)) if a != b)
    note = f"class {wrong} is {dataset.names[wrong]!r} in the data set and {names[wrong]!r} in the model; taken as one"
    return dataclasses.replace(dataset, names=names, notes=(*dataset.notes, note))


def _renumbered(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    number = np.array([names.index(n) for n in dataset.names], dtype=np.int64)
    samples = tuple(
        dataclasses.replace(s, boxes=dataclasses.replace(s.boxes, class_id=number[s.boxes.class_id]))
        for s in dataset.samples
    )
    return dataclasses.replace(dataset, names=names, samples=samples)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
