"""Counting: how many objects cross a line, enter or leave a zone, and are inside it."""

from __future__ import annotations

from yolotrt.counting.counts import Counts, LineCount, ZoneCount
from yolotrt.counting.options import CountOptions
from yolotrt.counting.step import CountStep

__all__ = ["CountOptions", "CountStep", "Counts", "LineCount", "ZoneCount"]
