"""Running an ONNX graph in memory on the CPU, for the export's own checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.errors import ExportError

if TYPE_CHECKING:
    import onnx


class OnnxRunner:
    """An ONNX Runtime session over a graph in memory. Raises ExportError where ONNX Runtime refuses it."""

    def __init__(self, model: onnx.ModelProto, *, what: str) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4  # its warnings are about its own optimizer; errors are raised as well
        self._what = what
        try:
            self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except _errors() as e:
            raise ExportError(f"ONNX Runtime cannot load {what} ({_first_line(e)})") from e
        self._input = self._session.get_inputs()[0].name
        self.output_names = [o.name for o in self._session.get_outputs()]

    def __call__(self, images: npt.NDArray[Any], outputs: Sequence[str] | None = None) -> list[npt.NDArray[Any]]:
        """The named outputs (all by default) for one batch `[N, 3, H, W]`."""
        try:
            found: list[npt.NDArray[Any]] = self._session.run(outputs, {self._input: images})
        except _errors() as e:
            raise ExportError(f"ONNX Runtime cannot run {self._what} ({_first_line(e)})") from e
        return [np.asarray(f) for f in found]


def _errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented,
        state.RuntimeException, ValueError,
    )  # fmt: skip


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
