"""A raw head beside the whole one on the CPU, from a 1080p array to its boxes; prints JSON.

All cases take turns call by call, in an order that changes. On a machine that others use as well, the CPU time of one
thread is the steadier measure, so it is given beside the time on the clock. Ratios are of calls of one turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from yolotrt import Detector, assets  # noqa: E402
from yolotrt.detections import Detections  # noqa: E402
from yolotrt.evaluation.matching import match_all  # noqa: E402
from yolotrt.export.graph import Graph  # noqa: E402
from yolotrt.export.head_surgery import cut_head  # noqa: E402
from yolotrt.model_spec_infer import load_onnx, read_onnx_spec  # noqa: E402
from yolotrt.sources.images import read_image  # noqa: E402


def save_raw(model: Path, folder: Path) -> Path:
    """The model with a raw head."""
    graph = load_onnx(model)
    cut = cut_head(graph, read_onnx_spec(graph))
    path = folder / "raw.onnx"
    path.write_bytes(Graph(model=cut.model, spec=cut.spec).serialized())
    return path


def interval(ratios: Sequence[float]) -> list[float]:
    """The median, and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (1000, len(ratios))), axis=1)
    return [round(float(v), 4) for v in (np.median(ratios), *np.percentile(medians, (2.5, 97.5)))]


def agreement(whole: list[Detections], raw: list[Detections]) -> dict[str, Any]:
    found = match_all(zip(whole, raw, strict=True), min_iou=0.999)
    if not found.reference:
        return {"boxes": 0}
    return {
        "boxes": found.reference,
        "matched_share": found.matched_share,
        "added_share": found.added_share,
        "smallest_iou": round(float(found.iou.min()), 6),
        "largest_confidence_change": float(np.abs(found.confidence_delta).max()),
    }


def measure(backend: Any, models: dict[str, Path], args: argparse.Namespace) -> dict[str, Any]:
    pictures = [read_image(path) for path in assets.sample_images()]
    image = np.ascontiguousarray(cv2.resize(pictures[0], (1920, 1080)), np.uint8)
    turns, names = random.Random(0), list(models)  # noqa: S311
    cpu: dict[str, list[float]] = {name: [] for name in names}
    wall: dict[str, list[float]] = {name: [] for name in names}
    with contextlib.ExitStack() as opened:
        detectors = {
            name: opened.enter_context(Detector(path, backend=backend, threads=args.threads))
            for name, path in models.items()
        }
        boxes = {name: detector(pictures) for name, detector in detectors.items()}
        for number in range(args.calls + 10):
            for name in turns.sample(names, len(names)):
                at, on_cpu = time.perf_counter(), time.process_time()
                detectors[name](image)
                if number >= 10:
                    cpu[name].append(1e3 * (time.process_time() - on_cpu))
                    wall[name].append(1e3 * (time.perf_counter() - at))
        record: dict[str, Any] = {"runs_in": str(detectors["whole"].info), **agreement(boxes["whole"], boxes["raw"])}
    for what, times in (("cpu", cpu), ("wall", wall)):
        for name in names:
            record[f"{name}, {what} ms"] = round(statistics.median(times[name]), 2)
        ratios = [raw / whole for raw, whole in zip(times["raw"], times["whole"], strict=True)]
        record[f"raw / whole, {what}: median and 95 % interval"] = interval(ratios)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=assets.folder() / "yolov8n_demo.onnx")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = {"whole": args.model, "raw": save_raw(args.model, Path(folder))}
        record = {backend: measure(backend, models, args) for backend in ("openvino", "onnxruntime")}
    sys.stdout.write(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
