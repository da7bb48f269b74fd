"""Time yolotrt beside Ultralytics `predict` on this CPU: same ONNX, same pictures, turn by turn in one run.

Prints a markdown table and writes it, with every figure as JSON beside it, where `--output` says. Both libraries run
with their default number of threads. Each contestant has a process of its own, since the idle threads of one runtime
would slow the next one down; each picture goes through all of them, in random order and with a pause before each turn,
before the next picture comes, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from yolotrt import Detector, assets, files  # noqa: E402
from yolotrt.backends import BackendName  # noqa: E402
from yolotrt.sources import open_source, read_image  # noqa: E402
from yolotrt.types import Frame, ImageU8  # noqa: E402

PAUSE_S = 0.05
"""Long enough for the threads of the runtime before to stop spinning."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one picture: as each library accounts for them, and by the wall clock of the whole call."""

    before: float
    inference: float
    after: float
    wall: float

    @property
    def around(self) -> float:
        """All of the call that is not inference, accounted for or not."""
        return self.wall - self.inference


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured: the pictures, from memory or from JPEG files."""

    title: str
    enlarge: bool
    from_files: bool


CASES = (
    Case(title="Arrays of 960 x 540", enlarge=False, from_files=False),
    Case(title="Arrays of 1920 x 1080", enlarge=True, from_files=False),
    Case(title="JPEG files of 1920 x 1080 (reading them counted in before)", enlarge=True, from_files=True),
)
Runner = Callable[[ImageU8], Timing]


def ultralytics(model: Path) -> Runner:
    """Ultralytics' `predict` in ONNX Runtime."""
    from tests.support.ultralytics_predict import UltralyticsPredictor

    predictor = UltralyticsPredictor(model)

    def run(image: ImageU8) -> Timing:
        started = time.perf_counter()
        speed = predictor.results(image).speed  # milliseconds
        wall = time.perf_counter() - started
        return Timing(
            before=speed["preprocess"] / 1e3,
            inference=speed["inference"] / 1e3,
            after=speed["postprocess"] / 1e3,
            wall=wall,
        )

    return run


def yolotrt(model: Path, backend: BackendName) -> Runner:
    """`Detector` on the CPU."""
    detector = Detector(model, backend=backend, device="cpu")

    def run(image: ImageU8) -> Timing:
        started = time.perf_counter()
        seconds = detector.detect_frames([Frame(pixels=image, source_id="bench", index=0)])[0].seconds
        wall = time.perf_counter() - started
        return Timing(before=seconds.preprocess, inference=seconds.inference, after=seconds.postprocess, wall=wall)

    return run


CONTESTANTS: dict[str, Callable[[Path], Runner]] = {
    "Ultralytics predict (ONNX Runtime)": ultralytics,
    "yolotrt (ONNX Runtime)": partial(yolotrt, backend="onnxruntime"),
    "yolotrt (CPU default)": partial(yolotrt, backend="auto"),
}


def folder_table(found: dict[str, list[float]]) -> tuple[list[str], dict[str, float]]:
    """The markdown of `race_folders`, and how many times as fast as Ultralytics each is."""
    theirs, *_ = found
    times = {name: statistics.median(rows) for name, rows in found.items()}
    ratios = {name: times[theirs] / times[name] for name in found}
    lines = [
        "### A folder of 1920 x 1080 JPEG files, streamed (files to boxes, reading ahead)",
        "",
        "| | per picture | rounds | times Ultralytics' speed |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {1e3 * times[name]:.2f} | {1e3 * min(rows):.1f} to {1e3 * max(rows):.1f} "
            f"| {ratios[name]:.2f} |"
            for name, rows in found.items()
        ),
        "",
    ]
    return lines, ratios


