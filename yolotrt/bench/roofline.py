"""How far a measured time is from what the device could do at most with this graph: a roofline.

Operations are those of the convolutions and matrix products. Bytes are what a perfect runtime would still have to move:
the weights once per inference, and what goes into and comes out of each of those layers, everything between them being
fused. Both are lower bounds, so the roof is one that no runtime can be above, and none quite reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from yolotrt.bench.peaks import Peaks
from yolotrt.inspection.onnx_layers import onnx_layers, tensor_types
from yolotrt.model_spec import ModelSpec

if TYPE_CHECKING:
    import onnx

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a graph asks for.

    Attributes:
        flops: operations per picture, by the precision of the arithmetic.
        weight_bytes: of the layers that are counted, read once per inference.
        activation_bytes: into and out of those layers, per picture.
        layers: that are counted.
        uncounted: layers whose operations cannot be known.
    """

    flops: Mapping[str, int]
    weight_bytes: int
    activation_bytes: int
    layers: int
    uncounted: int

    @property
    def total_flops(self) -> int:
        return sum(self.flops.values())

    def bytes(self, batch: int) -> int:
        """Moved by an inference of so many pictures."""
        return self.weight_bytes + batch * self.activation_bytes


@dataclass(frozen=True, kw_only=True)
class Roof:
    """The least time that an inference could take, and what it took.

    Attributes:
        work: of the graph.
        peaks: of the device.
        batch: pictures of the inference.
        compute_ms, memory_ms: the least time for the operations, and for the bytes; None where a peak is unknown.
        measured_ms: median of what it took.
    """

    work: Work
    peaks: Peaks
    batch: int
    compute_ms: float | None
    memory_ms: float | None
    measured_ms: float

    @property
    def share(self) -> float | None:
        """The least time over the measured one, 0..1; None where not both peaks are known."""
        if self.compute_ms is None or self.memory_ms is None:
            return None
        return max(self.compute_ms, self.memory_ms) / self.measured_ms

    def __str__(self) -> str:
        counted = (
            f"{self.work.total_flops * self.batch / 1e9:.2f} GFLOP and {self.work.bytes(self.batch) / 1e6:.1f} MB in "
            f"{self.measured_ms:.2f} ms: {self.work.total_flops * self.batch / self.measured_ms / 1e6:,.1f} GFLOP/s"
        )
        if self.work.uncounted:
            counted += f" ({self.work.uncounted} layers of unknown size left out)"
        if self.share is None:
            return f"{counted}; {'peak unknown' if not self.peaks.flops else 'peak of this precision unknown'}"
        bound = "arithmetic" if (self.compute_ms or 0) >= (self.memory_ms or 0) else "memory"
        roof = max(self.compute_ms or 0, self.memory_ms or 0)
        return f"{counted}, {self.share:.0%} of the roof ({roof:.2f} ms, bound by {bound}; {self.peaks.source})"


def count_work(onnx_file: Path, spec: ModelSpec) -> Work:
    """What the graph of a model asks for. Raises ModelError for a file that cannot be read."""
    from yolotrt.model_spec_infer import load_onnx

    model = load_onnx(onnx_file)
    layers = onnx_layers(model, spec.imgsz)
    by_name = {node.name or node.output[0]: node for node in model.graph.node}
    computed = _computed(model)
    _, shapes = tensor_types(model, spec.imgsz)
    flops: dict[str, int] = {}
    weights = activations = 0
    for layer in layers:
        if layer.flops is None:
            continue
        flops[layer.precision] = flops.get(layer.precision, 0) + layer.flops
        size = _size(layer.precision)
        weights += (layer.parameters or 0) * size
        node = by_name[layer.name]
        moved = [name for name in (*node.input, *node.output) if name in computed]
        activations += sum(prod(shapes.get(name, (0,))) for name in moved) * size
    return Work(
        flops=flops,
        weight_bytes=weights,
        # Shapes are those of the graph's own batch: one picture where it is open.
        activation_bytes=activations // (spec.input.shape[0] or 1),
        layers=len(layers),
        uncounted=sum(layer.flops is None for layer in layers),
    )


def roof(work: Work, peaks: Peaks, *, batch: int, measured_ms: float, on_cpu: bool, arithmetic: str) -> Roof:
    """Put a measured time under its roof.

    Args:
        work: of the graph.
        peaks: of the device.
        batch: pictures of the inference.
        measured_ms: that it took.
        on_cpu: CPU libraries widen floating point to FP32.
        arithmetic: what the back-end says it computes in.
    """
    compute: float | None = 0.0
    for precision, count in work.flops.items():
        widened = on_cpu and (precision in ("fp16", "bf16") or "fp32 arithmetic" in arithmetic)
        peak = peaks.flops.get("fp32" if widened else precision.partition(",")[0])
        compute = None if compute is None or peak is None else compute + 1e3 * count * batch / peak
    return Roof(
        work=work,
        peaks=peaks,
        batch=batch,
        compute_ms=compute,
        memory_ms=None if peaks.bytes is None else 1e3 * work.bytes(batch) / peaks.bytes,
        measured_ms=measured_ms,
    )


def _computed(model: onnx.ModelProto) -> set[str]:
    """The tensors that hang on the picture; all others are constants, whatever they are made by."""
    constants = {i.name for i in model.graph.initializer}
    found = {v.name for v in model.graph.input if v.name not in constants}
    for node in model.graph.node:  # in the order of computation
        if not found.isdisjoint(node.input):
            found.update(node.output)
    return found


def _size(precision: str) -> int:
    return _BYTES.get(precision.partition(",")[0], 4)
