"""What the tensors of a graph hold on real pictures, observed while ONNX Runtime runs it.

Everything here streams: memory is that of one picture's tensors, and where those are large, they are fetched in several
runs. So it depends neither on the number of pictures nor much on the size of the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.errors import ExportError
from yolotrt.export.quantize.histogram import Histogram
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.types import Batch

if TYPE_CHECKING:
    import onnx

Batches = Callable[[], Iterable[Batch]]
"""Gives the calibration pictures from the start, one batch at a time; called once per pass."""

MAX_FETCHED_BYTES = 128 << 20
"""Of one run."""


class CalibrationDigest:
    """A hash over the pictures as the model got them, and their number."""

    def __init__(self) -> None:
        self.pictures = 0
        self._hash = hashlib.sha256()

    def add(self, batch: Batch) -> None:
        """Add the next pictures."""
        self.pictures += len(batch.images)
        self._hash.update(repr((batch.images.shape, batch.images.dtype.str)).encode())
        self._hash.update(np.ascontiguousarray(batch.images).data)

    def __str__(self) -> str:
        return self._hash.hexdigest()


def observe(
    model: onnx.ModelProto, tensors: Sequence[str], batches: Iterable[Batch], *, digest: CalibrationDigest
) -> dict[str, Histogram]:
    """Histograms of |x| of each tensor over all batches.

    Args:
        model: a float32 graph.
        tensors: names of float32 tensors in it, or of its input.
        batches: calibration pictures, at least one.
        digest: gets every batch.

    Raises:
        ExportError: there is no picture, a value is not finite, or ONNX Runtime cannot run the graph.
    """
    histograms = {t: Histogram() for t in tensors}
    fetched = Fetcher(model, tensors)
    for batch in batches:
        digest.add(batch)
        for name, values in fetched(batch):
            if not np.isfinite(values).all():
                raise ExportError(
                    f"the activation {name} is not finite in FP32 already",
                    remedy="The weights are damaged or diverged.",
                )
            histograms[name].add(values)
    if digest.pictures == 0:
        raise ExportError("quantization without calibration pictures", got=0, expected="64 or more")
    return histograms


class Fetcher:
    """Gives tensors of a graph for a batch, one at a time, from as many runs as their sizes ask for."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], *, limit: int = MAX_FETCHED_BYTES) -> None:
        self._input = model.graph.input[0].name
        self._tensors = [t for t in dict.fromkeys(tensors) if t != self._input]
        self._wants_input = self._input in tensors
        self._runner = OnnxRunner(with_outputs(model, self._tensors), what="the graph with its calibration outputs")
        self._limit, self._runs = limit, [[t] for t in self._tensors]
        self._sized = False

    def __call__(self, batch: Batch) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """(name, values) of each tensor."""
        if self._wants_input:
            yield self._input, batch.images
        if not self._sized:
            # The sizes are known for sure only now: a model may leave height, width and batch open.
            yield from self._measure(batch)
            return
        for names in self._runs:
            values = self._runner(batch.images, names)
            for name in reversed(names):  # from the end, so that each array goes as soon as it was looked at
                yield name, values.pop()

    def _measure(self, batch: Batch) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        sizes: dict[str, int] = {}
        for name in self._tensors:
            values = self._runner(batch.images, [name])[0]
            sizes[name] = values.nbytes
            yield name, values
        self._runs, self._sized = _packed(sizes, self._limit), True


def _packed(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Neighbours together, as many as fit."""
    runs: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if size > room:
            runs.append([])
            room = max(limit, size)
        runs[-1].append(name)
        room -= size
    return runs


def with_outputs(
    model: onnx.ModelProto, tensors: Sequence[str], extra_nodes: Sequence[onnx.NodeProto] = ()
) -> onnx.ModelProto:
    """The graph with these float32 tensors as its only outputs, after adding nodes to its end."""
    from onnx import GraphProto, TensorProto, helper

    graph = GraphProto()
    graph.CopyFrom(model.graph)
    graph.node.extend(extra_nodes)
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(t, TensorProto.FLOAT, None) for t in tensors)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
