"""OpenVINO on the CPU: the CPU default where it is installed (docs/benchmarks holds the comparison)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from yolotrt.backends.base import Backend, BackendInfo, cpu_precision
from yolotrt.backends.openvino_graph import Array, CpuGraph, given, last_line, read_graph, taken
from yolotrt.backends.openvino_head import CpuHead, HeadRequest, Trust
from yolotrt.backends.openvino_import import import_openvino, openvino_core
from yolotrt.errors import BackendError, ModelError
from yolotrt.model_spec import ModelSpec
from yolotrt.types import Batch, RawOutputs

if TYPE_CHECKING:
    import openvino


_log = logging.getLogger(__name__)


class Request(Protocol):
    """Runs the graph, for one thread at a time."""

    def run(self, images: Mapping[str, Array], above: float) -> Mapping[str, Array]:
        """The outputs by their names, which belong to the caller; see `HeadRequest.run`. Raises RuntimeError."""


class _Whole:
    """Runs a graph that is not cut.

    Args:
        request: of it.
        names: of its outputs.
        turned: those whose channels come last in what OpenVINO gives.
    """

    def __init__(self, request: openvino.InferRequest, names: Sequence[str], turned: Collection[str]) -> None:
        self._request, self._names, self._turned = request, names, turned

    def run(self, images: Mapping[str, Array], _above: float) -> Mapping[str, Array]:
        # Inputs are read in place; outputs are copied, since the request overwrites its own.
        found = self._request.infer(images, share_inputs=True, share_outputs=False)
        return {name: given(found[name]) if name in self._turned else found[name] for name in self._names}


class OpenVinoBackend(Backend):
    """An ONNX file in OpenVINO's CPU plug-in, tuned for the latency of one request.

    INT8 convolutions are computed in integers where the CPU does that exactly. All other arithmetic is FP32: left
    alone, the plug-in takes BF16 where the CPU has it, which moves the boxes, those of quantized graphs too.

    Args:
        path: the ONNX file.
        spec: what it is.
        threads: for one inference; 0 takes one per physical core.
    """

    channels_last = True

    def __init__(self, path: Path, spec: ModelSpec, *, threads: int = 0) -> None:
        openvino = import_openvino(needed_for="The back-end openvino")
        self._path, self._threads = path, threads
        self._raw, self._outputs = spec.raw, spec.outputs
        self._core = openvino_core(needed_for="The back-end openvino")
        self._trust = Trust(str(path))
        self._graph = self._read(cut=spec)
        compiled, (self._request,) = self._load("LATENCY")
        super().__init__(
            spec,
            BackendInfo(
                backend="openvino",
                flavour="openvino",
                version=openvino.__version__.split("-")[0],
                device="cpu",
                precision=_precision(self._graph, compiled, spec),
                note="" if self._graph.exact else "this CPU does not add INT8 products exactly",
            ),
        )
        self._streams: tuple[_Stream, ...] = ()

    def _side_by_side(self) -> tuple[Backend, ...]:
        """One back-end per stream of OpenVINO's throughput mode, which is compiled at the first call.

        Each stream computes with few threads, so that cores do not wait for each other at every layer.
        """
        if not self._streams:
            _, requests = self._load("THROUGHPUT")
            self._streams = tuple(_Stream(self, request) for request in requests)
        return self._streams

    def _read(self, cut: ModelSpec | None = None) -> CpuGraph:
        try:
            return read_graph(self._core, self._path, raw=self._raw, cut=cut)
        except RuntimeError as e:
            raise self._cannot_load(e) from e
        except ModelError as e:
            raise BackendError(f"OpenVINO cannot load {e}") from e

    def _load(self, hint: str) -> tuple[openvino.CompiledModel, list[Request]]:
        """Compile `CpuGraph.model`, with requests of the graph, for one thread each.

        A graph that is cut, and whose parts OpenVINO cannot compile, is taken whole from now on.

        Args:
            hint: what to compile it for: `LATENCY`, with one request, or `THROUGHPUT`.
        """
        head = self._graph.head
        try:
            compiled = self._compile(self._graph.model, hint)
            count = 1 if hint == "LATENCY" else int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            return compiled, self._whole(compiled, count) if head is None else self._cut(head, compiled, hint, count)
        except RuntimeError as e:
            if head is None:
                raise self._cannot_load(e) from e
            _log.warning("%s: OpenVINO cannot compile it in parts, so it stays whole: %s", self._path, last_line(e))
        self._graph = self._read()
        return self._load(hint)

    def _whole(self, compiled: openvino.CompiledModel, count: int) -> list[Request]:
        names = [tensor.name for tensor in self._outputs]
        return [_Whole(compiled.create_infer_request(), names, self._graph.turned) for _ in range(count)]

    def _cut(self, head: CpuHead, compiled: openvino.CompiledModel, hint: str, count: int) -> list[Request]:
        boxes, patches = (self._compile(part, hint, streams=count) for part in (head.boxes, head.patches))
        return [
            HeadRequest(
                head,
                trunk=compiled.create_infer_request(),
                boxes=boxes.create_infer_request(),
                patches=patches.create_infer_request(),
                trust=self._trust,
            )
            for _ in range(count)
        ]

    def _compile(self, model: openvino.Model, hint: str, *, streams: int = 0) -> openvino.CompiledModel:
        config: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": hint}
        if streams:
            config["NUM_STREAMS"] = streams
        if self._threads:
            config["INFERENCE_NUM_THREADS"] = self._threads
        return self._core.compile_model(model, "CPU", config)

    def _cannot_load(self, error: RuntimeError) -> BackendError:
        return BackendError(f"OpenVINO cannot load {self._path}: {last_line(error)}")

    def _infer(self, batch: Batch) -> RawOutputs:
        return _run(self._request, batch, self.spec)

    def _close(self) -> None:
        for stream in self._streams:
            stream.close()
        self._streams = ()
        del self._request, self._graph


class _Stream(Backend):
    """One request of the throughput mode."""

    channels_last = True

    def __init__(self, model: OpenVinoBackend, request: Request) -> None:
        super().__init__(model.spec, model.info)
        self._request = request

    def _infer(self, batch: Batch) -> RawOutputs:
        return _run(self._request, batch, self.spec)

    def _close(self) -> None:
        del self._request


def _precision(graph: CpuGraph, compiled: openvino.CompiledModel, spec: ModelSpec) -> str:
    """What the compiled graph computes in, as the plug-in itself tells it."""
    if not graph.int8 or not graph.exact:
        return cpu_precision(spec)
    told = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    kinds = [t["runtimePrecision"].astype(str) for t in told if t["layerType"].astype(str) == "Convolution"]
    integer = sum(kind in ("i8", "u8") for kind in kinds)
    return f"int8 in {integer} of {len(kinds)} convolutions, else fp32"


def _run(request: Request, batch: Batch, spec: ModelSpec) -> RawOutputs:
    try:
        found = request.run({spec.input.name: taken(batch.images)}, batch.above)
    except RuntimeError as e:
        raise BackendError(f"OpenVINO failed: {e}") from e
    return RawOutputs(arrays={t.name: found[t.name] for t in spec.outputs}, spec=spec)
