"""Exported ONNX files as plans on this GPU: what each finds beside the file itself on the CPU, and how long it takes.

usage: python scripts/precision_gpu.py DATA NAME=FILE.onnx ... [--cpu NAME=MAP ...]

Prints one JSON object. The mAP50-95 of a file on the CPU is measured unless it is given. Latencies are of the engine
alone as a CUDA graph, one picture, all versions in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from yolotrt import Detector, PlanOptions  # noqa: E402
from yolotrt.backends import BackendName  # noqa: E402
from yolotrt.backends.bare_engine import bare_engine  # noqa: E402
from yolotrt.backends.flavours import for_target  # noqa: E402
from yolotrt.cuda.device import Device  # noqa: E402
from yolotrt.evaluation.dataset import open_dataset  # noqa: E402
from yolotrt.evaluation.validate import VAL_OPTIONS, validate  # noqa: E402
from yolotrt.export.plan import build_plan  # noqa: E402
from yolotrt.model_spec_infer import read_onnx_spec  # noqa: E402

ROUNDS = 20
SECONDS = 0.1  # of each version in each round


def map_of(model: Path, data: Path, *, backend: BackendName, graphs: bool | None = None) -> float:
    with Detector(model, options=VAL_OPTIONS, backend=backend, graphs=graphs) as detector:
        return round(float(validate(detector, open_dataset(data)).metrics.map50_95 or 0), 5)


def plan_of(onnx: Path, folder: Path) -> Path:
    plan = folder / f"{onnx.stem}.engine"
    built = build_plan(onnx, flavour=for_target("auto"), spec=read_onnx_spec(onnx), options=PlanOptions())
    plan.write_bytes(built.data)
    return plan


def latencies(engines: Mapping[str, Callable[[], None]]) -> dict[str, Any]:
    """Milliseconds: the median of all calls, and the lowest and highest median of a round."""
    rounds: dict[str, list[list[float]]] = {name: [] for name in engines}
    for run in engines.values():
        for _ in range(50):
            run()
    for _ in range(ROUNDS):
        for name, run in engines.items():
            own, end = [], time.perf_counter() + SECONDS
            while (started := time.perf_counter()) < end:
                run()
                own.append(1e3 * (time.perf_counter() - started))
            rounds[name].append(own)
    found = {}
    for name, by_round in rounds.items():
        medians = [statistics.median(calls) for calls in by_round]
        middle = statistics.median(call for calls in by_round for call in calls)
        found[name] = [round(value, 4) for value in (middle, min(medians), max(medians))]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--cpu", nargs="*", default=[])
    args = parser.parse_args()
    models = {name: Path(path) for name, _, path in (text.partition("=") for text in args.models)}
    known = {name: float(value) for name, _, value in (text.partition("=") for text in args.cpu)}
    record: dict[str, Any] = {"gpu": str(Device.open(0)), "tensorrt": for_target("auto").title, "versions": {}}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        plans = {name: plan_of(path, Path(folder)) for name, path in models.items()}
        for name, plan in plans.items():
            record["versions"][name] = {
                "cpu": known[name] if name in known else map_of(models[name], args.data, backend="onnxruntime"),
                "gpu": map_of(plan, args.data, backend="tensorrt", graphs=True),
                "gpu, through the host": map_of(plan, args.data, backend="tensorrt", graphs=False),
            }
        engines = {name: opened.enter_context(bare_engine(plan, 1)).run for name, plan in plans.items()}
        for name, found in latencies(engines).items():
            record["versions"][name]["ms: median, lowest, highest round"] = found
    sys.stdout.write(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
