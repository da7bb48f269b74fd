"""INT8 in OpenVINO: yolotrt's graph beside FP32 and beside Ultralytics' own INT8 export, in speed and in accuracy.

    python -m demo.dataset --out SET --train 128
    scripts/bench_int8 --data SET/data.yaml --nncf VENV/bin/python --work WORK

Ultralytics exports with NNCF (`pip install nncf ultralytics`) in an environment of its own, calibrated on the same
pictures; what is in WORK already is not made again. All versions run in the same OpenVINO through the same back-end,
and are scored by `yolotrt val`'s rules.

Each version has a process of its own, since idle threads of one would slow the next one down. Each picture goes through
all of them, in random order, before the next one comes, so that a machine that is busy is busy for all. What counts are
ratios within such a turn. The time of the processor is measured beside that of the clock: what else runs on the machine
is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from yolotrt import Detector, assets, files  # noqa: E402
from yolotrt.backends.base import Backend, BackendInfo  # noqa: E402
from yolotrt.backends.openvino_ import OpenVinoBackend  # noqa: E402
from yolotrt.backends.openvino_import import import_openvino, openvino_core  # noqa: E402
from yolotrt.evaluation.dataset import open_dataset  # noqa: E402
from yolotrt.evaluation.validate import VAL_OPTIONS, validate  # noqa: E402
from yolotrt.export.gate.running import write_model  # noqa: E402
from yolotrt.export.quantize import quantize  # noqa: E402
from yolotrt.export.samples import batches, find_pictures  # noqa: E402
from yolotrt.model_spec import ModelSpec  # noqa: E402
from yolotrt.model_spec_infer import read_onnx_spec  # noqa: E402
from yolotrt.types import Batch, RawOutputs  # noqa: E402

FP32, OURS, THEIRS, AS_SHIPPED = (
    "FP32",
    "INT8, yolotrt",
    "INT8, Ultralytics",
    "INT8, Ultralytics, as its predict runs it",
)
PAUSE_S = 0.02
STREAMED = 16
"""Pictures in one turn of the throughput mode."""


class IrBackend(Backend):
    """A model in OpenVINO's own format, run as `OpenVinoBackend` runs an ONNX file.

    Args:
        path: the `.xml` file.
        like: what the same model is as ONNX.
        hint: precision of what is not quantized; empty leaves it to OpenVINO.
    """

    def __init__(self, path: Path, like: ModelSpec, *, hint: str) -> None:
        self._core = openvino_core(needed_for="this comparison")
        self._model = self._core.read_model(str(path))
        self._config = {"INFERENCE_PRECISION_HINT": hint} if hint else {}
        compiled = self._compile("LATENCY")
        told = import_openvino(needed_for="this comparison").__version__.split("-")[0]
        super().__init__(
            replace(like, precision="int8"),
            BackendInfo(backend="openvino", flavour="openvino", version=told, device="cpu", precision="int8"),
        )
        self._request = compiled.create_infer_request()
        self._lanes: tuple[_Lane, ...] = ()

    def _compile(self, hint: str) -> Any:
        return self._core.compile_model(self._model, "CPU", {**self._config, "PERFORMANCE_HINT": hint})

    def _infer(self, batch: Batch) -> RawOutputs:
        return _run(self._request, batch, self.spec)

    def _side_by_side(self) -> tuple[Backend, ...]:
        if not self._lanes:
            compiled = self._compile("THROUGHPUT")
            count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            self._lanes = tuple(_Lane(self.spec, self.info, compiled.create_infer_request()) for _ in range(count))
        return self._lanes

    def _close(self) -> None:
        for lane in self._lanes:
            lane.close()


class _Lane(Backend):
    def __init__(self, spec: ModelSpec, info: BackendInfo, request: Any) -> None:
        super().__init__(spec, info)
        self._request = request

    def _infer(self, batch: Batch) -> RawOutputs:
        return _run(self._request, batch, self.spec)

    def _close(self) -> None:
        del self._request


def _run(request: Any, batch: Batch, spec: ModelSpec) -> RawOutputs:
    # By position: the outputs of Ultralytics' models have no names.
    found = request.infer([batch.images], share_inputs=True, share_outputs=False)
    return RawOutputs(arrays={spec.outputs[0].name: found[0]}, spec=spec)


class BackendDetector(Detector):
    """A detector that runs a back-end given to it, instead of one made from a file."""

    def __init__(self, model: Path, backend: Backend) -> None:
        super().__init__(model, backend="openvino", options=VAL_OPTIONS)
        self._backend.close()
        self._backend = backend


@dataclass(frozen=True, kw_only=True)
class Version:
    """One contestant: its name, its file, and the hint for what is not quantized."""

    name: str
    path: Path
    hint: str = "f32"

    def open(self, spec: ModelSpec) -> Backend:
        if self.path.suffix == ".onnx":
            return OpenVinoBackend(self.path, read_onnx_spec(self.path))
        return IrBackend(self.path, spec, hint=self.hint)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one turn, per picture: by the clock, and of the processor in all threads of the contestant."""

    wall: float
    cpu: float


