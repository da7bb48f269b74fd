"""Accuracy of yolotrt's quantizer beside NVIDIA ModelOpt's: same ONNX, same pictures, same evaluation.

    python scripts/bench_modelopt.py assets/demo/yolov8n_demo.onnx --modelopt VENV/bin/python \\
        --calibration SET/images/train --data SET/data.yaml

ModelOpt (`pip install "nvidia-modelopt[onnx]==0.47.*"`) runs in an environment of its own, once as it comes and once
leaving out the layers that yolotrt leaves out. Each version runs in ONNX Runtime and is scored by `yolotrt val`'s
rules. Prints a markdown table, and writes every figure as JSON where `--output` says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from yolotrt import Detector, files  # noqa: E402
from yolotrt.evaluation.dataset import open_dataset  # noqa: E402
from yolotrt.evaluation.labels import Dataset  # noqa: E402
from yolotrt.evaluation.validate import VAL_OPTIONS, validate  # noqa: E402
from yolotrt.export.precision import to_fp16  # noqa: E402
from yolotrt.export.quantize import Calibration, Kind  # noqa: E402
from yolotrt.export.quantize.place import GraphView  # noqa: E402
from yolotrt.export.samples import batches, find_pictures  # noqa: E402
from yolotrt.model_spec_infer import read_onnx_spec  # noqa: E402

KINDS: tuple[Kind, ...] = ("int8", "fp8")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One version: the share of the convolutions' multiplications that it quantizes, mAP50-95 and mAP50 by data set."""

    name: str
    share: float
    map50_95: Mapping[str, float]
    map50: Mapping[str, float]
    seconds: float


class Bench:
    """Makes and scores the versions of one model."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options = options
        self.model = onnx.load(options.model)
        self.spec = read_onnx_spec(self.model)
        self.pictures = find_pictures(options.calibration, limit=options.pictures)
        self.data: dict[str, Dataset] = {str(p): open_dataset(p) for p in options.data}
        self.work = work
        self.versions: dict[str, str] = {}
        self.calibration = Calibration.measure(self.model, lambda: batches(self.pictures, self.spec))
        self.macs = {GraphView(self.calibration.model).name(k): v for k, v in self.calibration.macs.items()}

    def rows(self) -> Iterator[Row]:
        yield self._score("FP32", self.model, 0.0)
        half = to_fp16(self.model, batches(self.pictures[:32], self.spec)).model
        yield self._score("FP16", half, 0.0)
        for kind in self.options.kinds:
            started = time.perf_counter()
            ours = self.calibration.quantize(kind=kind)
            yield self._score(f"{kind} yolotrt", ours.model, time.perf_counter() - started)
            if self.options.modelopt is None:
                continue
            for method in ("entropy", "max"):
                for excluded in (sorted(ours.kept), None):
                    made, seconds = self._modelopt(kind, method, excluded)
                    which = "its own layers" if excluded is None else "the same layers"
                    yield self._score(f"{kind} ModelOpt {method}, {which}", made, seconds)

    def _modelopt(self, kind: Kind, method: str, excluded: Sequence[str] | None) -> tuple[onnx.ModelProto, float]:
        pictures, output, exclude = (self.work / n for n in ("calibration.npy", "modelopt.onnx", "exclude.json"))
        if not self.versions:
            np.save(pictures, np.concatenate([b.images for b in batches(self.pictures, self.spec)]))
        command = [
            self.options.modelopt, str(ROOT / "scripts/modelopt_quantize.py"), "--onnx", str(self.options.model),
            "--pictures", str(pictures), "--kind", kind, "--method", method, "--output", str(output),
        ]  # fmt: skip
        if excluded is not None:
            exclude.write_text(json.dumps(excluded))
            command += ["--exclude", str(exclude)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        told = json.loads(done.stdout.splitlines()[-1])
        self.versions = told["versions"]
        return onnx.load(output), told["seconds"]

    def _score(self, name: str, model: onnx.ModelProto, seconds: float) -> Row:
        path = self.work / "version.onnx"
        named = onnx.ModelProto()
        named.CopyFrom(model)
        onnx.helper.set_model_props(named, {p.key: p.value for p in self.model.metadata_props})
        onnx.save(named, path)
        found = {}
        for key, dataset in self.data.items():
            with Detector(path, backend="onnxruntime", options=VAL_OPTIONS) as detector:
                found[key] = validate(detector, dataset).metrics
        row = Row(
            name=name,
            share=quantized_share(model, self.macs),
            map50_95={k: float(m.map50_95 or 0) for k, m in found.items()},
            map50={k: float(m.map50 or 0) for k, m in found.items()},
            seconds=round(seconds, 1),
        )
        print(json.dumps(asdict(row)), file=sys.stderr, flush=True)
        return row


def quantized_share(model: onnx.ModelProto, macs: Mapping[str, int]) -> float:
    """Of the multiplications of all convolutions, those with data and weights behind a DequantizeLinear, 0..1."""
    view = GraphView(model)

    def quantized(tensor: str) -> bool:
        while (node := view.producer.get(tensor)) is not None and (sources := view.moved(tensor)):
            if node.op_type == "Concat":
                return all(quantized(s) for s in sources)
            tensor = sources[0]
        return node is not None and node.op_type == "DequantizeLinear"

    chosen = [n for n in model.graph.node if n.op_type == "Conv" and quantized(n.input[0]) and quantized(n.input[1])]
    return sum(macs[n.name] for n in chosen) / sum(macs.values())


def table(rows: Sequence[Row]) -> str:
    """Markdown: mAP50-95 relative to the first row, over each data set."""
    first = rows[0].map50_95
    heads = [f"mAP50-95 ({i + 1})" for i in range(len(first))] + [f"of FP32 ({i + 1})" for i in range(len(first))]
    lines = ["| | share of FLOPs | " + " | ".join(heads) + " |", "| --- | --- |" + " --- |" * len(heads)]
    for row in rows:
        cells = [f"{v:.4f}" for v in row.map50_95.values()]
        cells += [f"{v / first[k]:.4f}" for k, v in row.map50_95.items()]
        lines.append(f"| {row.name} | {row.share:.1%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an FP32 ONNX file with yolotrt's or Ultralytics' metadata")
    parser.add_argument("--modelopt", help="a Python with ModelOpt; without it only yolotrt's versions are scored")
    parser.add_argument("--calibration", type=Path, required=True, help="folder or glob of calibration pictures")
    parser.add_argument("--pictures", type=int, default=128, help="how many of them (default: %(default)s)")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="labelled sets, each scored by itself")
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=KINDS, help="number formats (default: both)")
    parser.add_argument("--output", type=Path, help="JSON with every figure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(options, Path(work))
        rows = list(bench.rows())
    print(table(rows))
    if options.output:
        record: dict[str, Any] = {"versions": bench.versions, "rows": [asdict(r) for r in rows]}
        files.write_text(options.output, json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
