"""Reading, detecting and writing side by side, for one stream or many."""

from __future__ import annotations

from yolotrt.pipeline.run import Pipeline
from yolotrt.pipeline.statistics import RunStatistics
from yolotrt.pipeline.stream import Region, Stream, StreamOptions
from yolotrt.pipeline.stream_state import StreamState, StreamStatus

__all__ = ["Pipeline", "Region", "RunStatistics", "Stream", "StreamOptions", "StreamState", "StreamStatus"]
