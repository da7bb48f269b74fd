"""Time yolotrt beside Ultralytics `predict` on this CPU: same ONNX, same pictures, turn by turn in one run.

Prints a markdown table and writes it, with every figure as JSON beside it, where `--output` says. Both libraries run
with their default number of threads. Each picture goes through every contestant before the next one comes, in an
order that rotates, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.ultralytics_predict import UltralyticsPredictor  # noqa: E402
from yolotrt import Detector, assets, files  # noqa: E402
from yolotrt.sources import open_source, read_image  # noqa: E402
from yolotrt.types import Frame, ImageU8  # noqa: E402


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


Contestant = Callable[[ImageU8], Timing]


def ultralytics(model: Path) -> Contestant:
    """Ultralytics' `predict` in ONNX Runtime."""
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


def yolotrt(detector: Detector) -> Contestant:
    """`Detector` in the back-end it was opened with."""

    def run(image: ImageU8) -> Timing:
        started = time.perf_counter()
        seconds = detector.detect_frames([Frame(pixels=image, source_id="bench", index=0)])[0].seconds
        wall = time.perf_counter() - started
        return Timing(before=seconds.preprocess, inference=seconds.inference, after=seconds.postprocess, wall=wall)

    return run


def race(contestants: dict[str, Contestant], images: Sequence[ImageU8], rounds: int) -> dict[str, list[list[Timing]]]:
    """Time every contestant on every picture: by name, one list per round."""
    for run in contestants.values():
        for image in images[:3]:
            run(image)
    names = list(contestants)
    found: dict[str, list[list[Timing]]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names:
            found[name].append([])
        for i, image in enumerate(images):
            start = (turn + i) % len(names)
            for name in names[start:] + names[:start]:
                found[name][-1].append(contestants[name](image))
    return found


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


def pictures(count: int) -> tuple[list[ImageU8], list[ImageU8]]:
    """`count` pictures of the demo video as they are, and the same enlarged to 1920 x 1080."""
    with open_source(assets.sample_video()) as source:
        every = [frame.pixels for frame in source]
    frames = every[:: max(len(every) // count, 1)][:count]
    full_hd = [np.asarray(cv2.resize(f, (1920, 1080), interpolation=cv2.INTER_CUBIC), np.uint8) for f in frames]
    return frames, full_hd


def with_file(run: Contestant, path_of: dict[int, Path]) -> Contestant:
    """The same from a JPEG file: reading and decoding counted in."""

    def timed(image: ImageU8) -> Timing:
        started = time.perf_counter()
        pixels = read_image(path_of[id(image)])
        decode = time.perf_counter() - started
        t = run(pixels)
        return Timing(before=t.before + decode, inference=t.inference, after=t.after, wall=t.wall + decode)

    return timed


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
    parser.add_argument("--model", type=Path, default=assets.demo_model(), help="an ONNX file")
    parser.add_argument("--pictures", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="markdown file to write; the figures go beside it as JSON")
    args = parser.parse_args()
    same = Detector(args.model, backend="onnxruntime")
    default = Detector(args.model, device="cpu")
    contestants = {
        "Ultralytics predict (ONNX Runtime)": ultralytics(args.model),
        "yolotrt (ONNX Runtime)": yolotrt(same),
        f"yolotrt (CPU default: {default.info.backend})": yolotrt(default),
    }
    small, full_hd = pictures(args.pictures)
    lines = [f"Measured on {machine()}", f"`scripts/bench --pictures {args.pictures} --rounds {args.rounds}`", ""]
    record: dict[str, object] = {"machine": machine(), "pictures": args.pictures, "rounds": args.rounds}
    with tempfile.TemporaryDirectory() as folder:
        path_of = {}
        for i, image in enumerate(full_hd):
            path_of[id(image)] = Path(folder) / f"{i}.jpg"
            cv2.imwrite(str(path_of[id(image)]), image)
        from_files = {name: with_file(run, path_of) for name, run in contestants.items()}
        cases = (
            (f"Arrays of {small[0].shape[1]} x {small[0].shape[0]}", contestants, small),
            ("Arrays of 1920 x 1080", contestants, full_hd),
            ("JPEG files of 1920 x 1080 (decoding counted in before)", from_files, full_hd),
        )
        for title, runners, images in cases:
            found = race(runners, images, args.rounds)
            said, ratios = verdicts(found)
            lines += [*table(title, found), *said, ""]
            record[title] = ratios
    text = "\n".join(lines)
    sys.stdout.write(text + "\n")
    if args.output:
        files.write_text(args.output, "# CPU: yolotrt beside Ultralytics\n\n" + text)
        files.write_text(args.output.with_suffix(".json"), json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
