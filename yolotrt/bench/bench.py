"""Put a measurement together: what runs, what it took, how busy the machine was meanwhile."""

from __future__ import annotations

import contextlib
import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from yolotrt.backends import BackendInfo
from yolotrt.backends.pictures import PictureBackend
from yolotrt.bench import timing
from yolotrt.bench.contestants import Case, Prepare
from yolotrt.bench.loadgen import SHORT, require_loadgen, run_scenario
from yolotrt.bench.machine import Machine, Watch
from yolotrt.bench.options import BenchOptions
from yolotrt.bench.peaks import cpu_peaks, gpu_peaks
from yolotrt.bench.pictures import FULL_HD, Pictures, sample_pictures
from yolotrt.bench.report import BenchResult
from yolotrt.bench.roofline import Roof, count_work, roof
from yolotrt.bench.stages import ENGINE, ENGINE_ON_DEVICE, Plan, batch_size, plan_stages
from yolotrt.bench.start import Start, measure_starts
from yolotrt.bench.timing import Summary
from yolotrt.bench.versus import Race, contestants, race
from yolotrt.detector import Detector
from yolotrt.model_files import ModelFiles, find_model_files
from yolotrt.types import ImageU8

OnTurn = Callable[[str], None]
"""Called whenever something is done, with what it was."""

