"""MLPerf's LoadGen in charge: it sends the queries, takes the time, and says whether the run was valid.

The runs are short. A submission to MLPerf needs at least ten minutes per scenario, LoadGen's own data set sizes and an
accuracy run besides; this gives the same scenarios and rules of counting, for comparing machines and models.
"""

from __future__ import annotations

import contextlib
import queue
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from yolotrt.bench.options import Scenario
from yolotrt.bench.pictures import frames_of
from yolotrt.detector import Detector
from yolotrt.errors import EvaluationError, MissingExtraError
from yolotrt.files import writing
from yolotrt.types import Frame, ImageU8

SHORT = "short runs: a submission to MLPerf needs 600 s and more for each scenario, and an accuracy run"
_NAMES: dict[Scenario, str] = {
    "single-stream": "SingleStream",
    "multi-stream": "MultiStream",
    "offline": "Offline",
    "server": "Server",
}
# With fewer LoadGen calls a run invalid: too few for its bounds on the 90th percentile (64), and on the 99th (661).
_LEAST_QUERIES: dict[Scenario, int] = {"single-stream": 100, "multi-stream": 662, "offline": 1, "server": 662}
_STREAMS = 8  # pictures of one MultiStream query, as MLPerf has it
_KEPT = ("mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_accuracy.json")
_LOOKS = 5
_ASIDE_S = 0.002
# The line of the summary that holds what a scenario is judged by, and its unit here.
_FIGURES: dict[Scenario, tuple[str, float, str]] = {
    "single-stream": (r"90(\.0)?th percentile latency \(ns\)", 1e-6, "ms, 90th percentile"),
    "multi-stream": (r"99(\.0)?th percentile latency \(ns\)", 1e-6, f"ms, 99th percentile of {_STREAMS} pictures"),
    "offline": (r"Samples per second", 1.0, "pictures/s"),
    "server": (r"Completed samples per second", 1.0, "pictures/s"),
}


@dataclass(frozen=True, kw_only=True)
class ScenarioResult:
    """What LoadGen says of one scenario.

    Attributes:
        scenario: which.
        valid: whether the run kept LoadGen's rules.
        figure: what the scenario is judged by, in `unit`.
        unit: of `figure`.
        reasons: what LoadGen has to say where it was not valid.
        summary: LoadGen's own summary, by the names it uses.
        files: LoadGen's own, in the folder that was asked for.
    """

    scenario: Scenario
    valid: bool
    figure: float
    unit: str
    reasons: Sequence[str]
    summary: dict[str, str]
    files: Sequence[Path]


def require_loadgen() -> Any:
    """The module. Raises MissingExtraError where it is not installed."""
    try:
        import mlperf_loadgen
    except ImportError as e:
        raise MissingExtraError("mlcommons-loadgen", "loadgen", needed_for="MLPerf LoadGen") from e
    return mlperf_loadgen


def run_scenario(
    detector: Detector,
    scenario: Scenario,
    pictures: Sequence[ImageU8],
    *,
    output: Path,
    seconds: float,
    target_qps: float | None = None,
    target_latency_ms: float = 100.0,
) -> ScenarioResult:
    """Let LoadGen run one scenario, and keep its files in `output/SCENARIO`.

    Args:
        detector: answers the queries; nothing else uses it meanwhile.
        scenario: which.
        pictures: the sample library, in memory.
        output: folder; a subfolder of the scenario's name is replaced as a whole.
        seconds: the least duration.
        target_qps: of the server scenario; None takes half of what the detector does in batches.
        target_latency_ms: of the server scenario, for 99 % of the queries.

    Raises:
        MissingExtraError: LoadGen is not installed.
        SinkError: the folder cannot be written.
        YolotrtError: the detector failed.
    """
    loadgen = require_loadgen()
    with _folder(output / scenario) as folder:
        settings = _settings(loadgen, detector, scenario, pictures, seconds, target_qps, target_latency_ms)
        served = _Server(loadgen, detector, frames_of(pictures), scenario)
        _run(loadgen, settings, served, len(pictures), folder)
        if served.failure is not None:
            raise served.failure
        summary = _read(folder / _KEPT[0])
    return _result(scenario, summary, output / scenario)


