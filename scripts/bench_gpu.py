"""What `Detector` costs on this GPU: the demo model in FP16, stage by stage, and its boxes against the CPU's.

Copies pictures and results through the host; prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from yolotrt import Detections, Detector, assets  # noqa: E402
from yolotrt.cuda.driver import driver_version  # noqa: E402
from yolotrt.evaluation.matching import match_all  # noqa: E402
from yolotrt.export.pipeline import export_model  # noqa: E402
from yolotrt.model_spec import BatchRange  # noqa: E402
from yolotrt.sources import open_source  # noqa: E402
from yolotrt.types import Frame  # noqa: E402

WEIGHTS = "yolov8n_demo.pt"


def measure(detector: Detector, frames: list[Frame], batch: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per picture: median of each stage, and of the whole call per round."""
    for _ in range(10):
        detector.detect_frames(frames[:batch])
    stages: dict[str, list[float]] = {"preprocess": [], "inference": [], "postprocess": []}
    whole = []
    for _ in range(rounds):
        started = time.perf_counter()
        for i in range(0, len(frames) - batch + 1, batch):
            for result in detector.detect_frames(frames[i : i + batch]):
                for name, values in stages.items():
                    values.append(1e3 * getattr(result.seconds, name))
        whole.append(1e3 * (time.perf_counter() - started) / (len(frames) // batch * batch))
    medians = {name: round(statistics.median(values), 3) for name, values in stages.items()}
    return {**medians, "whole_call_by_round": [round(v, 3) for v in whole]}


def agreement(reference: list[Detections], found: list[Detections]) -> dict[str, Any]:
    """How many boxes of the reference are there again, at IoU 0.98."""
    m = match_all(zip(reference, found, strict=True), min_iou=0.98)
    return {
        "reference": m.reference,
        "matched_share": round(m.matched_share, 5),
        "added_share": round(m.added_share, 5),
        "smallest_iou": round(float(m.iou.min()), 4),
        "largest_confidence_change": round(float(abs(m.confidence_delta).max()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with open_source(assets.sample_video()) as source:
        frames = list(source)
    pictures = [f.pixels for f in frames]
    with Detector(assets.demo_model(), device="cpu") as cpu:
        reference = cpu(pictures)
    record: dict[str, Any] = {"frames": len(frames), "picture": list(frames[0].size), "cuda_driver": driver_version()}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "fp16"):
            for batch in (1, 8):
                output = Path(folder) / f"{precision}-{batch}"
                sizes = BatchRange(min=1, opt=batch, max=batch)
                made = export_model(assets.folder() / WEIGHTS, precision=precision, batch=sizes, output=output)
                started = time.perf_counter()
                with Detector(made.manifest_path, strict=True, graphs=False) as detector:
                    loaded = time.perf_counter() - started
                    record["runs_in"] = str(detector.info)
                    record[f"{precision}, batch {batch}"] = {
                        "load_s": round(loaded, 2),
                        "milliseconds": measure(detector, frames, batch, args.rounds),
                        "boxes_against_fp32_on_the_cpu": agreement(reference, detector(pictures)),
                    }
    sys.stdout.write(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
