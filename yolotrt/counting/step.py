"""Counting as a step behind the tracker of one stream."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from yolotrt.counting.counts import Counts, LineCount, Pixels, ZoneCount
from yolotrt.counting.options import CountOptions
from yolotrt.detections import Detections
from yolotrt.types import FrameResult

_FRAMES_TO_BELIEVE = 2  # on the other side, one after the other: boxes tremble
_FRAMES_TO_REMEMBER = 900  # a track that was not seen for so long does not come back


class CountStep:
    """Adds `counts` to each result; its boxes must be tracked.

    An object crosses a line when its anchor moves over the part between the two points, and it enters a zone when it
    was outside before: one that appears inside is inside, without having entered. Either is counted with its second
    frame on the other side. Numbers go on from one video of a sequence to the next.

    Attributes:
        totals: the counts up to the last frame; None before the first.
    """

    def __init__(self, options: CountOptions) -> None:
        self._anchor = options.anchor
        self._lines = [_Region(name, points) for name, points in options.lines.items()]
        self._zones = [_Region(name, points) for name, points in options.zones.items()]
        self.totals: Counts | None = None

    def __call__(self, result: FrameResult) -> FrameResult:
        """The same result, with the counts up to it."""
        detections = result.detections
        if detections.tracker_id is None:
            raise ValueError("got boxes without tracker_id, expected tracked ones")
        anchors = self._anchors(detections)
        self.totals = Counts(
            lines=tuple(self._line(region, detections, anchors) for region in self._lines),
            zones=tuple(self._zone(region, detections, anchors) for region in self._zones),
        )
        return replace(result, counts=self.totals)

    def _anchors(self, detections: Detections) -> npt.NDArray[np.float32]:
        x1, y1, x2, y2 = detections.xyxy.T
        y = y2 if self._anchor == "bottom" else (y1 + y2) / 2
        return np.stack([(x1 + x2) / 2, y], axis=1)

    def _line(self, region: _Region, detections: Detections, anchors: npt.NDArray[np.float32]) -> LineCount:
        start, end = region.pixels(detections.size)
        direction = np.subtract(end, start)
        offset = anchors - np.array(start, np.float32)
        on_left = direction[0] * offset[:, 1] - direction[1] * offset[:, 0] < 0
        for was, now, to_left, name in region.changes(detections, anchors, on_left):
            if _cross(start, end, was, now):
                (region.entered if to_left else region.left)[name] += 1
        return LineCount(name=region.name, start=start, end=end, entered=dict(region.entered), left=dict(region.left))

    def _zone(self, region: _Region, detections: Detections, anchors: npt.NDArray[np.float32]) -> ZoneCount:
        corners = region.pixels(detections.size)
        polygon = np.array(corners, np.float32)
        inside = np.array([_is_in(polygon, place) for place in anchors], bool)
        for _, _, is_in, name in region.changes(detections, anchors, inside):
            (region.entered if is_in else region.left)[name] += 1
        return ZoneCount(
            name=region.name,
            corners=corners,
            inside=dict(Counter(detections[inside].labels)),
            entered=dict(region.entered),
            left=dict(region.left),
        )


@dataclass
class _Object:
    """One track as a region knows it: the side and place where it was last believed to be."""

    side: bool
    place: Pixels
    doubts: int = 0
    frame: int = 0


@dataclass
class _Region:
    name: str
    points: tuple[Pixels, ...]
    entered: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    objects: dict[int, _Object] = field(default_factory=dict)
    frame: int = 0

    def pixels(self, size: tuple[int, int]) -> tuple[Pixels, ...]:
        height, width = size
        if max(max(point) for point in self.points) > 1:
            return self.points
        return tuple((x * width, y * height) for x, y in self.points)

    def changes(
        self, detections: Detections, anchors: npt.NDArray[np.float32], sides: npt.NDArray[np.bool_]
    ) -> list[tuple[Pixels, Pixels, bool, str]]:
        """(place before, place now, new side, class name) of each track that changed sides."""
        self.frame += 1
        found = []
        assert detections.tracker_id is not None
        rows = zip(detections.tracker_id.tolist(), anchors.tolist(), sides.tolist(), detections.labels, strict=True)
        for number, (x, y), side, name in rows:
            if number < 0:
                continue
            known = self.objects.setdefault(number, _Object(side, (x, y)))
            known.frame = self.frame
            known.doubts = 0 if side == known.side else known.doubts + 1
            if known.doubts >= _FRAMES_TO_BELIEVE:
                found.append((known.place, (x, y), side, name))
                known.side, known.doubts = side, 0
            if not known.doubts:
                known.place = (x, y)
        for number in [n for n, o in self.objects.items() if self.frame - o.frame > _FRAMES_TO_REMEMBER]:
            del self.objects[number]
        return found


def _is_in(polygon: npt.NDArray[np.float32], place: npt.NDArray[np.float32]) -> bool:
    return cv2.pointPolygonTest(polygon, place.tolist(), measureDist=False) >= 0


def _cross(a: Pixels, b: Pixels, c: Pixels, d: Pixels) -> bool:
    """Whether the segments a-b and c-d meet, for c and d on different sides of a-b."""

    def side(p: Pixels) -> float:
        return (d[0] - c[0]) * (p[1] - c[1]) - (d[1] - c[1]) * (p[0] - c[0])

    return side(a) * side(b) <= 0
