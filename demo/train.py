"""Train the demo model: YOLOv8n, from scratch, on the demo data set. Other models are for measurements.

    python -m demo.train --data /tmp/demo/data.yaml --out /tmp/result --minutes 7.5

Leaves `best.pt` (half precision, nothing in it but the model, its class names and its settings), `results.csv` and
`metrics.json` in `--out`. `--collect` does that last step alone, for a run that was cut off. Where torchvision's
operators are missing, run it through `tests/support/torchvision_ops.py`.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_RUN = "train"


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Ultralytics' training arguments; `time` in hours makes it choose its own number of epochs."""
    settings: dict[str, Any] = {
        "data": str(options.data), "imgsz": options.imgsz, "batch": options.batch, "device": options.device,
        "workers": options.workers, "cache": options.cache, "amp": options.amp, "epochs": options.epochs,
        "optimizer": "AdamW", "lr0": 0.0012, "lrf": 0.02, "cos_lr": True, "warmup_epochs": 2, "weight_decay": 0.0005,
        "close_mosaic": min(10, options.epochs // 3), "scale": 0.4, "translate": 0.1, "patience": 0,
        "plots": False, "deterministic": False, "seed": 0, "project": str(options.out.resolve()), "name": _RUN,
        "exist_ok": True, "verbose": False, "pretrained": False, "nbs": options.nominal_batch,
    }  # fmt: skip
    if options.minutes:
        settings["time"] = options.minutes / 60
    return settings


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Train and validate; returns the figures of the best epoch's weights on the validation pictures."""
    import torch
    import ultralytics

    start = time.monotonic()
    model = ultralytics.YOLO(options.model)
    metrics = model.train(**_settings(options))
    if metrics is None:
        raise RuntimeError("training returned no metrics; expected the final validation to run")
    names = metrics.names
    rows = (options.out / _RUN / "results.csv").read_text(encoding="utf-8").splitlines()
    return {
        "map50_95": round(float(metrics.box.map), 5),
        "map50": round(float(metrics.box.map50), 5),
        "map50_95_per_class": {
            names[int(c)]: round(float(metrics.box.maps[int(c)]), 4) for c in metrics.box.ap_class_index
        },
        "epochs": len(rows) - 1,
        "minutes": round((time.monotonic() - start) / 60, 2),
        "imgsz": options.imgsz,
        "batch": options.batch,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ultralytics": ultralytics.__version__,
    }


def slim(source: Path, target: Path) -> None:
    """Copy weights in half precision without optimizer, file paths and the state of the training machine."""
    import torch
    from ultralytics.utils.torch_utils import strip_optimizer

    strip_optimizer(source, str(target))
    checkpoint = torch.load(target, map_location="cpu", weights_only=False)
    keep = (
        "task",
        "imgsz",
        "epochs",
        "batch",
        "optimizer",
        "lr0",
        "lrf",
        "cos_lr",
        "close_mosaic",
        "scale",
        "seed",
        "amp",
    )
    arguments = {key: checkpoint["train_args"][key] for key in keep}
    model = checkpoint["model"]
    model.args = {key: value for key, value in arguments.items() if key in ("task", "imgsz")}
    model.yaml.pop("yaml_file", None)
    model.pt_path = None
    small = {key: checkpoint[key] for key in ("version", "license", "docs")}
    small |= {"epoch": -1, "model": model, "train_args": arguments}
    torch.save(small, target)


def collect(out: Path) -> None:
    """Bring the best weights so far and the history from the run's folder to `out`."""
    run = out / _RUN
    best = next((p for p in (run / "weights/best.pt", run / "weights/last.pt") if p.is_file()), None)
    if best is None:
        raise FileNotFoundError(f"{run / 'weights'}: no best.pt and no last.pt; did the first epoch finish?")
    slim(best, out / "best.pt")
    if (run / "results.csv").is_file():
        shutil.copyfile(run / "results.csv", out / "results.csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo.train", description="Train the demo model.")
    parser.add_argument("--data", type=Path, help="the data set's data.yaml")
    parser.add_argument("--model", default="yolov8n.yaml", help="Ultralytics' name of it (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run and its results")
    parser.add_argument(
        "--epochs", type=int, default=60, help="epochs, unless --minutes is given (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=0, help="train for this long, with as many epochs as fit")
    parser.add_argument("--batch", type=int, default=32, help="pictures per step (default: %(default)s)")
    parser.add_argument(
        "--nominal-batch", type=int, default=64, help="pictures per step of the optimizer (default: %(default)s)"
    )
    parser.add_argument("--imgsz", type=int, default=640, help="picture size (default: %(default)s)")
    parser.add_argument("--device", default="0", help="GPU index or 'cpu' (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=14, help="loader processes (default: %(default)s)")
    parser.add_argument(
        "--cache", default="ram", choices=("ram", "disk", "none"), help="where to keep decoded pictures"
    )
    parser.add_argument("--amp", default="bf16", choices=("bf16", "fp16", "fp32"), help="training precision")
    parser.add_argument("--collect", action="store_true", help="only bring together what an earlier run left in --out")
    options = parser.parse_args(arguments)
    options.cache = False if options.cache == "none" else options.cache
    if not options.collect and options.data is None:
        parser.error("--data is needed, unless --collect is given")
    if not options.collect:
        figures = train(options)
        (options.out / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(figures, indent=2))
    collect(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
