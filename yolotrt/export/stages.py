"""The stages of an export as they are reported: a name, a time, a result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["running", "done", "reused", "skipped"]


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """One stage. Produced by the pipeline, consumed by progress displays and `--json`.

    Attributes:
        name: of the stage.
        state: `running` while it works; `reused` where an older result was unchanged; `skipped` where it does not
            apply.
        seconds: it took; 0.0 while it runs.
        result: what came out, in a few words.
        details: the same in numbers, JSON-ready.
    """

    name: str
    state: State
    seconds: float = 0.0
    result: str = ""
    details: dict[str, Any]


OnStage = Callable[[StageReport], None]
"""Called when a stage starts or says something new (`running`), and once when it ends."""


class RunningStage:
    """A stage at work; the block that `StageLog.stage` guards fills in `result` and `details`."""

    def __init__(self, name: str, on_stage: OnStage | None) -> None:
        self.name, self.result, self.state = name, "", "done"
        self.details: dict[str, Any] = {}
        self._on_stage = on_stage

    def say(self, text: str) -> None:
        """Tell what is going on right now."""
        if self._on_stage:
            self._on_stage(StageReport(name=self.name, state="running", result=text, details={}))


class StageLog:
    """Runs stages and keeps their reports."""

    def __init__(self, on_stage: OnStage | None = None) -> None:
        self.reports: list[StageReport] = []
        self._on_stage = on_stage

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[RunningStage]:
        """Time the block and report it. A stage that raises is not reported as ended."""
        running = RunningStage(name, self._on_stage)
        running.say("")
        start = time.perf_counter()
        yield running
        self._end(StageReport(
            name=name,
            state="done",
            seconds=time.perf_counter() - start,
            result=running.result,
            details=running.details,
        ))  # fmt: skip

    def reused(self, name: str, result: str, **details: Any) -> None:
        """Report a stage whose older result is still good."""
        self._end(StageReport(name=name, state="reused", result=result, details=details))

    def skipped(self, name: str, why: str) -> None:
        """Report a stage that does not apply."""
        self._end(StageReport(name=name, state="skipped", result=why, details={}))

    def _end(self, report: StageReport) -> None:
        self.reports.append(report)
        if self._on_stage:
            self._on_stage(report)
