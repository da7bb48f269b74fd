"""Put a profile together: run with the runtime's profiler on, then say which ONNX nodes each layer computes."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolotrt.backends import Backend, BackendName, open_backend
from yolotrt.bench.options import MAX_THREADS
from yolotrt.bench.profile.names import GraphNames, is_own, operators_of
from yolotrt.bench.profile.report import LayerTime, OperatorTime, Profile, Recording
from yolotrt.bench.stages import device_index
from yolotrt.errors import UsageError
from yolotrt.inspection.onnx_layers import onnx_layers
from yolotrt.inspection.runners import grey_batch
from yolotrt.model_files import ModelFiles, find_model_files
from yolotrt.model_spec import ModelSpec
from yolotrt.types import Batch

if TYPE_CHECKING:
    import onnx

_WARM_UP = 5
_PLAIN = 10


@dataclass(frozen=True, kw_only=True)
class ProfileOptions:
    """What `yolotrt profile` runs.

    Attributes:
        model: a plan, an ONNX file, a bundle or weights.
        inferences: that are recorded.
        threads: of a CPU back-end; 0 takes one per physical core.
        backend, device, trust: as of `Detector`.
    """

    model: Path
    inferences: int = 30
    threads: int = 0
    backend: BackendName = "auto"
    device: str = "auto"
    trust: bool = False

    def __post_init__(self) -> None:
        if self.inferences < 1:
            raise UsageError("option inferences is out of range", got=self.inferences, expected="at least 1")
        if not 0 <= self.threads <= MAX_THREADS:
            raise UsageError("option threads is out of range", got=self.threads, expected=f"0 to {MAX_THREADS}")


def profile(options: ProfileOptions) -> Profile:
    """Say where the time of an inference goes.

    Raises:
        UsageError, ModelError, BackendError: as `Detector`.
    """
    files = find_model_files(options.model, trust=options.trust)
    with open_backend(files, backend=options.backend, device=options.device, threads=options.threads) as backend:
        info, spec = backend.info, backend.spec
        batch = grey_batch(spec)
        plain = _plain_ms(backend, batch)
    # The other one is closed by now: its threads would disturb this one.
    recording = _RECORDERS[info.backend](files, spec, batch, options, info.device)
    graph, flops = (None, {}) if files.onnx is None else _graph(files.onnx, spec)
    return explain(recording, graph, flops, batch=len(batch.images))(
        model=options.model, info=info, threads=options.threads, plain_ms=plain
    )


def explain(
    recording: Recording, graph: onnx.ModelProto | None, flops: Mapping[str, int], *, batch: int
) -> Callable[..., Profile]:
    """A recording in terms of the ONNX graph, as a `Profile` that still wants to know what ran.

    Args:
        recording: of a runtime.
        graph: the model that ran; None where only its plan is there.
        flops: operations per picture by node.
        batch: pictures of one inference.
    """
    names = GraphNames(graph) if graph is not None else None
    own = [is_own(layer.name, layer.kind) for layer in recording.layers]
    told = [
        names.told(layer.nodes) if names is not None and not mine else []
        for layer, mine in zip(recording.layers, own, strict=True)
    ]
    nodes, missing = names.assign(told) if names is not None else (told, [])
    homes = Counter(name for found in nodes for name in found)
    medians = [1e3 * statistics.median(layer.seconds) for layer in recording.layers]
    total = sum(medians)
    layers = []
    for layer, ms, found in zip(recording.layers, medians, nodes, strict=True):
        # Of a node that is several layers, nobody knows which part of the operations each has.
        known = [flops[name] for name in found if name in flops and homes[name] == 1]
        layers.append(
            LayerTime(
                name=layer.name,
                kind=layer.kind,
                detail=layer.detail,
                ms=ms,
                share=ms / total if total else 0.0,
                nodes=found,
                operators=operators_of(found, names.operators) if names is not None else (),
                gflops=sum(known) * batch / ms / 1e6 if known and ms else None,
                start_ms=None if layer.start_s is None else 1e3 * layer.start_s,
                shown_ms=1e3 * layer.seconds[recording.shown],
            )
        )
    found_names = [layer.name for layer, mine in zip(recording.layers, own, strict=True) if mine]
    unmapped = [layer.name for layer, mine in zip(layers, own, strict=True) if not mine and not layer.nodes]

    def make(**of_run: object) -> Profile:
        return Profile(
            batch=batch,
            inferences=recording.means_of or len(recording.whole),
            means=recording.means_of > 0,
            whole_ms=1e3 * statistics.median(recording.whole),
            layers_ms=1e3
            * statistics.median(map(sum, zip(*(layer.seconds for layer in recording.layers), strict=True))),
            layers=layers,
            operators=_by_operator(layers),
            unmapped=unmapped if names is not None else [],
            own=found_names,
            missing=missing,
            graph_nodes=len(names.computed) if names is not None else None,
            **of_run,  # type: ignore[arg-type]
        )

    return make


def _by_operator(layers: list[LayerTime]) -> list[OperatorTime]:
    groups: dict[str, list[LayerTime]] = {}
    for layer in layers:
        kind = layer.operators[0] if layer.operators else layer.kind or "unknown"
        groups.setdefault(kind, []).append(layer)
    found = [
        OperatorTime(
            kind=kind, layers=len(group), ms=sum(one.ms for one in group), share=sum(one.share for one in group)
        )
        for kind, group in groups.items()
    ]
    return sorted(found, key=lambda operator: operator.ms, reverse=True)


def _graph(path: Path, spec: ModelSpec) -> tuple[onnx.ModelProto, dict[str, int]]:
    from yolotrt.model_spec_infer import load_onnx

    model = load_onnx(path)
    return model, {layer.name: layer.flops for layer in onnx_layers(model, spec.imgsz) if layer.flops is not None}


def _plain_ms(backend: Backend, batch: Batch) -> float:
    """Median of an inference as it runs otherwise."""
    taken = []
    for index in range(_WARM_UP + _PLAIN):
        began = time.perf_counter()
        backend.infer(batch)
        if index >= _WARM_UP:
            taken.append(time.perf_counter() - began)
    return 1e3 * statistics.median(taken)


def _onnxruntime(files: ModelFiles, spec: ModelSpec, batch: Batch, options: ProfileOptions, _device: str) -> Recording:
    from yolotrt.bench.profile.onnx_runtime import record

    assert files.onnx is not None
    return record(files.onnx, spec, batch, threads=options.threads, warm_up=_WARM_UP, inferences=options.inferences)


def _openvino(files: ModelFiles, spec: ModelSpec, batch: Batch, options: ProfileOptions, _device: str) -> Recording:
    from yolotrt.bench.profile.openvino_ import record

    assert files.onnx is not None
    return record(files.onnx, spec, batch, threads=options.threads, warm_up=_WARM_UP, inferences=options.inferences)


def _tensorrt(files: ModelFiles, _spec: ModelSpec, batch: Batch, options: ProfileOptions, device: str) -> Recording:
    from yolotrt.bench.profile.tensorrt import record

    assert files.plan is not None
    return record(files.plan, batch, device=device_index(device), warm_up=_WARM_UP, inferences=options.inferences)


_RECORDERS: dict[str, Callable[[ModelFiles, ModelSpec, Batch, ProfileOptions, str], Recording]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "tensorrt": _tensorrt,
}
