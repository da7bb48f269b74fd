"""Objects keep their number."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from tests.support.blocked import run_blocked
from tests.support.media import picture
from yolotrt.detections import Detections
from yolotrt.errors import UsageError
from yolotrt.sources import SourceInfo
from yolotrt.tracking import TrackOptions, TrackStep, make_tracker
from yolotrt.types import Frame, FrameResult, StageSeconds

pytest.importorskip("trackers")


def _boxes(*boxes: tuple[float, float, float]) -> Detections:
    """Boxes of 20 x 20 pixels at (x, y) with a confidence."""
    return Detections(
        xyxy=np.array([(x, y, x + 20, y + 20) for x, y, _ in boxes], np.float32).reshape(-1, 4),
        confidence=np.array([c for _, _, c in boxes], np.float32),
        class_id=np.arange(len(boxes), dtype=np.int64),
        names=("a", "b", "c"),
        size=(240, 320),
    )


def _numbers(detections: Detections) -> list[int]:
    assert detections.tracker_id is not None
    numbers: list[int] = detections.tracker_id.tolist()
    return numbers


def test_numbers_are_kept_while_the_order_changes() -> None:
    tracker = make_tracker(TrackOptions(), fps=25)
    first = tracker.update(_boxes((10, 10, 0.9), (200, 100, 0.8)))
    assert _numbers(first) == [-1, -1]  # confirmed with the second box
    left, right = _numbers(tracker.update(_boxes((13, 10, 0.9), (196, 100, 0.8))))
    assert {left, right} == {1, 2}
    for i in range(2, 15):
        swapped = tracker.update(_boxes((200 - 4 * i, 100, 0.95), (10 + 3 * i, 10, 0.5)))
        assert _numbers(swapped) == [right, left]
        assert swapped.class_id.tolist() == [0, 1]  # the boxes stay as they came
        assert swapped.confidence.tolist() == pytest.approx([0.95, 0.5])


def test_weak_boxes_continue_a_track_and_begin_none() -> None:
    tracker = make_tracker(TrackOptions(start=0.5), fps=25)
    for _ in range(3):
        tracked = tracker.update(_boxes((10, 10, 0.9), (200, 100, 0.3)))
    assert _numbers(tracked) == [1, -1]
    assert _numbers(tracker.update(_boxes((10, 10, 0.2)))) == [1]


@pytest.mark.parametrize(("gap_s", "kept"), [(0.8, True), (3.0, False)])
def test_a_track_waits_in_seconds_whatever_the_frame_rate(gap_s: float, kept: bool) -> None:
    for fps in (5, 50):
        tracker = make_tracker(TrackOptions(keep_s=1.0), fps=fps)
        times = [i / fps for i in range(5)]
        for time_s in times:
            before = _numbers(tracker.update(_boxes((10, 10, 0.9)), time_s))
        for i in range(1, int(gap_s * fps)):
            assert _numbers(tracker.update(_boxes(), times[-1] + i / fps)) == []
        for i in range(2):
            after = _numbers(tracker.update(_boxes((10, 10, 0.9)), times[-1] + gap_s + i / fps))
        assert (after == before) is kept


def test_times_that_stand_still_or_run_back() -> None:
    tracker = make_tracker(TrackOptions(), fps=25)
    for time_s in (0.0, 0.04, 0.04, 0.02, 0.08):  # a warning of the package would be an error here
        tracked = tracker.update(_boxes((10, 10, 0.9)), time_s)
    assert _numbers(tracked) == [1]


def test_a_clock_that_begins_anew() -> None:
    tracker = make_tracker(TrackOptions(keep_s=1.0), fps=25)
    for i in range(5):
        tracker.update(_boxes((10, 10, 0.9)), 3600 + i / 25)
    for i in range(50):  # two seconds without the object: its track is over
        tracker.update(_boxes(), i / 25)
    for i in range(50, 53):
        tracked = tracker.update(_boxes((10, 10, 0.9)), i / 25)
    assert _numbers(tracked) == [2]


def _result(source_id: str, index: int, fps: float = 25) -> FrameResult:
    frame = Frame(picture=picture(), source_id=source_id, index=index, timestamp_s=index / fps)
    return FrameResult(frame=frame, detections=_boxes((10, 10, 0.9)), seconds=StageSeconds())


def _step(kind: str) -> TrackStep:
    return TrackStep(TrackOptions(), lambda source_id: SourceInfo(kind=kind, name=source_id, fps=Fraction(25)))


def test_each_video_is_tracked_by_itself() -> None:
    step = _step("video")
    found = [_numbers(step(_result(source_id, i)).detections)[0] for source_id in "aab" for i in range(3)]
    assert found == [-1, 1, 1, -1, 2, 2, -1, 3, 3]


def test_pictures_are_one_sequence() -> None:
    step = _step("pictures")
    assert [_numbers(step(_result(name, 0)).detections)[0] for name in ("1.png", "2.png", "3.png")] == [-1, 1, 1]


def test_two_runs_give_the_same_numbers() -> None:
    runs = [[_numbers(step(_result("a", i)).detections) for i in range(5)] for step in (_step("video"), _step("video"))]
    assert runs[0] == runs[1]


def test_wrong_options() -> None:
    with pytest.raises(UsageError, match="option track is unknown, got deepsort, expected bytetrack"):
        make_tracker(TrackOptions(tracker="deepsort"), fps=25)
    for fps in (0, -25.0, float("nan")):
        with pytest.raises(UsageError, match=f"fps of a tracker is out of range, got {fps}, expected a number above 0"):
            make_tracker(TrackOptions(), fps=fps)
    with pytest.raises(UsageError, match="option start is out of range"):
        TrackOptions(start=2)
    with pytest.raises(UsageError, match="option keep_s is out of range"):
        TrackOptions(keep_s=0)


def test_without_the_package() -> None:
    code = "from yolotrt.tracking import TrackOptions, make_tracker\nmake_tracker(TrackOptions(), fps=25)"
    result = run_blocked(["trackers"], code)
    assert '"yolotrt[track]"' in result.stderr.splitlines()[-1]


def test_it_needs_no_torch() -> None:
    code = (
        "from yolotrt.tracking import TrackOptions, make_tracker\nmake_tracker(TrackOptions(), fps=25)\n"
        "import sys\nprint({'torch', 'ultralytics'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.parametrize("step_s", [0.04, 1.001, 7.0])
def test_frames_far_apart_are_tracked(step_s: float) -> None:
    """As --fps 1 and --stride give them."""
    tracker = make_tracker(TrackOptions(), fps=29.97)
    for number in range(6):
        tracked = tracker.update(_boxes((10, 10, 0.9)), number * step_s)
    assert _numbers(tracked) == [1]
    tracker.update(_boxes(), 6 * step_s)
    assert _numbers(tracker.update(_boxes((10, 10, 0.9)), 7 * step_s)) == [1], "one frame without it"


def test_an_outage_ends_tracks() -> None:
    tracker = make_tracker(TrackOptions(), fps=25)
    for number in range(10):
        tracker.update(_boxes((10, 10, 0.9)), number / 25)
    assert _numbers(tracker.update(_boxes((10, 10, 0.9)), 60.0)) == [-1]
