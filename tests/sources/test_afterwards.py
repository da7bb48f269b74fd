"""What ends in `__del__` waits for nobody, and is not forgotten."""

from __future__ import annotations

import threading

import pytest

from yolotrt.sources.afterwards import Afterwards


def test_at_once_where_nobody_is_in_the_way() -> None:
    done: list[int] = []
    ended = Afterwards(done.append)
    ended.hand_in(1)
    assert done == [1]


def test_in_the_midst_of_what_the_lock_guards() -> None:
    """The garbage collector ran there."""
    done: list[int] = []
    ended = Afterwards(done.append)
    with ended:
        ended.hand_in(1)
        ended.hand_in(2)
        assert done == []
    assert done == [1, 2]


@pytest.mark.timeout(20)
def test_nobody_waits_for_another_thread() -> None:
    done: list[tuple[str, int]] = []
    ended: Afterwards[int] = Afterwards(lambda item: done.append((threading.current_thread().name, item)))
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with ended:
            inside.set()
            leave.wait()

    holder = threading.Thread(target=hold, name="holder")
    holder.start()
    inside.wait()
    ended.hand_in(1)
    assert done == []
    leave.set()
    holder.join()
    assert done == [("holder", 1)]


def test_what_ends_may_end_others() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        done.append(item)
        if item < 3:
            ended.hand_in(item + 1)
            assert done[-1] == item, "one at a time"

    ended = Afterwards(work)
    ended.hand_in(1)
    assert done == [1, 2, 3]


def test_one_that_fails_leaves_the_lock_free() -> None:
    done: list[float] = []
    ended: Afterwards[int] = Afterwards(lambda item: done.append(1 / item))
    with pytest.raises(ZeroDivisionError):
        ended.hand_in(0)
    with ended:
        pass
    ended.hand_in(1)
    assert done == [1]


@pytest.mark.timeout(60)
def test_two_that_end_each_other() -> None:
    """Whoever holds one of two locks hands in what belongs to the other: with waiting, both would wait for ever."""
    counts = [0, 0]
    pair: list[Afterwards[None]] = []

    def work(number: int) -> None:
        counts[number] += 1

    pair.extend((Afterwards(lambda _: work(0)), Afterwards(lambda _: work(1))))

    def collect(mine: int) -> None:
        for _ in range(20_000):
            with pair[mine]:
                pair[1 - mine].hand_in(None)

    threads = [threading.Thread(target=collect, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [20_000, 20_000], "each is done once"
