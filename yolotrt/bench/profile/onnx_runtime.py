"""ONNX Runtime's own profiler: one event per node of the graph as it optimized it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from yolotrt.bench.profile.report import Recording, RuntimeLayer
from yolotrt.errors import BackendError
from yolotrt.model_spec import ModelSpec
from yolotrt.types import Batch

_RUN = "model_run"
_NODE = "_kernel_time"


def record(path: Path, spec: ModelSpec, batch: Batch, *, threads: int, warm_up: int, inferences: int) -> Recording:
    """Run a model with the profiler on.

    Args:
        path: the ONNX file.
        spec: what it is.
        batch: the input.
        threads: see `OnnxRuntimeBackend`.
        warm_up: inferences that are not recorded, before the others.
        inferences: that are recorded.

    Raises:
        BackendError: it cannot be loaded or run, or the profile is of an unknown form.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="yolotrt-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            for _ in range(warm_up + inferences):
                session.run(None, {spec.input.name: batch.images})
            written = Path(session.end_profiling())
        except Exception as e:  # its exceptions share no base class
            raise BackendError(f"ONNX Runtime cannot profile {path}: {e}") from e
        return read_events(json.loads(written.read_text(encoding="utf-8")), skipped=warm_up)


def read_events(events: list[dict[str, Any]], *, skipped: int = 0) -> Recording:
    """The recording in a profile's events (microseconds), without the first `skipped` inferences.

    Raises BackendError where it holds none.
    """
    runs = sorted((e["ts"], e["dur"]) for e in events if e.get("name") == _RUN)[skipped:]
    if not runs:
        raise BackendError("ONNX Runtime's profile holds no inference")
    whole = [duration / 1e6 for _, duration in runs]
    shown = sorted(range(len(runs)), key=whole.__getitem__)[len(runs) // 2]
    seconds: dict[tuple[str, str], list[float]] = {}
    starts: dict[tuple[str, str], float] = {}
    kinds: dict[tuple[str, str], str] = {}
    nodes = [e for e in events if e.get("cat") == "Node" and str(e.get("name", "")).endswith(_NODE)]
    for index, (start, duration) in enumerate(runs):
        inside = sorted((e for e in nodes if start <= e["ts"] < start + duration), key=lambda e: e["ts"])
        for event in inside:
            # Names need not be unique, numbers are.
            key = (event["name"].removesuffix(_NODE), str(event["args"].get("node_index", "")))
            kinds[key] = str(event["args"].get("op_name", ""))
            seconds.setdefault(key, [0.0] * len(runs))[index] += event["dur"] / 1e6
            if index == shown:
                starts.setdefault(key, (event["ts"] - start) / 1e6)
    layers = [
        RuntimeLayer(name=key[0], kind=kinds[key], nodes=[key[0]], seconds=seconds[key], start_s=starts.get(key, 0.0))
        for key in seconds
    ]
    return Recording(layers=layers, whole=whole, shown=shown)