def _settings(
    loadgen: Any,
    detector: Detector,
    scenario: Scenario,
    pictures: Sequence[ImageU8],
    seconds: float,
    target_qps: float | None,
    target_latency_ms: float,
) -> Any:
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, _NAMES[scenario])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = max(int(seconds * 1e3), 1)
    settings.min_query_count = _LEAST_QUERIES[scenario]
    settings.performance_sample_count_override = len(pictures)
    settings.multi_stream_samples_per_query = _STREAMS
    settings.server_target_latency_ns = int(target_latency_ms * 1e6)
    # LoadGen makes its queries beforehand, as many as the expected speed asks for; with too few a run would end before
    # its least duration, and be invalid. So twice the speed is expected.
    if scenario in ("offline", "server"):
        rate = _rate(detector, frames_of(pictures))
        settings.offline_expected_qps = rate * 2 / 1.1  # it multiplies by 1.1 by itself
        settings.server_target_qps = target_qps or rate / 2
    else:
        nanoseconds = _latency(detector, frames_of(pictures)) * 1e9 / 2
        settings.single_stream_expected_latency_ns = max(int(nanoseconds), 1)
        settings.multi_stream_expected_latency_ns = max(int(nanoseconds * _STREAMS / detector.spec.batch.opt), 1)
    return settings


def _rate(detector: Detector, frames: Sequence[Frame]) -> float:
    """Pictures per second in batches, by a short look: LoadGen wants to be told beforehand."""
    size = detector.spec.batch.opt
    some = [[frames[(i + j) % len(frames)] for j in range(size)] for i in range(16)]
    warm = sum(1 for _ in detector.detect_batches(some))
    began = time.perf_counter()
    for _ in detector.detect_batches(some):
        pass
    return warm / (time.perf_counter() - began)


def _latency(detector: Detector, frames: Sequence[Frame]) -> float:
    """Seconds of the fastest of some calls with one picture."""
    fastest = float("inf")
    for i in range(_LOOKS):
        began = time.perf_counter()
        detector.detect_frames([frames[i % len(frames)]])
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


@dataclass(eq=False)
class _Server:
    """Answers LoadGen's queries. A query of several pictures is run in batches; those of the server one by one."""

    loadgen: Any
    detector: Detector
    frames: Sequence[Frame]
    scenario: Scenario
    failure: BaseException | None = None
    waiting: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)

    def issue(self, samples: Sequence[Any]) -> None:
        """LoadGen's call. An exception must not cross into C++: it is kept, and what follows is only acknowledged."""
        if self.scenario == "server":
            self.waiting.put(list(samples))  # the call returns at once: the next query comes when its time has come
        else:
            self.answer(list(samples))

    def answer(self, samples: list[Any]) -> None:
        done = 0
        try:
            if self.failure is None:
                done = self._detect(samples)
            else:
                time.sleep(_ASIDE_S)  # or LoadGen would fill the rest of its time with millions of queries
        except BaseException as e:  # noqa: BLE001 - it is raised again when LoadGen is done
            self.failure = e
        self._complete(samples[done:])

    def _detect(self, samples: list[Any]) -> int:
        """Answer each sample as its boxes come. Returns how many were."""
        size = self.detector.spec.batch.opt if len(samples) > 1 else 1
        done = 0
        if len(samples) == 1:
            self.detector.detect_frames([self.frames[samples[0].index]])
            return 0
        batches = ([self.frames[s.index] for s in samples[i : i + size]] for i in range(0, len(samples), size))
        # As few calls as there are results at once; MultiStream is over when the whole query is.
        for _ in self.detector.detect_batches(batches):
            if self.failure is not None:
                break
            done += 1
            if self.scenario == "offline":
                self._complete(samples[done - 1 : done])
        return done if self.scenario == "offline" else 0

    def _complete(self, samples: Sequence[Any]) -> None:
        if samples:
            self.loadgen.QuerySamplesComplete([self.loadgen.QuerySampleResponse(s.id, 0, 0) for s in samples])

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """A thread for the server scenario, which takes all queries that wait, up to the size of a batch."""
        most = self.detector.spec.batch.max

        def work() -> None:
            while (samples := self.waiting.get()) is not None:
                ended = False
                while len(samples) < most and not self.waiting.empty():
                    more = self.waiting.get()
                    if more is None:
                        ended = True
                        break
                    samples += more
                self.answer_together(samples)
                if ended:
                    return

        thread = threading.Thread(target=work, name="yolotrt-loadgen")
        thread.start()
        try:
            yield
        finally:
            self.waiting.put(None)
            thread.join()

    def answer_together(self, samples: list[Any]) -> None:
        """One call for queries that came together."""
        try:
            if self.failure is None:
                self.detector.detect_frames([self.frames[s.index] for s in samples])
        except BaseException as e:  # noqa: BLE001
            self.failure = e
        self._complete(samples)


