"""One stream of a run: where its frames come from, what is looked for in them, and where the results go."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from yolotrt.detections import Detections
from yolotrt.errors import UsageError
from yolotrt.options import DetectOptions
from yolotrt.sinks.base import Sink
from yolotrt.sources.base import Source
from yolotrt.types import DeviceImage, Frame, FrameResult, ImageU8

_MAX_FPS = 1_000_000  # no source has more, and the frames of one are counted in whole numbers


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the picture, as shares of its width and height from 0 to 1, so that it fits every size.

    Attributes:
        x1, y1: the upper left corner.
        x2, y2: the lower right corner, outside.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        if not (0 <= self.x1 < self.x2 <= 1 and 0 <= self.y1 < self.y2 <= 1):
            raise UsageError(
                "a region of interest is out of range",
                got=f"[{self.x1}, {self.y1}, {self.x2}, {self.y2}]",
                expected="[x1, y1, x2, y2], shares of the picture from 0 to 1, x1 < x2 and y1 < y2",
            )

    def pixels(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 in a picture of (height, width); at least one pixel.

        Inside the picture they are even, so that a region is the same where chroma has half the resolution.
        """
        height, width = size
        (x1, x2), (y1, y2) = _even(self.x1, self.x2, width), _even(self.y1, self.y2, height)
        return x1, y1, x2, y2


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What is done with the frames of a stream.

    Attributes:
        fps: at most so many frames per second of its own time; None takes all.
        stride: every n-th frame.
        roi: the part of the picture that is looked at; boxes are still in pixels of the whole. None takes it all.
        detect: thresholds in place of the detector's.
    """

    fps: float | None = None
    stride: int = 1
    roi: Region | None = None
    detect: DetectOptions | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps <= _MAX_FPS:
            raise UsageError(
                "option fps is out of range", got=self.fps, expected=f"a number above 0, at most {_MAX_FPS}"
            )
        if self.stride < 1:
            raise UsageError("option stride is out of range", got=self.stride, expected="a whole number from 1")


Step = Callable[[FrameResult], FrameResult]
"""What is done with each result of a stream, in order, before it is written: tracking, counting."""


class Stream:
    """A source with its options, steps and sinks.

    Args:
        source: stays open.
        sinks: get its results in order; closed at the end of the run.
        name: for people, unique in its run; the source's by default.
        options: what is done with its frames.
        steps: what is done with its results, one after the other, before they are written.
    """

    def __init__(
        self,
        source: Source,
        sinks: Sequence[Sink] = (),
        *,
        name: str | None = None,
        options: StreamOptions | None = None,
        steps: Sequence[Step] = (),
    ) -> None:
        self.source, self.sinks, self.steps = source, tuple(sinks), tuple(steps)
        self.name = name or source.info.name
        self.options = options or StreamOptions()

    def prepared(self, frame: Frame) -> Frame:
        """What the detector gets of a frame."""
        if self.options.detect is not None:
            frame = dataclasses.replace(frame, options=self.options.detect)
        if self.options.roi is not None:
            frame = dataclasses.replace(frame, picture=_cropped(frame.picture, self.options.roi.pixels(frame.size)))
        return frame

    def finished(self, result: FrameResult, frame: Frame) -> FrameResult:
        """The result for the whole `frame` that `prepared` got, with all steps done."""
        found = result.detections
        if self.options.roi is not None:
            x1, y1, _, _ = self.options.roi.pixels(frame.size)
            found = _moved(found, (x1, y1), frame.size)
        result = FrameResult(  # `dataclasses.replace` takes several times as long
            frame=frame, detections=found, seconds=result.seconds, stream=self.name, counts=result.counts
        )
        for step in self.steps:
            result = step(result)
        return result


def _even(start: float, end: float, side: int) -> tuple[int, int]:
    """The first pixel and the one behind the last of a share of a side."""
    first = min(int(start * side), side - 1) // 2 * 2
    last = min(-(-round(end * side) // 2) * 2, side)
    return first, max(last, min(first + 2, side))


def _cropped(picture: ImageU8 | DeviceImage, box: tuple[int, int, int, int]) -> ImageU8 | DeviceImage:
    x1, y1, x2, y2 = box
    if isinstance(picture, np.ndarray):
        return np.ascontiguousarray(picture[y1:y2, x1:x2])
    return picture.cropped(box)


def _moved(found: Detections, by: tuple[int, int], size: tuple[int, int]) -> Detections:
    return dataclasses.replace(found, xyxy=found.xyxy + np.array([*by, *by], np.float32), size=size)
