"""`Detections`: what a detector says of one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.errors import MissingExtraError
from yolotrt.types import ImageU8

if TYPE_CHECKING:
    import supervision


_DTYPES = {"xyxy": np.float32, "confidence": np.float32, "class_id": np.int64, "tracker_id": np.int64}


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """The boxes of one picture, sorted by falling confidence. The arrays are read-only.

    Attributes:
        xyxy: float32 `[n, 4]`: x1, y1, x2, y2 in pixels of the source picture, clipped to it
            (unless `DetectOptions.clip` is off).
        confidence: float32 `[n]` in 0..1.
        class_id: int64 `[n]`, indices into `names`.
        names: class names of the model.
        size: (height, width) of the source picture in pixels.
        tracker_id: int64 `[n]`: the same number for the same object from frame to frame of one stream, -1 for a box
            that belongs to no track (yet); None where nothing tracks.
    """

    xyxy: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]
    names: tuple[str, ...] = field(repr=False)
    size: tuple[int, int]
    tracker_id: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        if self.xyxy.shape != (n, 4) or self.confidence.shape != (n,) or self.class_id.shape != (n,):
            raise ValueError(
                f"got xyxy {self.xyxy.shape}, confidence {self.confidence.shape}, class_id {self.class_id.shape}, "
                "expected (n, 4), (n,), (n,)"
            )
        if self.tracker_id is not None and self.tracker_id.shape != (n,):
            raise ValueError(f"tracker_id: got shape {self.tracker_id.shape}, expected ({n},)")
        for name, dtype in _DTYPES.items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.dtype != dtype:
                raise ValueError(f"{name}: got dtype {array.dtype}, expected {np.dtype(dtype)}")
            if array.flags.writeable:
                view = array.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    @classmethod
    def empty(cls, *, names: tuple[str, ...], size: tuple[int, int]) -> Detections:
        """No box at all."""
        return cls(
            xyxy=np.empty((0, 4), np.float32),
            confidence=np.empty(0, np.float32),
            class_id=np.empty(0, np.int64),
            names=names,
            size=size,
        )

    def __len__(self) -> int:
        return len(self.xyxy)

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.float32], float, int]]:
        """Yield (xyxy, confidence, class_id) per box."""
        for box, confidence, class_id in zip(self.xyxy, self.confidence, self.class_id, strict=True):
            yield box, float(confidence), int(class_id)

    def __getitem__(self, index: slice | npt.NDArray[Any] | Sequence[int]) -> Detections:
        """A subset: a slice, a boolean mask `[n]` or indices, as NumPy takes them."""
        if not isinstance(index, slice):
            index = np.asarray(index)
            if index.ndim != 1:
                raise IndexError(f"got an index of shape {index.shape}, expected a slice, a mask or a list of indices")
            if not len(index):
                index = index.astype(np.intp)  # an empty list is one of floats to NumPy
        return replace(
            self,
            xyxy=self.xyxy[index],
            confidence=self.confidence[index],
            class_id=self.class_id[index],
            tracker_id=None if self.tracker_id is None else self.tracker_id[index],
        )

    def clipped(self) -> Detections:
        """The same boxes, cut off at the edge of the picture."""
        height, width = self.size
        xyxy = np.clip(self.xyxy, 0, np.array([width, height, width, height], np.float32))
        return replace(self, xyxy=xyxy)

    @property
    def labels(self) -> list[str]:
        """The class name of each box."""
        names, count = self.names, len(self.names)
        return [names[c] if 0 <= c < count else str(c) for c in self.class_id.tolist()]

    def name_of(self, class_id: int) -> str:
        """The name of a class; its number as text where the model has no name for it."""
        return self.names[class_id] if 0 <= class_id < len(self.names) else str(class_id)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: `{"size": [h, w], "boxes": [{"xyxy", "confidence", "class_id", "name"}, ...]}`.

        Tracked boxes also have `tracker_id`: null for one that belongs to no track.
        """
        boxes: list[dict[str, Any]] = [
            {
                "xyxy": [round(float(v), 3) for v in box],
                "confidence": round(confidence, 6),
                "class_id": class_id,
                "name": self.name_of(class_id),
            }
            for box, confidence, class_id in self
        ]
        if self.tracker_id is not None:
            for box, number in zip(boxes, self.tracker_id.tolist(), strict=True):
                box["tracker_id"] = number if number >= 0 else None
        return {"size": list(self.size), "boxes": boxes}

    def to_coco(self, image_id: int, *, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """COCO results: `bbox` is x, y, width, height in pixels.

        Args:
            image_id: of the picture in the COCO file.
            category_ids: the COCO category of each class; the class ids themselves by default.
        """
        return [
            {
                "image_id": image_id,
                "category_id": class_id if category_ids is None else category_ids[class_id],
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "score": confidence,
            }
            for (x1, y1, x2, y2), confidence, class_id in self
        ]

    def to_supervision(self) -> supervision.Detections:
        """As `supervision.Detections`, names under `data["class_name"]`. Needs the package supervision."""
        try:
            import supervision
        except ImportError as e:
            raise MissingExtraError("supervision", "supervision", needed_for="to_supervision()") from e
        return supervision.Detections(
            xyxy=self.xyxy.copy(),
            confidence=self.confidence.copy(),
            class_id=self.class_id.astype(int),
            tracker_id=None if self.tracker_id is None else self.tracker_id.astype(int),
            data={"class_name": np.array(self.labels, dtype=str)},
        )

    def plot(self, image: ImageU8) -> ImageU8:
        """A copy of `image` (BGR `uint8 [H, W, 3]`) with the boxes, names and confidences drawn on it.

        Raises UsageError for what is no such picture.
        """
        from yolotrt.picture_check import check_picture
        from yolotrt.plotting import draw

        check_picture(image)
        return draw(image, self)
