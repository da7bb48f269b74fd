"""What `yolotrt bench` measures, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from yolotrt.backends import BackendName
from yolotrt.errors import UsageError

Rival = Literal["ultralytics"]
Scenario = Literal["single-stream", "multi-stream", "offline", "server"]
MAX_THREADS = 4096


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of a measurement.

    Attributes:
        model: a plan, an ONNX file, a bundle or weights.
        images: pictures to detect in; empty takes a sample picture of 1920 x 1080.
        seconds: of measuring, over all stages; also LoadGen's least duration of a scenario.
        batch: pictures of one inference; None takes the size that the model is tuned for.
        threads: of a CPU back-end; 0 takes one per physical core.
        backend, device, trust: as of `Detector`.
        graphs: as of `Detector`.
        starts: fresh processes that are timed from their start to the first boxes; 0 leaves that out.
        compare: another library to race.
        scenarios: of MLPerf LoadGen; with them nothing else is measured.
        output: folder for LoadGen's own files.
        target_qps: queries per second that LoadGen's server scenario sends; None takes half of what runs in batches.
        target_latency_ms: within which 99 % of those must be answered.
    """

    model: Path
    images: tuple[Path, ...] = ()
    seconds: float = 10.0
    batch: int | None = None
    threads: int = 0
    backend: BackendName = "auto"
    device: str = "auto"
    trust: bool = False
    graphs: bool | None = None
    starts: int = 3
    compare: Rival | None = None
    scenarios: tuple[Scenario, ...] = ()
    output: Path | None = None
    target_qps: float | None = None
    target_latency_ms: float = 100.0

    def __post_init__(self) -> None:
        _at_least("seconds", self.seconds, 0.0, above=True)
        _at_least("batch", self.batch, 1)
        _at_least("threads", self.threads, 0)
        _at_least("starts", self.starts, 0)
        _at_least("target_qps", self.target_qps, 0.0, above=True)
        _at_least("target_latency_ms", self.target_latency_ms, 0.0, above=True)
        if self.threads > MAX_THREADS:
            raise UsageError("option threads is out of range", got=self.threads, expected=f"0 to {MAX_THREADS}")
        if self.compare is not None and self.compare not in get_args(Rival):
            raise UsageError("option compare is unknown", got=self.compare, expected=" | ".join(get_args(Rival)))
        for scenario in self.scenarios:
            if scenario not in get_args(Scenario):
                raise UsageError("option loadgen is unknown", got=scenario, expected=" | ".join(get_args(Scenario)))
        if self.scenarios and self.output is None:
            raise UsageError("option loadgen needs a folder for LoadGen's own files", expected="--output DIR")
        if self.output is not None and not self.scenarios:
            raise UsageError("option output belongs to --loadgen")
        if self.scenarios and self.compare:
            raise UsageError("options loadgen and compare exclude each other", remedy="Run them one after the other.")


def _at_least(name: str, value: float | None, least: float, *, above: bool = False) -> None:
    if value is None:
        return
    if not (value > least if above else value >= least) or value == float("inf"):
        raise UsageError(
            f"option {name} is out of range", got=value, expected=f"{'more than' if above else 'at least'} {least:g}"
        )
