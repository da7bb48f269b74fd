"""Lines and zones, with objects whose ways are known."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import yaml

from tests.support.media import picture
from yolotrt.counting import CountOptions, CountStep
from yolotrt.detections import Detections
from yolotrt.errors import ConfigError
from yolotrt.plotting import draw_result
from yolotrt.types import Frame, FrameResult, ImageU8, StageSeconds

SIZE = (200, 300)
MIDDLE = CountOptions(lines={"gate": ((50, 100), (250, 100))}, anchor="center")

Place = tuple[int, float, float]
"""Number of a track, x and y of its centre."""


def _result(places: Iterable[Place], size: tuple[int, int] = SIZE) -> FrameResult:
    """Boxes of 10 x 10 pixels; odd numbers are of class `car`, even ones `bus`."""
    listed = list(places)
    detections = Detections(
        xyxy=np.array([(x - 5, y - 5, x + 5, y + 5) for _, x, y in listed], np.float32).reshape(-1, 4),
        confidence=np.full(len(listed), 0.9, np.float32),
        class_id=np.array([abs(n) % 2 for n, _, _ in listed], np.int64),
        names=("bus", "car"),
        size=size,
        tracker_id=np.array([n for n, _, _ in listed], np.int64),
    )
    frame = Frame(picture=picture(size, box=None), source_id="a.mp4", index=0)
    return FrameResult(frame=frame, detections=detections, seconds=StageSeconds())


def _count(options: CountOptions, frames: Iterable[Iterable[Place]]) -> dict[str, Any]:
    """The counts behind the last frame."""
    step = CountStep(options)
    for places in frames:
        result = step(_result(places))
    assert result.counts is not None
    return result.counts.to_dict()


def _way(number: int, x: float, ys: Iterable[float]) -> list[list[Place]]:
    return [[(number, x, y)] for y in ys]


UP, DOWN = range(140, 50, -10), range(60, 150, 10)


def test_directions_and_classes() -> None:
    frames = [a + b + c for a, b, c in zip(_way(1, 100, UP), _way(2, 150, UP), _way(3, 200, DOWN), strict=True)]
    assert _count(MIDDLE, frames)["lines"] == {"gate": {"in": {"car": 1, "bus": 1}, "out": {"car": 1}}}
    turned = CountOptions(lines={"gate": ((250, 100), (50, 100))}, anchor="center")
    assert _count(turned, frames)["lines"] == {"gate": {"in": {"car": 1}, "out": {"car": 1, "bus": 1}}}


def test_who_passes_beside_the_line_does_not_cross_it() -> None:
    assert _count(MIDDLE, _way(1, 20, UP))["lines"]["gate"] == {"in": {}, "out": {}}
    there_and_back = _way(1, 20, UP) + _way(1, 100, DOWN)  # beside it upward, over it downward
    assert _count(MIDDLE, there_and_back)["lines"]["gate"] == {"in": {}, "out": {"car": 1}}


def test_a_box_that_trembles_on_the_line_is_not_counted() -> None:
    assert _count(MIDDLE, _way(1, 100, [105, 95, 105, 95, 105, 95, 105]))["lines"]["gate"] == {"in": {}, "out": {}}
    assert _count(MIDDLE, _way(1, 100, [105, 95, 105, 95, 94, 93]))["lines"]["gate"] == {"in": {"car": 1}, "out": {}}


def test_a_crossing_while_the_object_is_hidden() -> None:
    hidden: list[list[Place]] = [[]] * 20
    frames = _way(1, 100, [140, 130]) + hidden + _way(1, 110, [70, 60])
    assert _count(MIDDLE, frames)["lines"]["gate"]["in"] == {"car": 1}


def test_boxes_without_a_track_do_not_cross() -> None:
    assert _count(MIDDLE, _way(-1, 100, UP))["lines"]["gate"] == {"in": {}, "out": {}}


def test_zones() -> None:
    options = CountOptions(zones={"yard": ((0, 100), (300, 100), (300, 200), (0, 200))}, anchor="center")
    step = CountStep(options)
    inside = []
    for a, b in zip(_way(1, 100, DOWN), _way(2, 150, UP), strict=True):
        counts = step(_result([*a, *b, (4, 30, 150), (-1, 60, 150)])).counts
        assert counts is not None
        inside.append(dict(counts.zones[0].inside))
    assert inside[0] == {"bus": 2, "car": 1}
    assert inside[-1] == {"car": 2, "bus": 1}  # those without a track are inside, too
    assert step.totals is not None
    # Number 4 was inside from the start: it has not entered.
    assert step.totals.to_dict()["zones"]["yard"] == {
        "inside": {"car": 2, "bus": 1},
        "in": {"car": 1},
        "out": {"bus": 1},
    }


def test_the_anchor_is_the_lower_edge_unless_told() -> None:
    zone = {"yard": ((0, 0), (300, 0), (300, 100), (0, 100))}
    place: list[list[Place]] = [[(1, 50, 98)]]  # its lower edge is at 103
    assert _count(CountOptions(zones=zone), place)["zones"]["yard"]["inside"] == {}
    assert _count(CountOptions(zones=zone, anchor="center"), place)["zones"]["yard"]["inside"] == {"car": 1}


def test_fractions_follow_the_size_of_the_picture() -> None:
    step = CountStep(CountOptions(lines={"gate": ((0, 0.5), (1, 0.5))}))
    for size in ((200, 300), (100, 150)):
        counts = step(_result([], size)).counts
        assert counts is not None
        assert counts.lines[0].end == (size[1], size[0] / 2)


def test_boxes_must_be_tracked() -> None:
    result = _result([])
    untracked = Detections.empty(names=(), size=SIZE)
    with pytest.raises(ValueError, match="expected tracked ones"):
        CountStep(MIDDLE)(FrameResult(frame=result.frame, detections=untracked, seconds=StageSeconds()))


def test_tracks_that_are_gone_are_forgotten() -> None:
    step = CountStep(MIDDLE)
    for number in range(2000):
        step(_result([(number, 100, 60)]))
    assert len(step._lines[0].objects) < 1000


def test_lines_and_zones_are_drawn() -> None:
    def red(image: ImageU8, x: int, y: int) -> bool:
        return bool((np.abs(image[y - 3 : y + 4, x - 3 : x + 4].astype(int) - 114).max()) > 40)

    options = CountOptions(
        lines={"gate": ((50, 100), (250, 100))}, zones={"yard": ((20, 120), (280, 120), (280, 190), (20, 190))}
    )
    result = CountStep(options)(_result([]))
    drawn = draw_result(result)
    assert all(red(drawn, x, y) for x, y in [(240, 100), (200, 190), (280, 150), (150, 90)])  # the last: the arrow
    assert not red(drawn, 150, 112)
    assert (result.frame.pixels == 114).all()


def test_from_a_file() -> None:
    text = """
    lines:
      gate: [[0, 0.5], [1, 0.5]]
    zones:
      yard: [[0, 0], [100, 0], [100, 50]]
    """
    options = CountOptions.from_config(yaml.safe_load(text), where="a.yaml")
    assert options.lines == {"gate": ((0, 0.5), (1, 0.5))}
    assert len(options.zones["yard"]) == 3
    assert json.loads(json.dumps(_count(options, [[]])))["zones"]["yard"] == {"inside": {}, "in": {}, "out": {}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("gate", "a.yaml: counting is no mapping"),
        ({"line": {}}, "a.yaml: counting: unknown key 'line', .* Did you mean 'lines'"),
        ({}, "nothing to count"),
        ({"lines": [[0, 0], [1, 1]]}, "lines are no mapping"),
        ({"lines": {"gate": [[0, 0]]}}, "line 'gate' has 1 points, expected two points"),
        ({"lines": {"gate": [[0, 0], [0, 0]]}}, "line 'gate' has the same point twice"),
        ({"lines": {"gate": [[0, 0], ["a", 1]]}}, "line 'gate' has wrong points"),
        ({"lines": {"gate": [[0, 0], [-1, 1]]}}, "line 'gate' has wrong points"),
        ({"zones": {"yard": [[0, 0], [5, 5]]}}, "zone 'yard' has 2 points, expected three or more corners"),
        ({"zones": {"yard": 7}}, "zone 'yard' has wrong points"),
        ({"lines": {"gate": [[0, 0], [1, 1]]}, "anchor": "top"}, "option anchor is unknown, got 'top'"),
    ],
)
def test_wrong_regions(data: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CountOptions.from_config(data, where="a.yaml")
