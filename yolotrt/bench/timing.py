"""Timing in rounds: every stage gets a turn in each round, so that whatever else the machine does falls on all of them.

Before each turn there is a pause, because the idle threads of the runtime before still spin for a while, and one call
that is not counted, because the caches hold another stage's data by then.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PAUSE_S = 0.05
ROUNDS = 10
WARM_UP = 3
_LEAST_FOR_P99 = 100

Parts = Mapping[str, float]
"""Seconds of one call, by the name of the part."""

Samples = Sequence[Sequence[float]]
"""Seconds of each call, by round."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Something to time.

    Attributes:
        name: told while it runs.
        run: makes one call, and gives the seconds of each part of it. Names of parts are unique over all stages.
        pictures: of one call.
    """

    name: str
    run: Callable[[], Parts]
    pictures: int = 1


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The times of one part, in milliseconds.

    Attributes:
        runs: calls that were counted.
        p50, p90, p99: percentiles over all calls; p99 is None with fewer than 100 of them.
        fastest: of all calls.
        rounds: the lowest and the highest median of a round: the spread of p50.
    """

    runs: int
    p50: float
    p90: float
    p99: float | None
    fastest: float
    rounds: tuple[float, float]

    @classmethod
    def of(cls, samples: Samples) -> Summary:
        """Summarize seconds by round; rounds without a call are left out."""
        kept = [1e3 * np.asarray(row, np.float64) for row in samples if len(row)]
        every = np.concatenate(kept)
        p50, p90, p99 = np.percentile(every, [50, 90, 99]).tolist()
        medians = [float(np.median(row)) for row in kept]
        return cls(
            runs=len(every),
            p50=p50,
            p90=p90,
            p99=p99 if len(every) >= _LEAST_FOR_P99 else None,
            fastest=float(every.min()),
            rounds=(min(medians), max(medians)),
        )


def measure(
    stages: Sequence[Stage],
    *,
    seconds: float,
    rounds: int = ROUNDS,
    on_turn: Callable[[], None] = lambda: None,
) -> dict[str, Samples]:
    """Time all stages in turns.

    Args:
        stages: what to time; each makes at least one counted call per round.
        seconds: for all of it, without the pauses and the calls that are not counted.
        rounds: how many turns each stage gets; their order is another one in each round.
        on_turn: called after each turn.

    Returns:
        By part, in the order of the stages.
    """
    found: dict[str, list[list[float]]] = {}
    for stage in stages:
        for _ in range(WARM_UP):
            names = list(stage.run())
        found |= {name: [[] for _ in range(rounds)] for name in names}
    turn = seconds / rounds / max(len(stages), 1)
    order = random.Random(0)  # noqa: S311 (an order of turns, not a secret)
    for number in range(rounds):
        for stage in order.sample(list(stages), len(stages)):
            time.sleep(PAUSE_S)
            stage.run()
            began = time.perf_counter()
            while True:
                for name, taken in stage.run().items():
                    found[name][number].append(taken)
                if time.perf_counter() - began >= turn:
                    break
            on_turn()
    return dict(found)


def turn_s(seconds: float, *, stages: int = 3, rounds: int = ROUNDS) -> float:
    """How long a turn lasts, about, before it is known how many stages there are."""
    return seconds / rounds / stages


def timed(name: str, call: Callable[[], object]) -> Callable[[], Parts]:
    """A `Stage.run` that takes the wall clock of the whole call."""

    def run() -> Parts:
        started = time.perf_counter()
        call()
        return {name: time.perf_counter() - started}

    return run