_SAMPLES = 4  # sample pictures that go through the stream
_RACED = 5  # pictures of a round of a race, at least


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What this process measures of a detector."""

    plan: Plan
    parts: dict[str, Summary]
    info: BackendInfo
    roof: Roof | None


def bench(options: BenchOptions, *, prepare: Prepare | None = None, on_turn: OnTurn = lambda _: None) -> BenchResult:
    """Measure a model.

    Args:
        options: what, and for how long.
        prepare: called in the process of a library that is compared with, before it is imported.
        on_turn: called after each turn, with the name of what was measured.

    Raises:
        UsageError: options that do not fit the model.
        MissingExtraError: an extra is not installed that the options need.
        YolotrtError: whatever loading and running the model raises.
    """
    if options.scenarios:
        require_loadgen()
    files = find_model_files(options.model, trust=options.trust)
    pictures = _pictures(options).read()
    keywords: dict[str, Any] = {"backend": options.backend, "device": options.device, "threads": options.threads}
    keywords["graphs"] = options.graphs
    with Detector(options.model, trust=options.trust, **keywords) as detector:
        gpu = detector.info.backend == "tensorrt"
        batch_size(detector.spec, options.batch)  # what is wrong is said before anything is measured
        racing = (
            contestants(
                files,
                detector.spec,
                backend=options.backend,
                device=options.device if gpu else "cpu",
                threads=options.threads,
                graphs=isinstance(detector.backend, PictureBackend),
            )
            if options.compare
            else []
        )
        watch = Watch(gpu=gpu)
        if options.scenarios:
            return _loadgen(options, detector, pictures, watch, on_turn)
        races = [
            race(racing, case, seconds=options.seconds, prepare=prepare, on_turn=lambda: on_turn("comparison"))
            for case in (_cases(options) if racing else ())
        ]
        measured = _measure(options, files, detector, pictures, on_turn)
    # Only now, when nothing of this process runs any more.
    fresh = functools.partial(
        measure_starts,
        model=options.model,
        picture=pictures[0],
        detector={**keywords, "trust": options.trust},
        on_turn=lambda: on_turn("start"),
    )
    starts = fresh(options.starts)
    # What is kept on disk saves the GPU's compilers their work; there is nothing of the kind for a CPU.
    first_starts = fresh(min(options.starts, 1) if gpu else 0, nothing_kept=True)
    load = watch.load()
    return BenchResult(
        model=options.model,
        info=measured.info,
        machine=Machine.here(gpu=gpu, packages=_packages(measured.info, racing=bool(racing))),
        load=load,
        threads=options.threads,
        batch=measured.plan.batch,
        streamed=measured.plan.streamed,
        picture=_sizes(pictures),
        parts=measured.parts,
        starts=starts,
        first_starts=first_starts,
        peak_mib=_middle([s.peak_mib for s in starts]),
        device_mib=_middle([s.device_mib for s in starts]),
        roof=measured.roof,
        races=races,
        notes=_notes(files, starts, races),
    )


def _measure(
    options: BenchOptions, files: ModelFiles, detector: Detector, pictures: Sequence[ImageU8], on_turn: OnTurn
) -> _Measured:
    with plan_stages(detector, files, pictures, batch=options.batch, turn_s=timing.turn_s(options.seconds)) as plan:
        samples = timing.measure(plan.stages, seconds=options.seconds, on_turn=lambda: on_turn("stages"))
    parts = {name: Summary.of(rows) for name, rows in samples.items()}
    engine = parts.get(ENGINE_ON_DEVICE) or parts.get(ENGINE)
    found = None
    if files.onnx is not None and engine is not None:
        on_cpu = detector.info.device == "cpu"
        # After the stages: its own threads would still spin through the first of them.
        peaks = cpu_peaks(options.threads) if on_cpu else gpu_peaks(_gpu_name(detector.info.device))
        found = roof(
            count_work(files.onnx, detector.spec),
            peaks,
            batch=plan.batch,
            measured_ms=engine.p50,
            on_cpu=on_cpu,
            arithmetic=detector.info.precision,
        )
    return _Measured(plan=plan, parts=parts, info=detector.info, roof=found)


def _loadgen(
    options: BenchOptions, detector: Detector, pictures: Sequence[ImageU8], watch: Watch, on_turn: OnTurn
) -> BenchResult:
    assert options.output is not None
    found = []
    for scenario in options.scenarios:
        found.append(
            run_scenario(
                detector,
                scenario,
                pictures,
                output=options.output,
                seconds=options.seconds,
                target_qps=options.target_qps,
                target_latency_ms=options.target_latency_ms,
            )
        )
        on_turn(scenario)
    gpu = detector.info.backend == "tensorrt"
    return BenchResult(
        model=options.model,
        info=detector.info,
        machine=Machine.here(gpu=gpu, packages=(*_packages(detector.info, racing=False), "mlcommons-loadgen")),
        load=watch.load(),
        threads=options.threads,
        batch=detector.spec.batch.opt,
        picture=_sizes(pictures),
        scenarios=found,
        notes=[SHORT],
    )


def _pictures(options: BenchOptions) -> Pictures:
    if options.images:
        return Pictures(sources=options.images, count=len(options.images))
    return sample_pictures(_SAMPLES)


def _cases(options: BenchOptions) -> list[Case]:
    """A picture from memory, and a folder of files."""
    if options.images:
        chosen = Pictures(sources=options.images, count=max(len(options.images), _RACED))
        named = "the pictures given"
    else:
        chosen = sample_pictures(_RACED)
        named = f"{FULL_HD[1]} x {FULL_HD[0]}"
    return [
        Case(title=f"Arrays of {named}", pictures=chosen),
        Case(title=f"A folder of JPEG files of {named}, streamed", pictures=chosen, stream=True),
    ]


def _packages(info: BackendInfo, *, racing: bool) -> tuple[str, ...]:
    gpu = ("cuda-bindings", "cuda-core") if info.backend == "tensorrt" else ()
    return (*gpu, *(("ultralytics", "torch") if racing else ()))


def _notes(files: ModelFiles, starts: Sequence[Start], races: Sequence[Race]) -> list[str]:
    notes = ["p50 is the median of all calls; spread is the lowest and the highest median of a round"]
    if files.onnx is None:
        notes.append("no roofline: operations are counted in the ONNX file, and there is none beside the plan")
    if starts:
        notes.append("a start is that of a fresh process; the operating system may hold its files in memory already")
    if races:
        notes.append("each library in a process of its own, picture by picture in turns, with the same threads")
    return notes


def _sizes(pictures: Sequence[ImageU8]) -> list[tuple[int, int]]:
    return list(dict.fromkeys((p.shape[0], p.shape[1]) for p in pictures))


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _gpu_name(device: str) -> str:
    """The name in `cuda:0 (NVIDIA H200)`."""
    with contextlib.suppress(ValueError):
        return device[device.index("(") + 1 : device.rindex(")")]
    return device
