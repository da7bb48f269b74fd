"""ByteTrack, by the package trackers."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from yolotrt.detections import Detections
from yolotrt.errors import MissingExtraError
from yolotrt.tracking.base import Tracker, TrackOptions

_TRACKERS_FPS = 30.0  # the package counts its buffer in frames of a video of this rate
_SHORTEST_S = 1e-3  # between two frames: times that stand still or run back come from damaged files
_ANEW_S = 1.0  # a clock that goes back by more was set anew
_KEPT_FRAMES = 3  # for which a track waits at least, however far apart they are
_STEPS = 8  # the shortest of so many is how far apart frames are; longer ones are outages


class ByteTrack(Tracker):
    """ByteTrack (Zhang et al., 2022): a Kalman filter per track; strong boxes are matched first, then weak ones.

    A track gets its number with its second box in a row.
    """

    def __init__(self, options: TrackOptions, *, fps: float) -> None:
        """Raises MissingExtraError where the package trackers is not installed."""
        try:
            from trackers import ByteTrackTracker
        except ImportError as e:
            raise MissingExtraError("trackers", "track", needed_for="tracking") from e
        self._tracker = ByteTrackTracker(
            lost_track_buffer=max(round(options.keep_s * _TRACKERS_FPS), 1),
            frame_rate=fps,
            track_activation_threshold=options.start,
            high_conf_det_threshold=options.start,
            minimum_iou_threshold=options.min_iou,
        )
        self._keep_s = options.keep_s
        self._time_s: float | None = None
        self._shift_s = 0.0
        self._steps: deque[float] = deque(maxlen=_STEPS)

    def update(self, detections: Detections, timestamp_s: float | None = None) -> Detections:
        import supervision

        timestamp_s = self._forward(timestamp_s)
        count = len(detections)
        tracked = self._tracker.update(
            supervision.Detections(
                xyxy=detections.xyxy.copy(),
                confidence=detections.confidence.copy(),
                class_id=detections.class_id.astype(int),
                data={"place": np.arange(count)},  # they come back in another order
            ),
            timestamp=timestamp_s,
        )
        numbers = np.full(count, -1, np.int64)
        if len(tracked):
            given = tracked.tracker_id
            numbers[tracked.data["place"]] = np.where(given < 0, -1, given + 1)  # the first one is 1
        return replace(detections, tracker_id=numbers)

    def _forward(self, timestamp_s: float | None) -> float | None:
        """The time on a clock that never stands still or runs back; one that begins anew goes on where it was."""
        if timestamp_s is not None and self._time_s is not None:
            if timestamp_s + self._shift_s < self._time_s - _ANEW_S:
                self._shift_s = self._time_s - timestamp_s
            timestamp_s = max(timestamp_s + self._shift_s, self._time_s + _SHORTEST_S)
            self._steps.append(timestamp_s - self._time_s)
            # With a frame a second, as --fps and --stride may have it, no track would live to see another one.
            self._tracker.maximum_time_without_update = max(self._keep_s, _KEPT_FRAMES * min(self._steps))
        self._time_s = timestamp_s
        return timestamp_s
