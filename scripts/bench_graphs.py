"""Pictures to boxes as CUDA graphs, beside the bare engine and beside the path through the host; prints JSON.

Every figure of a table is taken in the same process, in rounds that go through all cases, so that their ratios hold
whatever the clocks do. Times are those of the host, from the call to the boxes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from yolotrt import Detector, assets  # noqa: E402
from yolotrt.backends.bare_engine import bare_engine  # noqa: E402
from yolotrt.backends.cuda_graph import GraphOptions, GraphRunner  # noqa: E402
from yolotrt.backends.cuda_lane import GraphPicture  # noqa: E402
from yolotrt.backends.tensorrt_graph import open_graphs  # noqa: E402
from yolotrt.cache import cache_folder  # noqa: E402
from yolotrt.cuda.compile import compiler_version  # noqa: E402
from yolotrt.cuda.device import Device  # noqa: E402
from yolotrt.cuda.driver import check, driver, driver_version  # noqa: E402
from yolotrt.cuda.gpu import gpu  # noqa: E402
from yolotrt.errors import MissingExtraError  # noqa: E402
from yolotrt.evaluation.matching import match_all  # noqa: E402
from yolotrt.export.pipeline import export_model  # noqa: E402
from yolotrt.model_spec import BatchRange  # noqa: E402
from yolotrt.options import DetectOptions  # noqa: E402
from yolotrt.preprocess.surface import Surface  # noqa: E402
from yolotrt.sources import open_source  # noqa: E402
from yolotrt.types import ImageU8  # noqa: E402

WEIGHTS = "yolov8n_demo.pt"
OPTIONS = DetectOptions()
THREADS = 4
EDGES: dict[str, dict[str, Any]] = {
    "FP16 input": {"fp16_input": True},
    "raw head": {"head": "raw"},
    "raw head, FP16 input": {"head": "raw", "fp16_input": True},
}
Case = Callable[[], object]


def timed(cases: dict[str, Case], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Milliseconds per call: of each case the median of all calls, its spread over rounds, and the slowest ones.

    `of_the_first` is the ratio to the first case, its median over rounds and its spread.
    """
    calls: dict[str, list[list[float]]] = {name: [] for name in cases}
    for name, case in cases.items():
        for _ in range(20):
            case()
        calls[name] = []
    for _ in range(rounds):
        for name, case in cases.items():
            own, end = [], time.perf_counter() + seconds
            while (started := time.perf_counter()) < end:
                case()
                own.append(1e3 * (time.perf_counter() - started))
            calls[name].append(own)
    first = [statistics.median(own) for own in next(iter(calls.values()))]
    table = {}
    for name, by_round in calls.items():
        medians = [statistics.median(own) for own in by_round]
        ratios = [median / of for median, of in zip(medians, first, strict=True)]
        everything = np.concatenate([np.array(own) for own in by_round])
        table[name] = {
            "p50_ms": round(float(np.median(everything)), 4),
            "p50_by_round": [round(median, 4) for median in medians],
            **{f"p{rank}_ms": round(float(np.percentile(everything, rank)), 4) for rank in (95, 99)},
            "p99_of_p50": round(float(np.percentile(everything, 99) / np.median(everything)), 3),
            "of_the_first": [round(v, 3) for v in (statistics.median(ratios), min(ratios), max(ratios))],
        }
    return table


@contextlib.contextmanager
def whole_graph(runner: GraphRunner, pictures: Sequence[GraphPicture]) -> Iterator[Case]:
    """The recording of a batch, from letterbox to boxes, with nothing of Python around it."""
    runner(pictures, OPTIONS)
    with runner._lane([]) as lane:  # noqa: SLF001
        recording = lane.recording(len(pictures))
        queue = lane._queue  # noqa: SLF001

        def run() -> None:
            assert not callable(recording), runner.info
            queue.replay(recording)
            queue.wait()

        yield run


@contextlib.contextmanager
def on_gpu(image: ImageU8, count: int) -> Iterator[tuple[list[Surface], list[ImageU8]]]:
    """`count` copies of a picture on the GPU, and as many in pinned memory."""
    machine = gpu(Device.open(0))
    with contextlib.ExitStack() as opened:
        opened.enter_context(machine.active())
        queue = opened.enter_context(contextlib.closing(machine.queue()))
        surfaces, views = [], []
        for _ in range(count):
            pinned = opened.enter_context(contextlib.closing(machine.pin(image.nbytes)))
            device = opened.enter_context(contextlib.closing(machine.allocate(image.nbytes)))
            pinned.array[:] = image.reshape(-1)
            queue.copy(device.address, pinned.address, image.nbytes)
            queue.wait()
            height, width = image.shape[:2]
            surfaces.append(Surface(address=device.address, size=(height, width), pitch=3 * width))
            views.append(pinned.array.reshape(image.shape))
        yield surfaces, views


