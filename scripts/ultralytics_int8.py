"""One INT8 export to OpenVINO by Ultralytics; `bench_int8.py` starts it with an interpreter that has NNCF."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> int:
    """Export as the command line says; the last line of the output is JSON: the model's file, and versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the model is written beside them")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml whose split `train` holds the pictures")
    options = parser.parse_args()
    os.environ["YOLO_AUTOINSTALL"] = "False"

    from tests.support import torchvision_ops

    torchvision_ops.install()
    from ultralytics import YOLO

    folder = YOLO(str(options.weights)).export(
        format="openvino", quantize=8, data=str(options.data), split="train", imgsz=640, batch=1, device="cpu"
    )
    packages = ("ultralytics", "nncf", "openvino", "torch")
    found = {"model": str(next(Path(folder).glob("*.xml"))), "versions": {p: version(p) for p in packages}}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
