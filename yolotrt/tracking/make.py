"""The trackers by their names."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from yolotrt.errors import UsageError
from yolotrt.tracking.base import Tracker, TrackOptions

# name -> "module:class"
_TRACKERS = {"bytetrack": "yolotrt.tracking.bytetrack:ByteTrack"}


def check_tracker(name: str) -> None:
    """Raises UsageError where there is no tracker of that name."""
    if name not in _TRACKERS:
        raise UsageError("option track is unknown", got=name, expected=" | ".join(_TRACKERS))


def make_tracker(options: TrackOptions, *, fps: float) -> Tracker:
    """A tracker of one stream, which gives about `fps` frames per second.

    Raises:
        UsageError: there is no tracker of that name, or `fps` is not above 0.
        MissingExtraError: its package is not installed.
    """
    check_tracker(options.tracker)
    if not 0 < fps < float("inf"):
        raise UsageError("fps of a tracker is out of range", got=fps, expected="a number above 0")
    module, _, name = _TRACKERS[options.tracker].partition(":")
    return cast("Tracker", getattr(import_module(module), name)(options, fps=fps))
