"""The contract that every back-end keeps. `tests/contract` holds each of them to it.

A back-end runs one loaded model: `Batch` in, `RawOutputs` out, on the host. It does no preprocessing and no decoding,
so every back-end gives the same boxes for the same graph.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from yolotrt.errors import BackendError
from yolotrt.model_spec import ModelSpec
from yolotrt.options import DetectOptions
from yolotrt.types import Batch, RawOutputs

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class BackendInfo:
    """What is running; always shown to the user.

    Attributes:
        backend: name in the back-end table: `onnxruntime`, `openvino`, `tensorrt`.
        flavour: the import family where a back-end has several (`tensorrt_rtx`), else the name again.
        version: of the library.
        device: `cpu`, or the GPU's index and name: `cuda:0 (NVIDIA H200)`.
        precision: of the arithmetic.
        note: why this and not a better one, empty where it is the best one.
    """

    backend: str
    flavour: str
    version: str
    device: str
    precision: str
    note: str = ""

    def __str__(self) -> str:
        name = self.flavour if self.flavour == self.backend else f"{self.backend}/{self.flavour}"
        text = f"{name} {self.version} on {self.device}, {self.precision}"
        return f"{text} ({self.note})" if self.note else text


class Backend(abc.ABC):
    """One loaded model. Not thread-safe unless a subclass says so; `Detector` serializes its calls.

    Usable as a context manager. After `close` every call raises BackendError.

    Attributes:
        channels_last: the order in memory in which it takes images without a copy. It takes the other one as well.
    """

    channels_last = False

    def __init__(self, spec: ModelSpec, info: BackendInfo) -> None:
        self.spec, self.info = spec, info
        self._closed = False

    def infer(self, batch: Batch) -> RawOutputs:
        """Run one batch.

        Args:
            batch: images in `spec.input.dtype`; N within `spec.batch`, H and W as the model takes them.

        Returns:
            Arrays that belong to the caller: a later call does not change them. Boxes that the batch has no use for,
            see `Batch.above`, may be zero.

        Raises:
            BackendError: a batch that the model does not take, or a failure of the library.
        """
        self._require_open()
        self._check(batch)
        return self._infer(batch)

    def side_by_side(self) -> tuple[Backend, ...]:
        """Back-ends of the same model that may run at the same time, one thread each; itself alone by default.

        For streams, where the throughput of all counts and not the time of one. They are the same ones at every call,
        and close with this one.

        Raises:
            BackendError: a failure of the library.
        """
        self._require_open()
        return self._side_by_side()

    def get_ready(self, options: Sequence[DetectOptions] = ()) -> None:
        """Prepare for batches of all sizes, for who cannot wait when the first one of a size comes.

        Args:
            options: that pictures may come with.

        Raises:
            BackendError: a failure of the library.
        """
        self._require_open()
        self._get_ready(options)

    def close(self) -> None:
        """Free the model. Calling it again does nothing."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def _infer(self, batch: Batch) -> RawOutputs:
        """`infer`, with the batch already checked."""

    def _side_by_side(self) -> tuple[Backend, ...]:
        """`side_by_side` of an open back-end."""
        return (self,)

    def _get_ready(self, options: Sequence[DetectOptions]) -> None:  # noqa: B027 (most take their time with the first call alone)
        """`get_ready` of an open back-end."""

    @abc.abstractmethod
    def _close(self) -> None:
        """`close`, called once."""

    def _require_open(self) -> None:
        if self._closed:
            raise BackendError("the model is closed", remedy="Make a new Detector.")

    def _check(self, batch: Batch) -> None:
        spec, shape = self.spec, batch.images.shape
        if batch.images.dtype != np.dtype(spec.input.dtype):
            raise BackendError("input of the wrong dtype", got=batch.images.dtype, expected=spec.input.dtype)
        if not spec.batch.min <= shape[0] <= spec.batch.max:
            raise BackendError(
                "batch size out of range",
                got=shape[0],
                expected=f"{spec.batch.min} to {spec.batch.max}",
                remedy="Export with --batch or --batch-range for other sizes.",
            )
        for got, expected in zip(shape[2:], spec.input.shape[2:], strict=True):
            if got != expected if expected is not None else got % spec.stride:
                raise BackendError(
                    "input of the wrong size",
                    got=f"{shape[2]}x{shape[3]}",
                    expected=f"height and width {spec.input.shape[2:]}"
                    if expected is not None
                    else f"multiples of {spec.stride}",
                )


def cpu_precision(spec: ModelSpec) -> str:
    """What a CPU library computes a graph of this precision in: they widen FP16 to FP32."""
    return spec.precision if spec.precision == "fp32" else f"{spec.precision} weights, fp32 arithmetic"