def batch_table(plan: Path, manifest: Path, image: ImageU8, batch: int, args: argparse.Namespace) -> dict[str, Any]:
    """One batch size: every kind of picture, beside the engine alone and the path through the host."""
    with contextlib.ExitStack() as opened:
        runner = opened.enter_context(contextlib.closing(open_graphs(plan, options=GraphOptions(lanes=2))))
        detector = opened.enter_context(Detector(manifest, strict=True, graphs=False))
        surfaces, pinned = opened.enter_context(on_gpu(image, batch))
        images = [image.copy() for _ in range(batch)]
        cases: dict[str, Case] = {
            "engine alone": opened.enter_context(bare_engine(plan, batch)).run,
            "whole graph": opened.enter_context(whole_graph(runner, surfaces)),
            "on the GPU, boxes left there": functools.partial(left_there, runner, surfaces),
            "on the GPU": lambda: runner(surfaces, OPTIONS),
            "pinned": lambda: runner(pinned, OPTIONS),
            "NumPy": lambda: runner(images, OPTIONS),
            "NumPy, through the host": lambda: detector(images),
        }
        table = timed(cases, rounds=args.rounds, seconds=args.seconds)
        table["runs_in"] = str(runner.info)
        table["boxes"] = len(runner(surfaces[:1], OPTIONS)[0])
    return table


def left_there(runner: GraphRunner, pictures: Sequence[GraphPicture]) -> None:
    """Wait for boxes that stay on the GPU."""
    with runner.on_device(pictures, OPTIONS):
        pass


def head_table(plans: dict[str, Path], image: ImageU8, batch: int, args: argparse.Namespace) -> dict[str, Any]:
    """Plans of one model with other edges: the engine alone, then the recording, then whole calls; all in turns."""
    with contextlib.ExitStack() as opened:
        surfaces, _ = opened.enter_context(on_gpu(image, batch))
        runners = {
            name: opened.enter_context(contextlib.closing(open_graphs(plan, options=GraphOptions(lanes=2))))
            for name, plan in plans.items()
        }
        cases: dict[str, Case] = {}
        for name, runner in runners.items():
            cases[f"{name}: whole graph"] = opened.enter_context(whole_graph(runner, surfaces))
            cases[f"{name}: engine alone"] = opened.enter_context(bare_engine(plans[name], batch)).run
            cases[f"{name}: on the GPU"] = functools.partial(runner, surfaces, OPTIONS)
        table = timed(cases, rounds=args.rounds, seconds=args.seconds)
        table["boxes"] = {name: len(runner(surfaces[:1], OPTIONS)[0]) for name, runner in runners.items()}
    return table


def thread_table(plan: Path, image: ImageU8, args: argparse.Namespace) -> dict[str, Any]:
    """Pictures per second of several threads, one picture a call."""
    table = {}
    with contextlib.ExitStack() as opened:
        runner = opened.enter_context(contextlib.closing(open_graphs(plan, options=GraphOptions(lanes=THREADS))))
        surfaces, pinned = opened.enter_context(on_gpu(image, 1))
        given: dict[str, list[Any]] = {"on the GPU": surfaces, "pinned": pinned, "NumPy": [image]}
        for name, pictures in given.items():
            for threads in (1, THREADS):
                rates = [rate(runner, pictures, threads, args.seconds * 2) for _ in range(args.rounds + 1)][1:]
                low, middle, high = min(rates), statistics.median(rates), max(rates)
                table[f"{name}, {threads} threads"] = [round(v) for v in (middle, low, high)]
    return table


def overlapped(plan: Path, image: ImageU8, batch: int, args: argparse.Namespace) -> dict[str, Any]:
    """Pictures per second on the GPU when the next batch is prepared while one runs, beside the engine alone."""
    found: dict[str, list[float]] = {"engine alone": [], "two threads": []}
    with contextlib.ExitStack() as opened:
        engine = opened.enter_context(bare_engine(plan, batch)).run
        runner = opened.enter_context(contextlib.closing(open_graphs(plan, options=GraphOptions(lanes=2))))
        surfaces, _ = opened.enter_context(on_gpu(image, batch))
        rate(runner, surfaces, 2, args.seconds)
        for _ in range(args.rounds):
            calls, end = 0, time.perf_counter() + args.seconds
            started = time.perf_counter()
            while time.perf_counter() < end:
                engine()
                calls += 1
            found["engine alone"].append(calls * batch / (time.perf_counter() - started))
            found["two threads"].append(rate(runner, surfaces, 2, args.seconds))
    shares = [two / one for one, two in zip(*found.values(), strict=True)]
    return {
        **{name: round(statistics.median(rates)) for name, rates in found.items()},
        "share": [round(v, 3) for v in (statistics.median(shares), min(shares), max(shares))],
    }


def rate(runner: GraphRunner, pictures: Sequence[GraphPicture], threads: int, seconds: float) -> float:
    end = time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < end:
            runner(pictures, OPTIONS)
            done += len(pictures)
        return done

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(work, range(threads)))
    return done / (time.perf_counter() - started)


def start_table(plan: Path) -> dict[str, float]:
    """Seconds from the plan to the first boxes, without anything kept on disk and with it."""
    table = {}
    for name in ("nothing kept", "kernels kept"):
        started = time.perf_counter()
        runner = open_graphs(plan, options=GraphOptions(lanes=1))
        runner.warm_up(1)
        table[name] = round(time.perf_counter() - started, 3)
        runner.close()
    return table


