"""OpenVINO on the CPU: the CPU default where it is installed (docs/benchmarks holds the comparison)."""

from __future__ import annotations

from pathlib import Path

from yolotrt.backends.base import Backend, BackendInfo, cpu_precision
from yolotrt.errors import BackendError, MissingExtraError
from yolotrt.model_spec import ModelSpec
from yolotrt.types import Batch, RawOutputs


class OpenVinoBackend(Backend):
    """An ONNX file in OpenVINO's CPU plug-in, tuned for the latency of one request.

    Arithmetic is FP32: left alone, the plug-in takes BF16 where the CPU has it, which moves the boxes.

    Args:
        path: the ONNX file.
        spec: what it is.
        threads: for one inference; 0 takes one per physical core.
    """

    def __init__(self, path: Path, spec: ModelSpec, *, threads: int = 0) -> None:
        try:
            import openvino
        except ImportError as e:
            raise MissingExtraError("openvino", "openvino", needed_for="The back-end openvino") from e
        config: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            compiled = openvino.Core().compile_model(str(path), "CPU", config)
            self._request = compiled.create_infer_request()
        except RuntimeError as e:
            raise BackendError(f"OpenVINO cannot load {path}: {e}") from e
        super().__init__(
            spec,
            BackendInfo(
                backend="openvino",
                flavour="openvino",
                version=openvino.__version__.split("-")[0],
                device="cpu",
                precision=cpu_precision(spec),
            ),
        )

    def _infer(self, batch: Batch) -> RawOutputs:
        try:
            # Inputs are read in place; outputs are copied, since the request overwrites its own.
            found = self._request.infer({self.spec.input.name: batch.images}, share_inputs=True, share_outputs=False)
        except RuntimeError as e:
            raise BackendError(f"OpenVINO failed: {e}") from e
        return RawOutputs(arrays={t.name: found[t.name] for t in self.spec.outputs}, spec=self.spec)

    def _close(self) -> None:
        del self._request