def make_ours(model: Path, pictures: Sequence[Path], path: Path) -> Path:
    """The INT8 graph as `yolotrt export` writes it: FP16 around."""
    if not path.exists():
        source = onnx.load(model)
        spec = read_onnx_spec(source)
        made = quantize(source, lambda: batches(pictures, spec), kind="int8")
        write_model(path, made.model, spec, "int8")
    return path


def make_theirs(weights: Path, pictures: Sequence[Path], names: Sequence[str], nncf: str, work: Path) -> Path:
    """Ultralytics' export, and the versions that made it in `ultralytics.json`."""
    told = work / "ultralytics.json"
    if not told.exists():
        copied = Path(shutil.copy(weights, work / "ultralytics.pt"))
        listed, data = work / "calibration.txt", work / "calibration.yaml"
        listed.write_text("".join(f"{p.resolve()}\n" for p in pictures))
        data.write_text(json.dumps({"train": str(listed), "val": str(listed), "names": list(names)}))
        command = [nncf, str(ROOT / "scripts/ultralytics_int8.py"), "--weights", str(copied), "--data", str(data)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        told.write_text(done.stdout.splitlines()[-1])
    return Path(json.loads(told.read_text())["model"])


def work_on(contestant: Version, spec: ModelSpec, images: list[Batch], turns: Connection) -> None:
    """A contestant's own process: answers an index with the `Timing` of that picture, -1 with that of the streams."""
    with contestant.open(spec) as backend:
        if backend.channels_last:  # as `Detector` prepares its pictures; Ultralytics prepares planes
            images = [
                replace(b, images=np.ascontiguousarray(b.images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))
                for b in images
            ]
        lanes = backend.side_by_side()
        with ThreadPoolExecutor(len(lanes)) as pool:
            for lane in (backend, *lanes):
                for batch in images[:3]:
                    lane.infer(batch)
            turns.send(str(backend.info))
            while (index := turns.recv()) is not None:
                wall, cpu = time.perf_counter(), time.process_time()
                if index >= 0:
                    backend.infer(images[index])
                    count = 1
                else:
                    _stream(lanes, images, pool)
                    count = STREAMED
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                turns.send(Timing(wall=wall / count, cpu=cpu / count))


def _stream(lanes: Sequence[Backend], images: Sequence[Batch], pool: ThreadPoolExecutor) -> None:
    def run(number: int) -> None:
        for i in range(number, STREAMED, len(lanes)):
            lanes[number].infer(images[i % len(images)])

    list(pool.map(run, range(len(lanes))))


def race(
    versions: Sequence[Version], spec: ModelSpec, images: list[Batch], *, rounds: int
) -> tuple[dict[str, str], dict[str, list[Timing]], dict[str, list[Timing]]]:
    """What runs each, and by name the timings of every turn: one picture at a time, and streamed."""
    order = random.Random(0)  # noqa: S311 (an order of turns, not a secret)
    single: dict[str, list[Timing]] = {v.name: [] for v in versions}
    streamed: dict[str, list[Timing]] = {v.name: [] for v in versions}
    with contestants(versions, spec, images) as (lines, infos):
        for _ in range(rounds):
            for index in (*range(len(images)), -1):
                for name in order.sample(list(lines), len(lines)):
                    time.sleep(PAUSE_S)
                    lines[name].send(index)
                    (single if index >= 0 else streamed)[name].append(lines[name].recv())
    return infos, single, streamed


@contextlib.contextmanager
def contestants(
    versions: Sequence[Version], spec: ModelSpec, images: list[Batch]
) -> Iterator[tuple[dict[str, Connection], dict[str, str]]]:
    """A process for each, warmed up: the lines to them, and what runs there."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    infos, processes = {}, []
    for each in versions:
        lines[each.name], theirs = context.Pipe()
        processes.append(context.Process(target=work_on, args=(each, spec, images, theirs), daemon=True))
        processes[-1].start()
        theirs.close()
        infos[each.name] = lines[each.name].recv()
    yield lines, infos
    for line in lines.values():
        line.send(None)
    for process in processes:
        process.join()


def scores(versions: Sequence[Version], spec: ModelSpec, data: Sequence[Path]) -> dict[str, dict[str, float]]:
    """mAP50-95 of each on each data set."""
    datasets = [open_dataset(path) for path in data]
    found: dict[str, dict[str, float]] = {}
    for each in versions:
        with BackendDetector(versions[0].path, each.open(spec)) as detector:
            found[each.name] = {
                f"{len(d.samples)} pictures": float(validate(detector, d).metrics.map50_95 or 0) for d in datasets
            }
    return found


def ratios(slow: Sequence[Timing], fast: Sequence[Timing], part: str) -> tuple[float, float, float]:
    """How many times as fast, turn by turn: the median, and the 10th and 90th percentile."""
    each = [getattr(a, part) / getattr(b, part) for a, b in zip(slow, fast, strict=True)]
    low, high = np.quantile(each, [0.1, 0.9]).tolist()
    return statistics.median(each), low, high


def timing_table(title: str, found: Mapping[str, Sequence[Timing]]) -> list[str]:
    """One markdown table: medians in milliseconds per picture, the clock's also at its best."""
    lines = [
        f"### {title}",
        "",
        "| | clock | clock, fastest tenth | processor | times as fast as FP32 | processor, of FP32 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, rows in found.items():
        wall = statistics.median(t.wall for t in rows) * 1e3
        best = float(np.quantile([t.wall for t in rows], 0.1)) * 1e3
        cpu = statistics.median(t.cpu for t in rows) * 1e3
        speed, low, high = ratios(found[FP32], rows, "wall")
        work, low_work, high_work = ratios(rows, found[FP32], "cpu")
        lines.append(
            f"| {name} | {wall:.1f} | {best:.1f} | {cpu:.1f} | **{speed:.2f}** ({low:.2f} to {high:.2f}) "
            f"| {work:.2f} ({low_work:.2f} to {high_work:.2f}) |"
        )
    return [*lines, ""]


def verdicts(found: Mapping[str, Sequence[Timing]]) -> dict[str, tuple[float, float, float]]:
    """The ratios that matter, by clock and by processor."""
    told = {"": "wall", ", by processor time": "cpu"}
    pairs = {"FP32": FP32, "Ultralytics' INT8": THEIRS, "Ultralytics' INT8 as its predict runs it": AS_SHIPPED}
    return {
        f"yolotrt's INT8, times as fast as {what}{how}": ratios(found[name], found[OURS], part)
        for what, name in pairs.items()
        for how, part in told.items()
        if name in found
    }


def machine() -> str:
    """What it ran on, in one line."""
    told = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in told if "model name" in line), platform.processor())
    flags = next((line for line in told if line.startswith("flags")), "").split()
    units = [f for f in ("avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if f in flags]
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    versions = ", ".join(f"{p} {version(p)}" for p in ("openvino", "numpy"))
    return (
        f"{cpu} ({', '.join(units)}), {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}, "
        f"{versions}; yolotrt {version('yolotrt')} ({commit}); {time.strftime('%Y-%m-%d')}"
    )


def report(
    found: Mapping[str, Sequence[Timing]],
    streamed: Mapping[str, Sequence[Timing]],
    accuracy: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """The markdown behind the head."""
    lines = [*timing_table("One picture at a time", found), *timing_table("Streams (throughput mode)", streamed)]
    sets = list(accuracy[FP32])
    lines += ["### mAP50-95, and over that of FP32", "", f"| | {' | '.join(sets)} |", f"| --- |{' --- |' * len(sets)}"]
    for name, values in accuracy.items():
        cells = (f"{values[k]:.4f} ({values[k] / accuracy[FP32][k]:.4f})" for k in sets)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("")
    for title, rows in (("one picture at a time", found), ("streams", streamed)):
        lines += [f"- {k}, {title}: **{r:.2f}** ({a:.2f} to {b:.2f})" for k, (r, a, b) in verdicts(rows).items()]
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=assets.demo_model(), help="FP32 ONNX  [default: the demo model]")
    parser.add_argument("--weights", type=Path, default=assets.folder() / "yolov8n_demo.pt", help="the same model")
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="data.yaml; the first has a train split")
    parser.add_argument("--nncf", help="Python that has Ultralytics, OpenVINO and NNCF  [default: without Ultralytics]")
    parser.add_argument("--work", type=Path, required=True, help="folder for the models")
    parser.add_argument("--calibration", type=int, default=128, help="pictures, of the train split")
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path, help="markdown file to write; the figures go beside it as JSON")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    spec = read_onnx_spec(args.model)
    train = find_pictures(args.data[0].parent / "images" / "train", limit=args.calibration)
    versions = [
        Version(name=FP32, path=args.model),
        Version(name=OURS, path=make_ours(args.model, train, args.work / "int8.onnx")),
    ]
    made_by = ""
    if args.nncf:
        theirs = make_theirs(args.weights, train, spec.names, args.nncf, args.work)
        versions += [Version(name=THEIRS, path=theirs), Version(name=AS_SHIPPED, path=theirs, hint="")]
        told = json.loads((args.work / "ultralytics.json").read_text())["versions"]
        made_by = f" Ultralytics' model made with {', '.join(f'{k} {v}' for k, v in told.items())}."
    shown = find_pictures(args.data[0].parent / "images" / "val", limit=args.pictures)
    load = os.getloadavg()[0]
    infos, single, streamed = race(versions, spec, list(batches(shown, spec)), rounds=args.rounds)
    load = (load + os.getloadavg()[0]) / 2
    accuracy = scores(versions, spec, args.data)
    measured = (
        f"Measured on {machine()}.{made_by} {len(train)} calibration pictures. "
        f"The load of the machine, this comparison included, was {load:.0f}."
    )
    explained = (
        f"`scripts/bench_int8 --pictures {args.pictures} --rounds {args.rounds}`: milliseconds per picture, medians; "
        "ratios are those within a turn, the median and in brackets the 10th and 90th percentile."
    )
    head = [
        measured,
        "",
        explained,
        "",
        *(f"- {name}: {info}" for name, info in infos.items()),
        "",
    ]
    text = "\n".join([*head, *report(single, streamed, accuracy)])
    sys.stdout.write(text + "\n")
    if args.output:
        files.write_text(args.output, "# INT8 in OpenVINO\n\n" + text)
        record = {
            "measured": measured,
            "map50_95": accuracy,
            "single": verdicts(single),
            "streamed": verdicts(streamed),
        }
        files.write_text(args.output.with_suffix(".json"), json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
