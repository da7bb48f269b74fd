from __future__ import annotations

import re

import pytest

from yolotrt.errors import UsageError
from yolotrt.sinks.limits import Limit, stamp


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("90s", Limit(seconds=90)),
        ("10m", Limit(seconds=600)),
        ("1.5 h", Limit(seconds=5400)),
        ("1d", Limit(seconds=86_400)),
        ("500MB", Limit(size=500_000_000)),
        ("2gb", Limit(size=2_000_000_000)),
        ("1KiB", Limit(size=1024)),
    ],
)
def test_times_and_sizes(text: str, limit: Limit) -> None:
    assert Limit.parse(text, option="split") == limit


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "0s", "10M", "ten minutes", "5 m b"])
def test_what_is_neither(text: str) -> None:
    with pytest.raises(UsageError, match="option split is neither a time nor a size"):
        Limit.parse(text, option="split")


def test_reached() -> None:
    assert Limit(seconds=5).reached(seconds=5, size=0)
    assert not Limit(seconds=5).reached(seconds=4.9, size=10**12)
    assert Limit(size=5).reached(seconds=0, size=5)


def test_names_by_time_sort() -> None:
    assert re.fullmatch(r"\d{8}-\d{6}", stamp())
    assert stamp(seconds_ago=86_400) < stamp()