def _run(loadgen: Any, settings: Any, served: _Server, count: int, folder: Path) -> None:
    logs = loadgen.LogSettings()
    logs.log_output.outdir = str(folder)
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = False
    library = loadgen.ConstructQSL(count, count, _nothing, _nothing)
    system = loadgen.ConstructSUT(served.issue, lambda: None)
    try:
        with served.working(), _interrupts(served):
            # No file of this name: audits are part of submissions.
            loadgen.StartTestWithLogSettings(system, library, settings, logs, str(folder / "no-audit"))
    finally:
        loadgen.DestroySUT(system)
        loadgen.DestroyQSL(library)


@contextlib.contextmanager
def _interrupts(served: _Server) -> Iterator[None]:
    """Note Ctrl-C and SIGTERM as a failure; raised as usual, an exception could end up in C++, which ends the process.

    LoadGen cannot be stopped before its least duration is over. Whoever cannot wait that long interrupts twice.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the business of the main thread
        return

    def note(number: int, _frame: FrameType | None) -> None:
        served.failure = KeyboardInterrupt()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _nothing(_samples: Sequence[int]) -> None:
    """Pictures are in memory already."""


@contextlib.contextmanager
def _folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes `target`'s place on success."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not (target / _KEPT[0]).exists():
            raise FileExistsError(17, "exists, and is none of LoadGen's", str(target))
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield work
        with writing(target):
            for path in work.iterdir():
                if path.name not in _KEPT:
                    path.unlink()
            if target.exists():
                shutil.rmtree(target)
            work.chmod(0o755)
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _read(path: Path) -> dict[str, str]:
    """LoadGen's summary as names and values; its recommendations under `Recommendations`."""
    if not path.is_file():
        raise EvaluationError("LoadGen left no summary", expected=path.name)
    found: dict[str, str] = {}
    advice: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("* "):
            advice.append(text.removeprefix("* "))
        elif ":" in text:
            name, _, value = text.partition(":")
            found[name.strip()] = value.strip()
    found["Recommendations"] = "; ".join(advice)
    return found


def _result(scenario: Scenario, summary: dict[str, str], folder: Path) -> ScenarioResult:
    pattern, scale, unit = _FIGURES[scenario]
    named = [value for name, value in summary.items() if re.fullmatch(pattern, name)]
    if not named or "Result is" not in summary:
        raise EvaluationError("LoadGen's summary has another form than expected", got=", ".join(summary))
    valid = summary["Result is"] == "VALID"
    return ScenarioResult(
        scenario=scenario,
        valid=valid,
        figure=float(named[0]) * scale,
        unit=unit,
        reasons=[text for text in summary["Recommendations"].split("; ") if text] if not valid else [],
        summary=summary,
        files=[folder / name for name in _KEPT if (folder / name).is_file()],
    )
