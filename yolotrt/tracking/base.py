"""The contract of trackers, and their options."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from yolotrt.detections import Detections
from yolotrt.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TrackOptions:
    """How boxes are joined to tracks.

    Attributes:
        tracker: its name.
        start: a box of at least this confidence may begin a track; a weaker one only continues one, 0..1. The
            detector's own `conf` must be below it for weak boxes to get here.
        keep_s: seconds for which a track waits for its object to be seen again; three frames where that is longer.
        min_iou: overlap of a box with the place where its track is expected, 0..1.
    """

    tracker: str = "bytetrack"
    start: float = 0.25
    keep_s: float = 1.0
    min_iou: float = 0.1

    def __post_init__(self) -> None:
        for name in ("start", "min_iou"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(
                    f"option {name} is out of range", got=getattr(self, name), expected="a number from 0 to 1"
                )
        if not 0.0 < self.keep_s <= 3600.0:
            raise UsageError("option keep_s is out of range", got=self.keep_s, expected="seconds, up to 3600")


class Tracker(abc.ABC):
    """Follows the objects of one stream. Called frame by frame, from one thread at a time."""

    @abc.abstractmethod
    def update(self, detections: Detections, timestamp_s: float | None = None) -> Detections:
        """The same boxes in the same order, with `tracker_id` set.

        Args:
            detections: of the next frame.
            timestamp_s: its time in seconds, for streams whose frames do not come evenly; None for one frame further.
        """
