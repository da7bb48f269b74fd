"""yolotrt beside Ultralytics `predict`: the same model file, the same pictures, turn by turn.

Each picture goes through all contestants, in random order and with a pause before each turn, before the next picture
comes, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from yolotrt.backends import BackendName
from yolotrt.bench.contestants import Case, Contestant, Prepare, Timing, require_ultralytics, started
from yolotrt.bench.timing import PAUSE_S
from yolotrt.errors import UsageError
from yolotrt.model_files import ModelFiles
from yolotrt.model_spec import ModelSpec

Rows = Sequence[Sequence[Timing]]
"""Timings of one contestant, by round."""

_LEAST_ROUNDS = 3
PARTS: dict[str, Callable[[Timing], float]] = {
    "before": lambda t: t.before,
    "inference": lambda t: t.inference,
    "after": lambda t: t.after,
    "whole call": lambda t: t.wall,
    "around the inference": lambda t: t.around,
}


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One contestant's time over another's: the ratio of the medians, and the lowest and highest of a round's."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f} (rounds {self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, kw_only=True)
class Race:
    """How one case went.

    Attributes:
        case: what was run.
        rows: by name of the contestant; the first one is Ultralytics, the second yolotrt in the same runtime.
    """

    case: Case
    rows: dict[str, Rows]

    @property
    def rounds(self) -> int:
        return len(next(iter(self.rows.values())))

    def milliseconds(self, name: str) -> dict[str, float]:
        """Median of each part, and where 10 and 90 % of the whole calls lie."""
        every = _flat(self.rows[name])
        found = {part: 1e3 * statistics.median(map(get, every)) for part, get in PARTS.items()}
        low, high = np.quantile([t.wall for t in every], [0.1, 0.9]).tolist()
        return {**found, "p10": 1e3 * low, "p90": 1e3 * high}

    def ratios(self) -> dict[str, Ratio]:
        """What is compared, in words, and how it came out."""
        theirs, same, *others = self.rows
        found = {}
        if not self.case.stream:
            found["before + after, same runtime, of Ultralytics'"] = _ratio(
                self.rows[same], self.rows[theirs], lambda t: t.before + t.after
            )
            found["all around the inference, same runtime, of Ultralytics'"] = _ratio(
                self.rows[same], self.rows[theirs], lambda t: t.around
            )
        for name in (*others, same):
            found[f"speed of {name}, times Ultralytics'"] = _ratio(self.rows[theirs], self.rows[name], lambda t: t.wall)
        return found


def contestants(
    files: ModelFiles,
    spec: ModelSpec,
    *,
    backend: BackendName = "auto",
    device: str = "auto",
    threads: int = 0,
    graphs: bool = False,
) -> list[Contestant]:
    """Ultralytics, yolotrt in the same runtime, and yolotrt in another one where that is its choice.

    Args:
        files: of the model.
        spec: of the model.
        backend: of yolotrt; `auto` takes the one that `Detector` takes on the CPU or the GPU.
        device: with a GPU, all run the plan; else the ONNX file.
        threads: of each, on the CPU.
        graphs: let yolotrt run the plan as CUDA graphs too.

    Raises:
        MissingExtraError: Ultralytics is not installed.
        UsageError: there is no file that both can run there.
    """
    require_ultralytics()
    if spec.head == "raw":
        raise UsageError(
            f"{files.asked}: Ultralytics does not decode raw heads", remedy="Compare a model with a whole head."
        )
    on_cpu = device == "cpu" or (device == "auto" and not _gpu_runs(files, backend))
    if not on_cpu:
        if files.plan is None:
            raise UsageError("nothing to compare on the GPU", got=files.asked, expected="a TensorRT plan")
        plan, gpu = files.plan, "cuda" if device == "auto" else device
        both = [
            Contestant(
                name="Ultralytics predict (TensorRT)", library="ultralytics", model=plan, device=gpu, imgsz=spec.imgsz
            ),
            Contestant(name="yolotrt (TensorRT)", library="yolotrt", model=plan, backend="tensorrt", device=gpu),
        ]
        return [*both, *([replace(both[1], name="yolotrt (CUDA graphs)", graphs=True)] if graphs else [])]
    if files.onnx is None:
        raise UsageError("nothing to compare on the CPU", got=files.asked, expected="an ONNX file or a bundle")
    model = files.onnx
    found = [
        Contestant(
            name="Ultralytics predict (ONNX Runtime)", library="ultralytics", model=model, device="cpu", threads=threads
        ),
        Contestant(
            name="yolotrt (ONNX Runtime)",
            library="yolotrt",
            model=model,
            backend="onnxruntime",
            device="cpu",
            threads=threads,
        ),
    ]
    if backend != "onnxruntime":
        name = "yolotrt (CPU default)" if backend == "auto" else f"yolotrt ({backend})"
        found.append(
            Contestant(name=name, library="yolotrt", model=model, backend=backend, device="cpu", threads=threads)
        )
    return found


def race(
    taking_part: Sequence[Contestant],
    case: Case,
    *,
    rounds: int | None = None,
    seconds: float | None = None,
    prepare: Prepare | None = None,
    on_turn: Callable[[], None] = lambda: None,
) -> Race:
    """Let all contestants run a case.

    Args:
        taking_part: Ultralytics first.
        case: what they run.
        rounds: passes over the pictures; None goes on for `seconds`, and makes at least three.
        seconds: see there.
        prepare: see `contestants.Prepare`.
        on_turn: called after each turn.

    Raises:
        EvaluationError: one of them cannot run.
    """
    found: dict[str, list[list[Timing]]] = {c.name: [] for c in taking_part}
    order = random.Random(0)  # noqa: S311 (an order of turns, not a secret)
    numbers = range(1 if case.stream else case.pictures.count)
    with started(taking_part, case, prepare=prepare) as lines:
        for _ in _rounds(rounds, seconds):
            for rows in found.values():
                rows.append([])
            for number in numbers:
                for name in order.sample(list(lines), len(lines)):
                    time.sleep(PAUSE_S)
                    found[name][-1].append(lines[name](number))
                    on_turn()
    return Race(case=case, rows=dict(found))


def _rounds(rounds: int | None, seconds: float | None) -> Iterator[int]:
    began = time.perf_counter()
    for turn in itertools.count():
        if rounds is not None and turn >= rounds:
            return
        if rounds is None and turn >= _LEAST_ROUNDS and time.perf_counter() - began >= (seconds or 0.0):
            return
        yield turn


def _gpu_runs(files: ModelFiles, backend: BackendName) -> bool:
    from yolotrt.cuda.device import device_count

    return backend in ("auto", "tensorrt") and files.plan is not None and device_count() > 0


def _ratio(ours: Rows, theirs: Rows, part: Callable[[Timing], float]) -> Ratio:
    """Ours over theirs."""

    def middle(rows: Sequence[Timing]) -> float:
        return statistics.median(map(part, rows))

    by_round = [middle(a) / middle(b) for a, b in zip(ours, theirs, strict=True)]
    return Ratio(ratio=middle(_flat(ours)) / middle(_flat(theirs)), low=min(by_round), high=max(by_round))


def _flat(by_round: Rows) -> list[Timing]:
    return list(itertools.chain.from_iterable(by_round))
