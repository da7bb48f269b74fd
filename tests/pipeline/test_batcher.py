from __future__ import annotations

import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from tests.support.media import picture
from yolotrt.pipeline.batcher import Backlog, Batcher, Gate, Inlet
from yolotrt.pipeline.channel import CancelledError
from yolotrt.pipeline.stream_state import StreamRecord
from yolotrt.types import Frame

PIXELS = picture()


def _inlets(*names: str, live: bool = False) -> list[Inlet]:
    return [Inlet(StreamRecord(name), live=live) for name in names]


def _frame(index: int, *, age_s: float | None = None) -> Frame:
    received = None if age_s is None else time.monotonic() - age_s
    return Frame(picture=PIXELS, source_id="a", index=index, received_s=received)


def _taken(batcher: Batcher) -> list[tuple[str, int]]:
    return [(item.inlet.record.name, item.frame.index) for item in batcher.take()]


def test_files_take_turns_whoever_is_faster() -> None:
    a, b = _inlets("a", "b")
    batcher = Batcher([a, b], 3)
    for index in range(4):
        batcher.put(a, _frame(index))
    batcher.put(b, _frame(0))
    assert _taken(batcher) == [("a", 0), ("b", 0), ("a", 1)]
    batcher.finish(b)
    batcher.finish(a)
    assert _taken(batcher) == [("a", 2), ("a", 3)]
    assert _taken(batcher) == []
    assert all(inlet.record.snapshot().accounted for inlet in (a, b))


def test_a_file_that_is_slow_is_awaited() -> None:
    a, b = _inlets("a", "b")
    batcher = Batcher([a, b], 2)
    batcher.put(a, _frame(0))
    threading.Timer(0.1, batcher.put, (b, _frame(0))).start()
    assert _taken(batcher) == [("a", 0), ("b", 0)]


def test_a_file_waits_for_room() -> None:
    (a,) = _inlets("a")
    batcher = Batcher([a], 1)
    for index in range(4):
        batcher.put(a, _frame(index))
    threading.Timer(0.1, batcher.take).start()
    started = time.monotonic()
    batcher.put(a, _frame(4))
    assert time.monotonic() - started > 0.05
    status = a.record.snapshot()
    assert (status.read, status.waiting, status.running, status.dropped) == (5, 4, 1, 0)


def test_a_reader_that_waits_is_woken_for_a_batch() -> None:
    (a,) = _inlets("a")
    batcher = Batcher([a], 4)
    for index in range(8):
        batcher.put(a, _frame(index))
    waits = threading.Thread(target=batcher.put, args=(a, _frame(8)))
    waits.start()
    waits.join(0.05)
    assert waits.is_alive()
    assert len(batcher.take()) == 4
    waits.join(5)
    assert len(a.waiting) == 5


def test_who_takes_is_woken_once_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    inlets = _inlets("a", "b")
    batcher = Batcher(inlets, 8)
    picks = []
    pick = batcher._pick
    monkeypatch.setattr(batcher, "_pick", lambda: picks.append(1) or pick())  # type: ignore[func-returns-value]
    found: list[list[tuple[str, int]]] = []
    takes = threading.Thread(target=lambda: found.append(_taken(batcher)))
    takes.start()
    for index in range(4):
        for inlet in reversed(inlets):
            time.sleep(0.01)
            batcher.put(inlet, _frame(index))
    takes.join(5)
    assert found == [[(name, index) for index in range(4) for name in "ab"]]
    assert len(picks) <= 2, "one found nothing, one all"


def test_a_stream_that_is_closed_leaves_the_batch_that_gathers() -> None:
    a, b = _inlets("a", "b")
    batcher = Batcher([a, b], 3)
    found: list[list[tuple[str, int]]] = []
    takes = threading.Thread(target=lambda: found.append(_taken(batcher)))
    takes.start()
    batcher.put(a, _frame(0))
    batcher.put(b, _frame(0))
    batcher.close(a)
    batcher.put(b, _frame(1))
    batcher.put(b, _frame(2))
    takes.join(5)
    assert found == [[("b", 0), ("b", 1), ("b", 2)]]
    assert (a.record.snapshot().dropped, a.record.snapshot().accounted) == (1, True)


def test_an_output_that_is_full_holds_files_back() -> None:
    a, b = _inlets("a", "b")
    gate = Gate(3)
    a.gates = b.gates = (gate,)
    batcher = Batcher([a, b], 2)
    for index in range(3):
        batcher.put(a, _frame(index))
        batcher.put(b, _frame(index))
    assert _taken(batcher) == [("a", 0), ("b", 0)]
    found: list[list[tuple[str, int]]] = []
    takes = threading.Thread(target=lambda: found.append(_taken(batcher)))
    takes.start()
    takes.join(0.05)
    assert not found
    batcher.release(gate)
    takes.join(5)
    assert found == [[("a", 1), ("b", 1)]]


def test_the_newest_picture_of_a_camera_wins() -> None:
    (a,) = _inlets("a", live=True)
    batcher = Batcher([a], 4)
    for index in range(5):
        batcher.put(a, _frame(index, age_s=0.3 - index / 20))
    assert _taken(batcher) == [("a", 4)]
    status = a.record.snapshot()
    assert (status.read, status.dropped, status.running) == (5, 4, 1)