def memory_table(plan: Path, image: ImageU8, calls: int) -> dict[str, Any]:
    """MiB of the GPU for a first and for a further lane, and what many calls add to them and to the host's."""
    table: dict[str, Any] = {"calls": calls}
    with on_gpu(image, 1) as (surfaces, _):
        before = used_mib()
        with contextlib.closing(open_graphs(plan, options=GraphOptions(lanes=2))) as runner:
            with runner.on_device(surfaces, OPTIONS):
                first = used_mib()
                runner(surfaces, OPTIONS)  # the first lane is taken
                both = used_mib()
            table |= {"first lane": round(first - before, 1), "further lane": round(both - first, 1)}
            for _ in range(calls // 10):
                runner(surfaces, OPTIONS)
            gpu_mib, host_mib = used_mib(), resident_mib()
            for _ in range(calls):
                runner(surfaces, OPTIONS)
            table |= {
                "growth of the GPU's": round(used_mib() - gpu_mib, 2),
                "growth of the host's": round(resident_mib() - host_mib, 2),
            }
    return table


def used_mib() -> float:
    """Of the GPU's memory, by whomever."""
    with gpu(Device.open(0)).active():
        free, total = check(driver().cuMemGetInfo(), "the memory of the GPU cannot be read")
    return float(total - free) / 2**20


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def use_an_empty_cache(folder: Path) -> str:
    """From here on keep everything in `folder`. Returns which compiler makes the kernels."""
    kept = cache_folder() / "kernels"
    os.environ["YOLOTRT_CACHE"] = str(folder)
    try:
        return "NVRTC {}.{}".format(*compiler_version())
    except MissingExtraError:
        shutil.copytree(kept, folder / "kernels")
        return "none: kernels compiled elsewhere"


def agreement(plan: Path, manifest: Path, frames: Sequence[ImageU8]) -> dict[str, Any]:
    """How many boxes of the path through the host are there again, at IoU 0.98."""
    with Detector(manifest, strict=True, graphs=False) as detector:
        host = detector(frames)
    with contextlib.closing(open_graphs(plan)) as runner:
        found = runner(frames, OPTIONS)
    m = match_all(zip(host, found, strict=True), min_iou=0.98)
    return {
        "host": m.reference,
        "matched_share": round(m.matched_share, 5),
        "added_share": round(m.added_share, 5),
        "smallest_iou": round(float(m.iou.min()), 5),
        "largest_confidence_change": round(float(abs(m.confidence_delta).max()), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each case in each round")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--calls", type=int, default=100_000, help="after which memory is looked at again")
    parser.add_argument("--models", type=Path, help="folder to keep the exports in, or to find them in")
    parser.add_argument("--edges", action="store_true", help="compare raw heads and inputs in FP16 as well")
    args = parser.parse_args()
    with open_source(assets.sample_video()) as source:
        frames = [frame.pixels for frame in source]
    image = np.ascontiguousarray(cv2.resize(frames[0], (1920, 1080)), np.uint8)
    record: dict[str, Any] = {
        "picture": list(image.shape[:2]),
        "cuda_driver": driver_version(),
        "gpu": str(Device.open(0)),
    }
    with tempfile.TemporaryDirectory() as folder:
        record["compiler"] = use_an_empty_cache(Path(folder) / "cache")
        weights, models = assets.folder() / WEIGHTS, args.models or Path(folder)
        for batch in args.batches:
            sizes = BatchRange(min=1, opt=batch, max=batch)
            made = export_model(weights, precision="fp16", batch=sizes, output=models / f"fp16-{batch}")
            assert made.plan is not None, made.note
            if batch == args.batches[0]:
                record["start, s"] = start_table(made.plan)
                record["boxes beside the path through the host"] = agreement(made.plan, made.manifest_path, frames[::3])
                record["pictures/s: median, lowest, highest"] = thread_table(made.plan, image, args)
                record["memory, MiB"] = memory_table(made.plan, image, args.calls)
            if batch > 1:
                record[f"batch {batch}, pictures/s"] = overlapped(made.plan, image, batch, args)
            record[f"batch {batch}"] = batch_table(made.plan, made.manifest_path, image, batch, args)
            if not args.edges:
                continue
            plans = {"whole head": made.plan}
            for name, edges in EDGES.items():
                folder_of = models / f"{name.replace(' ', '-')}-{batch}"
                other = export_model(weights, precision="fp16", batch=sizes, output=folder_of, **edges)
                assert other.plan is not None, other.note
                plans[name] = other.plan
                if batch == args.batches[0]:
                    boxes = agreement(other.plan, made.manifest_path, frames[::3])
                    record[f"boxes of {name} beside the path through the host"] = boxes
            record[f"batch {batch}, edges"] = head_table(plans, image, batch, args)
            sys.stderr.write(json.dumps(record) + "\n")  # what there is, if a later part fails
    sys.stdout.write(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
