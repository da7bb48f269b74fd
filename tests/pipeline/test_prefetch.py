"""Reading ahead: in order, bounded, and over when the consumer is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from yolotrt.pipeline.prefetch import prefetched


def reader_threads() -> int:
    return sum(t.name == "yolotrt-reader" for t in threading.enumerate())


def test_order_and_end() -> None:
    with prefetched(range(100), capacity=3) as channel:
        taken = []
        while batch := channel.take(3):
            taken += batch
    assert taken == list(range(100))
    assert reader_threads() == 0


def test_it_is_never_further_ahead_than_it_may() -> None:
    made = 0

    def count() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    with prefetched(count(), capacity=4) as channel:
        assert channel.take(1) == [1]
        deadline = time.monotonic() + 5
        while made < 6 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert made == 6  # one taken, four waiting, one in the hand of the reader


def test_an_error_comes_behind_the_items_before_it() -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise RuntimeError("the camera fell down")

    with prefetched(fail(), capacity=4) as channel:
        assert channel.take(1) == [1]
        with pytest.raises(RuntimeError, match="the camera fell down"):
            channel.take(1)
    assert reader_threads() == 0


def test_a_consumer_that_leaves_early_ends_the_reader() -> None:
    def forever() -> Iterator[int]:
        while True:
            yield 0

    with prefetched(forever(), capacity=2) as channel:
        channel.take(1)
    assert reader_threads() == 0