def pictures(case: Case, count: int) -> list[ImageU8]:
    """`count` frames of the demo video, evenly spread."""
    with open_source(assets.sample_video()) as source:
        every = [frame.pixels for frame in source]
    frames = every[:: max(len(every) // count, 1)][:count]
    if case.enlarge:
        frames = [np.asarray(cv2.resize(f, (1920, 1080), interpolation=cv2.INTER_CUBIC), np.uint8) for f in frames]
    return frames


def folder_runner(name: str, model: Path) -> Callable[[Path], float]:
    """Seconds for all pictures of a folder, files to boxes, as each library streams them."""
    if name.startswith("Ultralytics"):
        from tests.support.ultralytics_predict import UltralyticsPredictor

        predictor = UltralyticsPredictor(model)

        def run(folder: Path) -> float:
            started = time.perf_counter()
            for result in predictor.stream(folder):
                result.boxes.xyxy.numpy()
            return time.perf_counter() - started

        return run
    detector = Detector(model, backend="onnxruntime" if "ONNX" in name else "auto", device="cpu")

    def run_stream(folder: Path) -> float:
        started = time.perf_counter()
        for result in detector.stream(folder):
            _ = result.detections.xyxy
        return time.perf_counter() - started

    return run_stream


def work_on_folders(name: str, model: Path, count: int, turns: Connection) -> None:
    """A contestant's own process: runs the whole folder at each turn, and answers with the seconds per picture."""
    images = pictures(CASES[-1], count)
    run = folder_runner(name, model)
    with tempfile.TemporaryDirectory() as folder:
        for i, image in enumerate(images):
            cv2.imwrite(f"{folder}/{i:04}.jpg", image)
        run(Path(folder))
        turns.send(len(images))
        while turns.recv() is not None:
            turns.send(run(Path(folder)) / len(images))


def work(name: str, model: Path, case: Case, count: int, turns: Connection) -> None:
    """A contestant's own process: runs the picture whose number it is sent, and answers with its `Timing`."""
    images = pictures(case, count)
    run = CONTESTANTS[name](model)
    with tempfile.TemporaryDirectory() as folder:
        files_ = [Path(folder) / f"{i}.jpg" for i in range(len(images))]
        for path, image in zip(files_, images, strict=True):
            cv2.imwrite(str(path), image)
        for image in images[:5]:
            run(image)
        turns.send(len(images))
        while (index := turns.recv()) is not None:
            started = time.perf_counter()
            image = read_image(files_[index]) if case.from_files else images[index]
            reading = time.perf_counter() - started if case.from_files else 0.0
            t = run(image)
            turns.send(replace(t, before=t.before + reading, wall=t.wall + reading))


def race(model: Path, case: Case, *, count: int, rounds: int) -> dict[str, list[list[Timing]]]:
    """Time every contestant on every picture: by name, one list per round."""
    found: dict[str, list[list[Timing]]] = {name: [[] for _ in range(rounds)] for name in CONTESTANTS}
    with contestants(work, model, case, count) as lines:
        for turn in range(rounds):
            for index in range(count):
                for name in shuffled():
                    time.sleep(PAUSE_S)
                    lines[name].send(index)
                    found[name][turn].append(lines[name].recv())
    return found


def race_folders(model: Path, *, count: int, rounds: int) -> dict[str, list[float]]:
    """Seconds per picture of a folder, by name, one per round."""
    found: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with contestants(work_on_folders, model, count) as lines:
        for _ in range(rounds):
            for name in shuffled():
                time.sleep(PAUSE_S)
                lines[name].send(0)
                found[name].append(lines[name].recv())
    return found


_order = random.Random(0)  # noqa: S311 (an order of turns, not a secret)


def shuffled() -> list[str]:
    return _order.sample(list(CONTESTANTS), len(CONTESTANTS))


@contextlib.contextmanager
def contestants(target: Callable[..., None], *args: object) -> Iterator[dict[str, Connection]]:
    """A process for each contestant, warmed up: the lines to them by name."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    processes = []
    for name in CONTESTANTS:
        lines[name], theirs = context.Pipe()
        processes.append(context.Process(target=target, args=(name, *args, theirs), daemon=True))
        processes[-1].start()
        theirs.close()
        lines[name].recv()
    yield lines
    for line in lines.values():
        line.send(None)
    for process in processes:
        process.join()


def flat(by_round: list[list[Timing]]) -> list[Timing]:
    return list(itertools.chain.from_iterable(by_round))


def ratio(
    ours: list[list[Timing]], theirs: list[list[Timing]], part: Callable[[Timing], float]
) -> tuple[float, float, float]:
    """Ours over theirs: the ratio of medians over everything, and its lowest and highest round."""

    def middle(rows: list[Timing]) -> float:
        return statistics.median(part(t) for t in rows)

    by_round = [middle(a) / middle(b) for a, b in zip(ours, theirs, strict=True)]
    return middle(flat(ours)) / middle(flat(theirs)), min(by_round), max(by_round)


def table(title: str, found: dict[str, list[list[Timing]]]) -> list[str]:
    """One markdown table: medians in milliseconds."""
    lines = [
        f"### {title}",
        "",
        "| | before | inference | after | whole call | around inference | 10 to 90 % of whole calls |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, by_round in found.items():
        rows = flat(by_round)
        parts: list[Callable[[Timing], float]] = [
            lambda t: t.before, lambda t: t.inference, lambda t: t.after, lambda t: t.wall, lambda t: t.around,
        ]  # fmt: skip
        medians = " | ".join(f"{1e3 * statistics.median(p(t) for t in rows):.2f}" for p in parts)
        low, high = np.quantile([t.wall for t in rows], [0.1, 0.9]) * 1e3
        lines.append(f"| {name} | {medians} | {low:.1f} to {high:.1f} |")
    return [*lines, ""]


def verdicts(found: dict[str, list[list[Timing]]]) -> tuple[list[str], dict[str, tuple[float, float, float]]]:
    """The ratios that matter, as lines and as numbers."""
    theirs, same, default = found.values()
    ratios = {
        "before + after, same runtime, of Ultralytics'": ratio(same, theirs, lambda t: t.before + t.after),
        "all around the inference, same runtime, of Ultralytics'": ratio(same, theirs, lambda t: t.around),
        "speed of the CPU default, times Ultralytics'": ratio(theirs, default, lambda t: t.wall),
        "speed in the same runtime, times Ultralytics'": ratio(theirs, same, lambda t: t.wall),
    }
    return [f"- {k}: **{r:.2f}** (rounds {a:.2f} to {b:.2f})" for k, (r, a, b) in ratios.items()], ratios


def machine() -> str:
    """What it ran on, in one line."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    packages = ("ultralytics", "torch", "onnxruntime", "openvino", "numpy")
    versions = ", ".join([*(f"{p} {version(p)}" for p in packages), f"OpenCV {cv2.__version__}"])
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout
    return (
        f"{cpu}, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}, {versions}; "
        f"yolotrt {version('yolotrt')} ({commit.strip()}); {time.strftime('%Y-%m-%d')}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="an ONNX file  [default: the demo model]")
    parser.add_argument("--pictures", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="markdown file to write; the figures go beside it as JSON")
    args = parser.parse_args()
    model = args.model or assets.demo_model()
    with Detector(model, device="cpu") as detector:
        default = str(detector.info)
    lines = [
        f"Measured on {machine()}. CPU default: {default}.",
        "",
        f"`scripts/bench --pictures {args.pictures} --rounds {args.rounds}`, milliseconds, medians.",
        "",
    ]
    record: dict[str, object] = {"machine": machine(), "default": default, **vars(args), "model": model.name}
    for case in CASES:
        found = race(model, case, count=args.pictures, rounds=args.rounds)
        said, ratios = verdicts(found)
        lines += [*table(case.title, found), *said, ""]
        record[case.title] = ratios
    streamed, speed = folder_table(race_folders(model, count=args.pictures, rounds=args.rounds))
    lines += streamed
    record["folder, streamed: speed, times Ultralytics'"] = speed
    text = "\n".join(lines)
    sys.stdout.write(text + "\n")
    if args.output:
        files.write_text(args.output, "# CPU: yolotrt beside Ultralytics\n\n" + text)
        files.write_text(args.output.with_suffix(".json"), json.dumps(record, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
