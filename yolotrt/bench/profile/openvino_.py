"""OpenVINO's performance counts, and its own account of what it fused.

Its counts are means over all inferences since the model was compiled. So what the warm-up took is taken off again, and
the recording is of one inference: the mean of all.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from yolotrt.backends.openvino_graph import read_graph, taken
from yolotrt.backends.openvino_import import import_openvino, openvino_core
from yolotrt.bench.profile.report import Recording, RuntimeLayer
from yolotrt.errors import BackendError
from yolotrt.model_spec import ModelSpec
from yolotrt.types import Batch

if TYPE_CHECKING:
    import openvino


def record(path: Path, spec: ModelSpec, batch: Batch, *, threads: int, warm_up: int, inferences: int) -> Recording:
    """Run a model, as `OpenVinoBackend` compiles it, with its counts on. Arguments as in `onnx_runtime.record`.

    A graph that the back-end cuts before its boxes is run whole: the same layers, for the boxes of all anchors.

    Raises:
        BackendError: it cannot be loaded or run.
    """
    openvino_ = import_openvino(needed_for="The back-end openvino")
    config: dict[str, str | int] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": "YES",
    }
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    core = openvino_core(needed_for="The back-end openvino")
    warm: dict[str, float] = {}
    whole: list[float] = []
    try:
        compiled = core.compile_model(read_graph(core, path, raw=spec.raw).model, "CPU", config)
        request, images = compiled.create_infer_request(), taken(batch.images)
        for index in range(warm_up + inferences):
            began = time.perf_counter()
            request.infer({spec.input.name: images}, share_inputs=True)
            ended = time.perf_counter()
            if index >= warm_up:
                whole.append(ended - began)
            elif index == warm_up - 1:
                warm = {info.node_name: warm_up * info.real_time.total_seconds() for info in request.profiling_info}
        counts = request.profiling_info
        fused = _fused(compiled)
    except RuntimeError as e:
        raise BackendError(f"OpenVINO cannot profile {path}: {str(e).strip().splitlines()[-1][:200]}") from e
    executed = str(openvino_.ProfilingInfo.Status.EXECUTED)
    layers = [
        RuntimeLayer(
            name=info.node_name,
            kind=info.node_type,
            detail=info.exec_type,
            nodes=fused.get(info.node_name, [info.node_name]),
            seconds=[_without(warm.get(info.node_name, 0.0), info.real_time.total_seconds(), warm_up, inferences)],
        )
        for info in counts
        if str(info.status) == executed
    ]
    return Recording(layers=layers, whole=[statistics.fmean(whole)], shown=0, means_of=inferences)


def _without(warm: float, mean: float, warm_up: int, inferences: int) -> float:
    """Mean of the recorded inferences, of the sum of those before them and the mean of all."""
    return max(mean * (warm_up + inferences) - warm, 0.0) / inferences


def _fused(compiled: openvino.CompiledModel) -> dict[str, list[str]]:
    """By layer, the names of everything that went into it."""
    found = {}
    for op in compiled.get_runtime_model().get_ops():
        told = op.get_rt_info()
        if "originalLayersNames" in told:
            names = told["originalLayersNames"].astype(str).split(",")
            found[op.get_friendly_name()] = [name for name in names if name]
    return found
