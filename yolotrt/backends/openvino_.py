"""OpenVINO on the CPU: the CPU default where it is installed (docs/benchmarks holds the comparison)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from yolotrt.backends.base import Backend, BackendInfo, cpu_precision
from yolotrt.backends.openvino_graph import CpuGraph, given, read_graph, taken
from yolotrt.backends.openvino_import import import_openvino, openvino_core
from yolotrt.errors import BackendError
from yolotrt.model_spec import ModelSpec
from yolotrt.types import Batch, RawOutputs

if TYPE_CHECKING:
    import openvino


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
        self._core = openvino_core(needed_for="The back-end openvino")
        try:
            self._graph = read_graph(self._core, path, raw=spec.raw)
        except RuntimeError as e:
            raise self._cannot_load(e) from e
        compiled = self._compile("LATENCY")
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
        self._request = compiled.create_infer_request()

    @property
    def turned(self) -> Collection[str]:
        """Outputs whose channels come last in what OpenVINO gives."""
        return self._graph.turned

    def _side_by_side(self) -> tuple[Backend, ...]:
        """One back-end per stream of OpenVINO's throughput mode, which is compiled at the first call.

        Each stream computes with few threads, so that cores do not wait for each other at every layer.
        """
        if not self._streams:
            compiled = self._compile("THROUGHPUT")
            count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            self._streams = tuple(_Stream(self, compiled.create_infer_request()) for _ in range(count))
        return self._streams

    def _compile(self, hint: str) -> openvino.CompiledModel:
        config: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": hint}
        if self._threads:
            config["INFERENCE_NUM_THREADS"] = self._threads
        try:
            return self._core.compile_model(self._graph.model, "CPU", config)
        except RuntimeError as e:
            raise self._cannot_load(e) from e

    def _cannot_load(self, error: RuntimeError) -> BackendError:
        # It lists every node that it stumbles over; the last line says why.
        return BackendError(f"OpenVINO cannot load {self._path}: {str(error).strip().splitlines()[-1][:200]}")

    def _infer(self, batch: Batch) -> RawOutputs:
        return _run(self._request, batch, self.spec, self._graph.turned)

    def _close(self) -> None:
        for stream in self._streams:
            stream.close()
        self._streams = ()
        del self._request, self._graph


class _Stream(Backend):
    """One request of the throughput mode."""

    channels_last = True

    def __init__(self, model: OpenVinoBackend, request: openvino.InferRequest) -> None:
        super().__init__(model.spec, model.info)
        self._request, self._turned = request, model.turned

    def _infer(self, batch: Batch) -> RawOutputs:
        return _run(self._request, batch, self.spec, self._turned)

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


def _run(request: openvino.InferRequest, batch: Batch, spec: ModelSpec, turned: Collection[str]) -> RawOutputs:
    try:
        # Inputs are read in place; outputs are copied, since the request overwrites its own.
        found = request.infer({spec.input.name: taken(batch.images)}, share_inputs=True, share_outputs=False)
    except RuntimeError as e:
        raise BackendError(f"OpenVINO failed: {e}") from e
    arrays = {t.name: given(found[t.name]) if t.name in turned else found[t.name] for t in spec.outputs}
    return RawOutputs(arrays=arrays, spec=spec)
