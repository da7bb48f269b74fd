"""What it saves on a CPU not to compute the boxes that nobody wants: a picture to boxes in OpenVINO, cut and whole.

The two take turns, call by call, so that whatever else the machine does falls on both. Prints medians in milliseconds,
their ratio, and how far the boxes are apart.

usage: python scripts/bench_cut.py MODEL.onnx [MODEL.onnx ...] [--calls 60] [--image FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from pathlib import Path
from unittest import mock

import numpy as np

from yolotrt import Detector, assets
from yolotrt.backends import openvino_graph
from yolotrt.sources import read_image
from yolotrt.types import ImageU8

_WARM_UP = 5


def opened(model: Path, *, cut: bool) -> Detector:
    never = mock.patch.object(openvino_graph, "cut_boxes", return_value=None)
    with contextlib.nullcontext() if cut else never:
        return Detector(model, backend="openvino")


def measure(model: Path, image: ImageU8, calls: int) -> str:
    seconds: dict[str, list[float]] = {"cut": [], "whole": []}
    with opened(model, cut=True) as cut, opened(model, cut=False) as whole:
        for _ in range(_WARM_UP + calls):
            for name, detector in (("cut", cut), ("whole", whole)):
                began = time.perf_counter()
                detector(image)
                seconds[name].append(time.perf_counter() - began)
        one, other = cut(image), whole(image)
    middle = {name: 1e3 * statistics.median(found[_WARM_UP:]) for name, found in seconds.items()}
    apart = np.abs(one.xyxy - other.xyxy).max(initial=0) if len(one) == len(other) else np.nan
    return (
        f"{model.name}: cut {middle['cut']:.1f} ms, whole {middle['whole']:.1f} ms, "
        f"ratio {middle['cut'] / middle['whole']:.3f}; {len(one)} and {len(other)} boxes, {apart:.5f} px apart"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--image", type=Path, default=assets.sample_images()[0])
    given = parser.parse_args()
    image = read_image(given.image)
    for model in given.models:
        print(measure(model, image, given.calls), flush=True)


if __name__ == "__main__":
    main()
