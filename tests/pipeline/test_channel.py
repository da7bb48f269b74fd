from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from yolotrt.pipeline.channel import CancelledError, Channel


def test_items_in_order_then_the_end() -> None:
    channel: Channel[int] = Channel(8)
    for i in range(5):
        channel.put(i)
    channel.finish()
    assert channel.take(2) == [0, 1]
    assert channel.take(4) == [2, 3, 4]
    assert channel.take() == []


def test_put_waits_for_room() -> None:
    channel: Channel[int] = Channel(2)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: list(map(channel.put, range(3))))
        time.sleep(0.05)
        assert not done.done()
        assert channel.take() == [0]
        done.result(timeout=5)
        assert channel.take(2) == [1, 2]


def test_take_waits_for_a_full_batch() -> None:
    channel: Channel[int] = Channel(4)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(channel.take, 2)
        channel.put(1)
        time.sleep(0.05)
        assert not taken.done()
        channel.put(2)
        assert taken.result(timeout=5) == [1, 2]


def test_an_error_of_the_producer_comes_behind_its_items() -> None:
    channel: Channel[int] = Channel(4)
    channel.put(1)
    channel.finish(ValueError("broken"))
    assert channel.take(2) == [1]
    with pytest.raises(ValueError, match="broken"):
        channel.take()


def test_cancel_wakes_the_producer() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    timer = threading.Timer(0.05, channel.cancel)
    timer.start()
    with pytest.raises(CancelledError):
        channel.put(2)
    timer.join()


def test_cancel_wakes_the_consumer() -> None:
    channel: Channel[int] = Channel(1)
    timer = threading.Timer(0.05, channel.cancel)
    timer.start()
    with pytest.raises(CancelledError):
        channel.take()
    timer.join()
