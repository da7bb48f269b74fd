"""Reading, detecting and writing side by side."""

from __future__ import annotations

from yolotrt.pipeline.run import Pipeline
from yolotrt.pipeline.statistics import RunStatistics

__all__ = ["Pipeline", "RunStatistics"]
