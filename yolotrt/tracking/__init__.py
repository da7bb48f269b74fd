"""The same number for the same object from frame to frame.

Adding a tracker: a module here with a `Tracker`, and a row in `make.py`.
"""

from yolotrt.tracking.base import Tracker, TrackOptions
from yolotrt.tracking.make import make_tracker
from yolotrt.tracking.step import TrackStep

__all__ = ["TrackOptions", "TrackStep", "Tracker", "make_tracker"]
