"""Tracking as a step between the detector and the sinks of one stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from yolotrt.sources.base import SourceInfo
from yolotrt.tracking.base import Tracker, TrackOptions
from yolotrt.tracking.make import make_tracker
from yolotrt.types import FrameResult

_PICTURES_FPS = 30.0  # for a folder of pictures, which says nothing of its rate


class TrackStep:
    """Gives the boxes of each result their `tracker_id`.

    Every video of a sequence is tracked by itself, and no number is given twice. Pictures are taken for one sequence
    in their order. A tracker is made right away, so that a missing package is told before anything runs.
    """

    def __init__(self, options: TrackOptions, info_of: Callable[[str], SourceInfo]) -> None:
        """Args: info_of: what is known of the source of a frame, by `Frame.source_id`.

        Raises:
            UsageError: there is no tracker of that name.
            MissingExtraError: its package is not installed.
        """
        self._options, self._info_of = options, info_of
        self._sequence: str | None = None
        self._index = -1
        self._given = self._highest = 0
        self._tracker = self._new(None)

    def __call__(self, result: FrameResult) -> FrameResult:
        """The same result, tracked."""
        frame = result.frame
        info = self._info_of(frame.source_id)
        moving = info.moving
        sequence = frame.source_id if moving else ""
        again = moving and frame.index <= self._index  # the same video once more
        if sequence != self._sequence or again:
            self._sequence, self._tracker, self._given = sequence, self._new(info), self._highest
        self._index = frame.index
        detections = self._tracker.update(result.detections, frame.timestamp_s if moving else None)
        numbers = detections.tracker_id
        assert numbers is not None
        numbers = np.where(numbers < 0, numbers, numbers + self._given)
        self._highest = max(self._highest, int(numbers.max(initial=0)))
        return replace(result, detections=replace(detections, tracker_id=numbers))

    def _new(self, info: SourceInfo | None) -> Tracker:
        fps = float(info.fps) if info is not None and info.fps else _PICTURES_FPS
        return make_tracker(self._options, fps=fps)
