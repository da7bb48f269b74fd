"""Time yolotrt beside Ultralytics `predict` on this CPU: `yolotrt bench --compare ultralytics`, on more kinds of input.

Prints a markdown table and writes it, with every figure as JSON beside it, where `--output` says. See
`yolotrt.bench.versus` for how it is measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support import torchvision_ops  # noqa: E402
from yolotrt import Detector, assets, files  # noqa: E402
from yolotrt.bench.contestants import Case  # noqa: E402
from yolotrt.bench.machine import Machine, Watch  # noqa: E402
from yolotrt.bench.pictures import FULL_HD, Pictures  # noqa: E402
from yolotrt.bench.versus import contestants, race  # noqa: E402
from yolotrt.bench.view import markdown_grid, race_grid  # noqa: E402
from yolotrt.model_files import find_model_files  # noqa: E402


def cases(count: int) -> list[Case]:
    """Frames of the demo video, from memory and from files."""
    video = (assets.sample_video(),)
    small, large = Pictures(sources=video, count=count), Pictures(sources=video, count=count, size=FULL_HD)
    return [
        Case(title="Arrays of 960 x 540", pictures=small),
        Case(title="Arrays of 1920 x 1080", pictures=large),
        Case(title="JPEG files of 1920 x 1080 (reading them counted in before)", pictures=large, from_files=True),
        Case(title="A folder of 1920 x 1080 JPEG files, streamed", pictures=large, stream=True),
    ]


def commit() -> str:
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="an ONNX file  [default: the demo model]")
    parser.add_argument("--pictures", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="markdown file to write; the figures go beside it as JSON")
    args = parser.parse_args()
    model = args.model or assets.demo_model()
    with Detector(model, device="cpu") as detector:
        default, spec = str(detector.info), detector.spec
    taking_part = contestants(find_model_files(model), spec, device="cpu")
    watch = Watch(gpu=False)
    races = []
    for case in cases(args.pictures):
        races.append(race(taking_part, case, rounds=args.rounds, prepare=torchvision_ops.install))
        grid = race_grid(races[-1])
        sys.stdout.write("\n".join([f"### {grid.title}", "", markdown_grid(grid), "", *grid.said, "", ""]))
        sys.stdout.flush()
    machine = Machine.here(gpu=False, packages=("ultralytics", "torch"))
    head = [
        f"Measured on {machine} ({commit()}). CPU default: {default}. Meanwhile: {watch.load()}.",
        "",
        f"`scripts/bench --pictures {args.pictures} --rounds {args.rounds}`, milliseconds, medians.",
        "",
    ]
    sys.stdout.write("\n".join(head))
    if args.output:
        tables = []
        for one in races:
            grid = race_grid(one)
            tables += [f"### {grid.title}", "", markdown_grid(grid), "", *(f"- {text}" for text in grid.said), ""]
        files.write_text(args.output, "\n".join(["# CPU: yolotrt beside Ultralytics", "", *head, *tables]))
        record: dict[str, Any] = {"machine": str(machine), "default": default, **vars(args), "model": model.name}
        for one in races:
            record[one.case.title] = {what: dataclasses.astuple(ratio) for what, ratio in one.ratios().items()}
        files.write_text(args.output.with_suffix(".json"), json.dumps(record, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