def test_pictures_that_arrive_together_are_both_used() -> None:
    (a,) = _inlets("a", live=True)
    batcher = Batcher([a], 1)
    batcher.put(a, _frame(0, age_s=0.001))
    batcher.put(a, _frame(1, age_s=0))
    assert [_taken(batcher), _taken(batcher)] == [[("a", 0)], [("a", 1)]]


def _idle(batcher: Batcher, inlet: Inlet) -> None:
    """Let the engine have waited for its second picture."""
    batcher.put(inlet, _frame(-2, age_s=0))
    assert len(batcher.take()) == 1
    threading.Timer(0.05, batcher.put, (inlet, _frame(-1, age_s=0))).start()
    assert len(batcher.take()) == 1


def _keeps_up_for(monkeypatch: pytest.MonkeyPatch, age_s: float) -> None:
    monkeypatch.setattr("yolotrt.pipeline.batcher._KEEPING_UP", Backlog(pictures=8, age_s=age_s))


def test_an_engine_that_keeps_up_loses_nothing_after_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    _keeps_up_for(monkeypatch, 60.0)
    (a,) = _inlets("a", live=True)
    batcher = Batcher([a], 4)
    _idle(batcher, a)
    a.max_latency_s = 60.0
    for index in range(8):
        batcher.put(a, _frame(index, age_s=20 - index))
    assert [_taken(batcher), _taken(batcher)] == [[("a", n) for n in range(4)], [("a", n) for n in range(4, 8)]]
    assert a.record.snapshot().dropped == 0


def test_an_engine_that_falls_behind_takes_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    _keeps_up_for(monkeypatch, 60.0)
    (a,) = _inlets("a", live=True)
    batcher = Batcher([a], 1)
    _idle(batcher, a)
    for index in range(20):
        batcher.put(a, _frame(index, age_s=0.1))
    assert a.record.snapshot().dropped == 12, "eight may wait"
    assert _taken(batcher) == [("a", 12)]
    _keeps_up_for(monkeypatch, 0.0)  # it has not been idle for longer than that
    batcher.put(a, _frame(20, age_s=0))
    assert _taken(batcher) == [("a", 20)]
    assert a.record.snapshot().accounted


@pytest.mark.parametrize(("waited_s", "dropped"), [(0.3, 0), (0.2, 3)])
def test_an_engine_that_hardly_waits_cannot_catch_up(
    monkeypatch: pytest.MonkeyPatch, waited_s: float, dropped: int
) -> None:
    """A quarter of the time from batch to batch."""
    _keeps_up_for(monkeypatch, 0.5)
    now = [100.0]
    monkeypatch.setattr("yolotrt.pipeline.batcher.time", SimpleNamespace(monotonic=lambda: now[0]))
    (a,) = _inlets("a", live=True)
    batcher = Batcher([a], 1)
    batcher.put(a, Frame(picture=PIXELS, source_id="a", index=0, received_s=now[0]))
    batcher.take()
    now[0] += 1 - waited_s  # the engine works

    def come() -> None:
        now[0] += waited_s
        batcher.put(a, Frame(picture=PIXELS, source_id="a", index=1, received_s=now[0]))

    threading.Timer(0.05, come).start()
    assert len(batcher.take()) == 1
    for index in range(5):
        batcher.put(a, Frame(picture=PIXELS, source_id="a", index=index, received_s=now[0]))
    assert a.record.snapshot().dropped == dropped


def test_an_engine_has_to_show_first_that_it_keeps_up() -> None:
    (a,) = _inlets("a", live=True)
    batcher = Batcher([a], 4)
    for index in range(5):
        batcher.put(a, _frame(index, age_s=0))
    assert a.record.snapshot().dropped == 3
    batcher.take()  # which waited for nothing
    for index in range(5, 10):
        batcher.put(a, _frame(index, age_s=0))
    assert a.record.snapshot().dropped == 6


def test_an_engine_that_waits_for_an_output_catches_nothing_up() -> None:
    (a,) = _inlets("a", live=True)
    gate = Gate(3)
    a.gates = (gate,)
    batcher = Batcher([a], 1)
    _idle(batcher, a)
    batcher.put(a, _frame(0, age_s=0))
    assert _taken(batcher) == [("a", 0)]  # the output has all that it takes
    for index in range(1, 6):
        batcher.put(a, _frame(index, age_s=0))
    assert a.record.snapshot().dropped == 3
    batcher.release(gate)
    assert _taken(batcher) == [("a", 4)]


def test_no_picture_is_older_than_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _keeps_up_for(monkeypatch, 60.0)
    (a,) = _inlets("a", live=True)
    batcher = Batcher([a], 4)
    _idle(batcher, a)
    for age_s in (20, 10, 0):
        batcher.put(a, _frame(age_s, age_s=age_s))
    assert _taken(batcher) == [("a", 0)], "max_latency_s is a second"


