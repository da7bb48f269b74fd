from __future__ import annotations

import pytest

from tests.support.media import picture
from tests.support.results import frame_result
from yolotrt.pipeline import RunStatistics


def test_sums_and_rates() -> None:
    statistics = RunStatistics()
    for boxes in (0, 1, 3):
        statistics.add(frame_result(picture(), boxes=boxes))
    statistics.seconds["write"] += 0.03
    statistics.wall_s = 0.5
    assert statistics.frames_per_s == pytest.approx(6)
    assert statistics.to_dict() == {
        "frames": 3,
        "boxes": 4,
        "classes": {"thing": 4},
        "seconds": 0.5,
        "frames_per_s": 6.0,
        "ms_per_frame": {"decode": 1.0, "preprocess": 2.0, "inference": 3.0, "postprocess": 4.0, "write": 10.0},
        "problems": [],
        "interrupted": False,
    }


def test_nothing_done() -> None:
    record = RunStatistics().to_dict()
    assert record["frames_per_s"] == 0
    assert set(record["ms_per_frame"].values()) == {0}
