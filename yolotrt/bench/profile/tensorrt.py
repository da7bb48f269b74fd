"""TensorRT's profiler and the engine inspector's account of what was fused. Needs a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolotrt.bench.plan_runner import PlanRunner
from yolotrt.bench.profile.report import Recording, RuntimeLayer
from yolotrt.types import Batch


def record(path: Path, batch: Batch, *, device: int, warm_up: int, inferences: int) -> Recording:
    """Run a plan with a profiler that is told the time of each layer.

    Args:
        path: the plan.
        batch: the input.
        device: number of the GPU.
        warm_up, inferences: as in `onnx_runtime.record`.

    Raises:
        BackendError, ModelError, CudaError: as `PlanRunner`.
    """
    with PlanRunner.open(path, device=device) as runner:
        runner.load(batch.images)
        for _ in range(warm_up):
            runner.run()
        told = runner.layer_information()
        runs: list[list[tuple[str, float]]] = []
        runner.profile(lambda name, ms: runs[-1].append((name, ms)))
        whole = []
        for _ in range(inferences):
            runs.append([])
            whole.append(runner.run())
    return put_together(runs, whole, told)


def put_together(
    runs: list[list[tuple[str, float]]], whole: list[float], information: list[dict[str, Any]]
) -> Recording:
    """A recording of the names and milliseconds that the profiler was told in each inference.

    Args:
        runs: by inference, in order.
        whole: seconds of each inference.
        information: the engine inspector's layers.
    """
    by_name = {str(layer.get("Name", "")): layer for layer in information}
    milliseconds: dict[str, list[float]] = {}
    for index, run in enumerate(runs):
        for name, ms in run:
            milliseconds.setdefault(name, [0.0] * len(runs))[index] += ms
    layers = []
    for name, values in milliseconds.items():
        layer = by_name.get(name, {})
        layers.append(
            RuntimeLayer(
                name=name,
                kind=str(layer.get("ParameterType") or layer.get("LayerType") or ""),
                detail=str(layer.get("TacticName") or ""),
                # "[ONNX Layer: /a/Conv]\x1e[ONNX Layer: /a/Mul]" where the plan tells it, else the name of the layer.
                nodes=[str(layer.get("Metadata") or ""), name],
                seconds=[ms / 1e3 for ms in values],
            )
        )
    shown = sorted(range(len(whole)), key=whole.__getitem__)[len(whole) // 2]
    return Recording(layers=layers, whole=whole, shown=shown)
