"""Labelled pictures: the types that readers of data sets give."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolotrt.errors import DatasetError

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