def test_many_cameras_lose_nothing_after_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    _keeps_up_for(monkeypatch, 60.0)
    inlets = _inlets(*(f"{n}" for n in range(16)), live=True)
    batcher = Batcher(inlets, 32)
    for index in (-1, 0):
        batcher.put(inlets[0], _frame(index, age_s=0))
        assert _taken(batcher) == [("0", index)]  # it had a moment for more
    for index in range(1, 5):
        for inlet in inlets:
            inlet.max_latency_s = 60.0
            batcher.put(inlet, _frame(index, age_s=20 - index))
    assert [len(batcher.take()), len(batcher.take())] == [32, 32]
    assert all(inlet.record.snapshot().dropped == 0 for inlet in inlets)


def test_pictures_that_are_too_old_are_dropped() -> None:
    a = Inlet(StreamRecord("a"), live=True, max_latency_s=0.2)
    batcher = Batcher([a], 1)
    batcher.put(a, _frame(0, age_s=0.5))
    batcher.finish(a)
    threading.Timer(0.1, batcher.cancel).start()
    assert _taken(batcher) == []
    assert a.record.snapshot().dropped == 1


def test_cameras_get_as_many_turns_as_each_other() -> None:
    inlets = _inlets("a", "b", "c", live=True)
    batcher = Batcher(inlets, 1)
    turns: Counter[str] = Counter()
    for index in range(30):
        for inlet in inlets:
            batcher.put(inlet, _frame(index, age_s=0))
        turns.update(name for name, _ in _taken(batcher))
    assert set(turns.values()) == {10}
    assert all(inlet.record.snapshot().accounted for inlet in inlets)


def test_a_camera_never_waits_for_another_one() -> None:
    a, b = _inlets("a", "b", live=True)
    batcher = Batcher([a, b], 2)
    batcher.put(a, _frame(0, age_s=0))
    assert _taken(batcher) == [("a", 0)]


def test_an_output_that_is_full_holds_only_its_own_stream_back() -> None:
    a, b = _inlets("a", "b", live=True)
    gate = Gate(1)
    a.gates = (gate,)
    batcher = Batcher([a, b], 2)
    for _ in range(2):
        for inlet in (a, b):
            batcher.put(inlet, _frame(0, age_s=0))
    assert _taken(batcher) == [("a", 0), ("b", 0)]
    assert _taken(batcher) == [("b", 0)]
    batcher.release(gate)
    assert _taken(batcher) == [("a", 0)]


def test_the_end() -> None:
    a, b = _inlets("a", "b")
    batcher = Batcher([a, b], 1)
    batcher.put(a, _frame(0))
    batcher.close(a)
    with pytest.raises(CancelledError):
        batcher.put(a, _frame(1))
    batcher.put(b, _frame(0))
    batcher.cancel()
    with pytest.raises(CancelledError):
        batcher.put(b, _frame(1))
    assert _taken(batcher) == []
    for inlet in (a, b):
        status = inlet.record.snapshot()
        assert (status.read, status.dropped, status.accounted) == (2, 2, True)


def test_many_cameras_fill_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full batch is taken at once, and what comes meanwhile joins one that is not."""
    monkeypatch.setattr("yolotrt.pipeline.batcher._GATHER_S", 60.0)
    inlets = _inlets(*"abcd", live=True)
    batcher = Batcher(inlets, 4)
    batcher.put(inlets[0], _frame(0, age_s=0))

    def put_others() -> None:
        for inlet in inlets[1:]:
            batcher.put(inlet, _frame(1, age_s=0))

    threading.Timer(0.1, put_others).start()
    started = time.monotonic()
    assert len(batcher.take()) == 4
    assert time.monotonic() - started < 30
    monkeypatch.setattr("yolotrt.pipeline.batcher._GATHER_S", 0.01)
    batcher.put(inlets[2], _frame(2, age_s=0))
    assert _taken(batcher) == [("c", 2)]


def test_a_few_cameras_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolotrt.pipeline.batcher._GATHER_S", 60.0)
    inlets = _inlets("a", "b", live=True)
    batcher = Batcher(inlets, 8)
    batcher.put(inlets[1], _frame(0, age_s=0))
    started = time.monotonic()
    assert _taken(batcher) == [("b", 0)]
    assert time.monotonic() - started < 30


def test_the_end_while_cameras_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolotrt.pipeline.batcher._GATHER_S", 60.0)
    batcher = Batcher(_inlets(*"abcd", live=True), 4)
    threading.Timer(0.1, batcher.cancel).start()
    started = time.monotonic()
    assert batcher.take() == []
    assert time.monotonic() - started < 30


def test_a_hundred_cameras_each_get_their_turn() -> None:
    inlets = _inlets(*(f"{n}" for n in range(100)), live=True)
    batcher = Batcher(inlets, 32)
    for index in range(2):
        for inlet in inlets:
            batcher.put(inlet, _frame(index, age_s=0))
    seen = [_taken(batcher) for _ in range(7)]
    assert [len(batch) for batch in seen] == [32] * 6 + [8]
    flat = [pair for batch in seen for pair in batch]
    assert flat == [(f"{n}", index) for index in range(2) for n in range(100)]
