"""Where FP16 moves boxes on this GPU: the demo model with other parts kept in FP32, each beside FP32 on the CPU.

Prints a markdown table: nodes in FP16, matched boxes of the sample video at IoU 0.98 and 0.90, the error of the boxes
above the threshold in input pixels, and the time of one inference with host copies.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from yolotrt import Detections, DetectOptions, PlanOptions, assets  # noqa: E402
from yolotrt.backends.base import Backend  # noqa: E402
from yolotrt.backends.flavours import for_target  # noqa: E402
from yolotrt.backends.onnx_runtime import OnnxRuntimeBackend  # noqa: E402
from yolotrt.backends.tensorrt_family import TensorRTBackend  # noqa: E402
from yolotrt.decode import decode  # noqa: E402
from yolotrt.evaluation.matching import match_all  # noqa: E402
from yolotrt.export.plan import build_plan  # noqa: E402
from yolotrt.export.precision import to_fp16  # noqa: E402
from yolotrt.export.samples import batches  # noqa: E402
from yolotrt.model_spec_infer import load_onnx, read_onnx_spec  # noqa: E402
from yolotrt.preprocess.letterbox_cpu import letterbox  # noqa: E402
from yolotrt.sources import open_source  # noqa: E402
from yolotrt.types import Batch, RawOutputs  # noqa: E402

Keep = Callable[[onnx.NodeProto], bool]

# What to keep in FP32 beyond what the export keeps. Node names are those of the demo model: module 22 is the head.
VARIANTS: dict[str, Keep] = {
    "as exported": lambda _: False,
    "all in FP32": lambda _: True,
    "head": lambda n: "/model.22/" in n.name,
    "head, box branch": lambda n: "/model.22/cv2" in n.name,
    "residual additions": lambda n: n.op_type == "Add",
    "residual additions and head": lambda n: n.op_type == "Add" or "/model.22/" in n.name,
    "activations": lambda n: n.op_type in ("Sigmoid", "Mul"),
    "first three modules": lambda n: bool(re.match(r"/model\.[012]/", n.name)),
    "backbone": lambda n: bool(re.match(r"/model\.\d/", n.name)),
    "neck and head": lambda n: not re.match(r"/model\.\d/", n.name),
}


def outputs(backend: Backend, inputs: list[Batch]) -> list[RawOutputs]:
    return [backend.infer(batch) for batch in inputs]


def boxes(found: list[RawOutputs], inputs: list[Batch]) -> list[Detections]:
    return [decode(raw, batch.geometries, DetectOptions())[0] for raw, batch in zip(found, inputs, strict=True)]


def milliseconds(backend: Backend, inputs: list[Batch]) -> float:
    times = []
    for batch in inputs * 3:
        started = time.perf_counter()
        backend.infer(batch)
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def row(name: str, model: onnx.ModelProto, inputs: list[Batch], reference: list[RawOutputs], folder: Path) -> str:
    """One line of the table: build the plan, run it, compare."""
    onnx_path, plan = folder / "m.onnx", folder / "m.engine"
    onnx.save(model, onnx_path)
    spec = read_onnx_spec(onnx_path)
    plan.write_bytes(build_plan(onnx_path, flavour=for_target("auto"), spec=spec, options=PlanOptions()).data)
    with TensorRTBackend.open(plan) as backend:
        found, cost = outputs(backend, inputs), milliseconds(backend, inputs)
    pairs = list(zip(boxes(reference, inputs), boxes(found, inputs), strict=True))
    matched = [match_all(pairs, min_iou=iou).matched_share for iou in (0.98, 0.90)]
    errors = np.concatenate([
        np.abs(a.first - b.first)[0, :4, a.first[0, 4:].max(axis=0) > DetectOptions().conf].ravel()
        for a, b in zip(reference, found, strict=True)
    ])  # fmt: skip
    half = sum(i.data_type == onnx.TensorProto.FLOAT16 for i in model.graph.initializer)
    return (
        f"| {name} | {half} | {matched[0]:.4f} | {matched[1]:.4f} | {errors.mean():.4f} | "
        f"{np.quantile(errors, 0.99):.3f} | {errors.max():.3f} | {cost:.3f} |"
    )


def main() -> None:
    source = load_onnx(assets.demo_model())
    spec = read_onnx_spec(assets.demo_model())
    with open_source(assets.sample_video()) as frames:
        inputs = [letterbox([frame.pixels], spec) for frame in frames if frame.index % 3 == 0]
    with OnnxRuntimeBackend(assets.demo_model(), spec) as cpu:
        reference = outputs(cpu, inputs)
    print("| kept in FP32 | FP16 constants | IoU 0.98 | IoU 0.90 | mean error, px | p99 | max | ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, keep in VARIANTS.items():
            made = to_fp16(source, batches(assets.sample_images(), spec), keep=keep)
            print(row(name, made.model, inputs, reference, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
