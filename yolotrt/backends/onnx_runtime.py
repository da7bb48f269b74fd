"""ONNX Runtime on the CPU: the reference that every other back-end is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from yolotrt.backends.base import Backend, BackendInfo, cpu_precision
from yolotrt.errors import BackendError, MissingExtraError
from yolotrt.model_spec import ModelSpec
from yolotrt.types import Batch, RawOutputs


class OnnxRuntimeBackend(Backend):
    """An ONNX file in ONNX Runtime's CPU provider, which computes FP16 graphs in FP32.

    Args:
        path: the ONNX file.
        spec: what it is.
        threads: for one inference; 0 takes one per physical core.
    """

    def __init__(self, path: Path, spec: ModelSpec, *, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as e:
            raise MissingExtraError("onnxruntime", "", needed_for="The back-end onnxruntime") from e
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads would go on spinning, on the cores that the next picture is prepared with.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if spec.precision == "fp8":
            # It would move pairs through MaxPool, which it does not compute in FP8 (1.30; there is nothing to gain).
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.log_severity_level = 3  # errors come as exceptions; warnings on graph rewrites tell a user nothing
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as e:  # its exceptions share no base class
            raise BackendError(f"ONNX Runtime cannot load {path}: {e}") from e
        super().__init__(
            spec,
            BackendInfo(
                backend="onnxruntime",
                flavour="onnxruntime",
                version=onnxruntime.__version__,
                device="cpu",
                precision=cpu_precision(spec),
            ),
        )

    def _infer(self, batch: Batch) -> RawOutputs:
        names = [t.name for t in self.spec.outputs]
        try:
            arrays = self._session.run(names, {self.spec.input.name: np.ascontiguousarray(batch.images)})
        except Exception as e:
            raise BackendError(f"ONNX Runtime failed: {e}") from e
        return RawOutputs(arrays=dict(zip(names, arrays, strict=True)), spec=self.spec)

    def _close(self) -> None:
        del self._session
