"""Rounds and their summaries, with clocks that tell what the test wants."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from yolotrt.bench import timing
from yolotrt.bench.timing import WARM_UP, Parts, Stage, Summary, measure, timed


class Counted:
    """A stage that gives the number of its call as its time."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.calls, self._log = name, 0, log

    def __call__(self) -> Parts:
        self.calls += 1
        self._log.append(self.name)
        return {self.name: float(self.calls), f"{self.name}: half": self.calls / 2}


def test_every_stage_gets_a_turn_in_every_round() -> None:
    log: list[str] = []
    stages = [Stage(name=name, run=Counted(name, log)) for name in ("a", "b", "c")]
    turns: list[None] = []
    found = measure(stages, seconds=1e-9, rounds=4, on_turn=lambda: turns.append(None))
    assert list(found) == ["a", "a: half", "b", "b: half", "c", "c: half"]
    assert all([len(row) for row in rows] == [1] * 4 for rows in found.values())
    assert len(turns) == 12
    after = log[3 * WARM_UP :]
    # Two calls a turn, of which the second counts; three turns a round, each stage once.
    assert [after[i] for i in range(0, len(after), 2)] == [after[i] for i in range(1, len(after), 2)]
    rounds = [set(after[i : i + 6]) for i in range(0, len(after), 6)]
    assert rounds == [{"a", "b", "c"}] * 4
    assert [row[0] for row in found["a"]] == [WARM_UP + 2 * turn for turn in range(1, 5)]


class Clock:
    """A clock that only a stage moves."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, _seconds: float) -> None:
        self.slept += 1

    def work(self, seconds: float) -> None:
        self.now += seconds


def test_a_turn_lasts_for_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    stages = [Stage(name=str(s), run=timed(str(s), partial(clock.work, s))) for s in (1.0, 2.5)]
    found = measure(stages, seconds=40, rounds=2)
    # Ten seconds a turn.
    assert found["1.0"] == [[1.0] * 10] * 2
    assert found["2.5"] == [[2.5] * 4] * 2
    assert clock.slept == 4


def test_a_summary() -> None:
    seconds = np.linspace(0.001, 0.1, 100)
    found = Summary.of([seconds[:50].tolist(), seconds[50:].tolist()])
    assert (found.runs, found.fastest) == pytest.approx((100, 1.0))
    assert (found.p50, found.p90, found.p99) == pytest.approx((50.5, 90.1, 99.01))
    assert found.rounds == pytest.approx((25.5, 75.5))


def test_few_calls_have_no_99th_percentile() -> None:
    assert Summary.of([[0.1] * 50, [], [0.1] * 49]).p99 is None
    assert Summary.of([[0.1] * 50, [], [0.1] * 50]).p99 == pytest.approx(100.0)
