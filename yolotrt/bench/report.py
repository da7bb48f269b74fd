"""What a measurement found, as data. `view` shows it, `BenchResult.to_dict` is what `--json` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolotrt.backends.base import BackendInfo
from yolotrt.bench.loadgen import ScenarioResult
from yolotrt.bench.machine import Load, Machine
from yolotrt.bench.roofline import Roof
from yolotrt.bench.stages import ENGINE, HOST_TO_BOXES
from yolotrt.bench.start import Start
from yolotrt.bench.timing import Summary
from yolotrt.bench.versus import Race
from yolotrt.plain import plain


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """One measurement.

    Attributes:
        model: as it was asked for.
        info: what ran it.
        machine: what it ran on.
        load: how busy that was.
        threads: that were asked for; 0 stands for one per physical core.
        batch: pictures of one inference of the engine alone and of the stream.
        streamed: pictures of one call of the stream.
        picture: (height, width) of each picture size that was detected in, in pixels.
        parts: times by part, in milliseconds; of the stream, per picture.
        starts: fresh processes, which find what earlier ones kept on disk: warm starts.
        first_starts: the same with nothing kept on disk: cold starts; empty on a CPU, for which nothing is kept.
        peak_mib: most memory of a fresh process until its first boxes; None where unknown or not measured.
        device_mib: memory of the GPU that one takes; None without a GPU.
        roof: of the engine alone; None where there is no ONNX file to count in.
        races: against another library, by case.
        scenarios: LoadGen's.
        notes: what a reader must know of the figures.
    """

    model: Path
    info: BackendInfo
    machine: Machine
    load: Load
    threads: int
    batch: int
    streamed: int = 0
    picture: Sequence[tuple[int, int]] = ()
    parts: Mapping[str, Summary] = field(default_factory=dict)
    starts: Sequence[Start] = ()
    first_starts: Sequence[Start] = ()
    peak_mib: float | None = None
    device_mib: float | None = None
    roof: Roof | None = None
    races: Sequence[Race] = ()
    scenarios: Sequence[ScenarioResult] = ()
    notes: Sequence[str] = ()

    @property
    def around_engine_ms(self) -> float | None:
        """Of pictures to boxes as one piece of work: its median minus that of the engine alone; else None."""
        whole, engine = self.parts.get(HOST_TO_BOXES), self.parts.get(ENGINE)
        if whole is None or engine is None or self.batch != 1 or f"{HOST_TO_BOXES}: inference" in self.parts:
            return None
        return whole.p50 - engine.p50

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: times in milliseconds, starts in seconds."""
        data: dict[str, Any] = plain(dataclasses.replace(self, races=(), roof=None))
        data["load"]["busy"] = self.load.busy
        data["around_engine_ms"] = self.around_engine_ms
        if self.roof is not None:
            data["roof"] = {**plain(self.roof), "share": self.roof.share}
        data["races"] = [_race(race) for race in self.races]
        return data


def _race(race: Race) -> dict[str, Any]:
    return {
        "title": race.case.title,
        "rounds": race.rounds,
        "milliseconds": {name: race.milliseconds(name) for name in race.rows},
        "ratios": {what: dataclasses.asdict(ratio) for what, ratio in race.ratios().items()},
    }
