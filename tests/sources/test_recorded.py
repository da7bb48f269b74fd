"""The times of recordings, as they are stored and as they are told."""

from __future__ import annotations

import pytest

from yolotrt.sources.recorded import RecordedClock


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ([5.0, 5.5, 6.0], [0, 0.5, 1]),
        ([0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 5]),  # two parts
        ([0, 0.2, 0.4] * 3, [0.2 * n for n in range(9)]),  # short ones
        ([0, 0.1, 0.3, 0.2, 0.4], [0, 0.1, 0.3, 0.3, 0.4]),  # out of order
        ([0, 1, 900, 2, 3], [0, 1, 900, 2, 3]),  # a damaged one
        ([0, 1, 900, 901, 902], [0, 1, 900, 901, 902]),  # a gap
        ([0, 1, 900, 0, 1], [0, 1, 900, 901, 902]),  # a gap before the end of a part
    ],
)
def test_times(stored: list[float], told: list[float]) -> None:
    clock = RecordedClock()
    assert [clock.place(seconds) for seconds in stored] == pytest.approx(told)
