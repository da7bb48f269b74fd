"""What one run did and what it cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from yolotrt.types import FrameResult

STAGES = ("decode", "preprocess", "inference", "postprocess", "write")
"""In the order a frame passes them. They overlap, so their sum is more than the time per frame."""


@dataclass(kw_only=True)
class RunStatistics:
    """Sums over the frames of one run; filled while it runs.

    Attributes:
        frames: pictures and video frames detected in.
        boxes: found in them.
        classes: boxes by class name.
        seconds: busy time of each stage. `write` is drawing and encoding.
        wall_s: seconds from the first frame asked for to the last output finished.
        problems: damaged inputs that were passed over or cut short, one line each.
        interrupted: whether it was ended early.
    """

    frames: int = 0
    boxes: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    wall_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    interrupted: bool = False

    def add(self, result: FrameResult) -> None:
        """Count one frame."""
        labels, classes = result.detections.labels, self.classes
        self.frames += 1
        self.boxes += len(labels)
        for label in labels:  # `Counter.update` takes longer to look at what it is given than to count a few
            classes[label] += 1
        took, seconds = result.seconds, self.seconds
        seconds["decode"] += took.decode
        seconds["preprocess"] += took.preprocess
        seconds["inference"] += took.inference
        seconds["postprocess"] += took.postprocess

    @property
    def frames_per_s(self) -> float:
        """Frames per second of the whole run, all stages overlapping; 0 for a run without frames."""
        return self.frames / self.wall_s if self.wall_s else 0.0

    def ms_per_frame(self, stage: str) -> float:
        """Busy milliseconds of a stage per frame."""
        return self.seconds[stage] / self.frames * 1e3 if self.frames else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "frames": self.frames,
            "boxes": self.boxes,
            "classes": dict(self.classes.most_common()),
            "seconds": round(self.wall_s, 3),
            "frames_per_s": round(self.frames_per_s, 2),
            "ms_per_frame": {stage: round(self.ms_per_frame(stage), 3) for stage in STAGES},
            "problems": list(self.problems),
            "interrupted": self.interrupted,
        }
