"""What quantization does to each convolution by itself, measured inside the graph.

To the float32 graph are added, for each convolution, the same convolution over quantized inputs and a reduction of
the difference. So nothing but a few numbers per picture leaves ONNX Runtime.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yolotrt.export.quantize.formats import Float32Array, Format
from yolotrt.export.quantize.insert import QuantizedWeights
from yolotrt.export.quantize.observe import with_outputs
from yolotrt.export.quantize.place import Convolution, GraphView
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.types import Batch

if TYPE_CHECKING:
    import onnx

Float64Array = npt.NDArray[np.float64]
_PREFIX = "yolotrt_local_"


def range_errors(
    model: onnx.ModelProto,
    convolutions: Sequence[Convolution],
    scales: Mapping[str, Sequence[float]],
    batches: Iterable[Batch],
    number_format: Format,
) -> dict[str, Float64Array]:
    """How much of each convolution's output is noise, for each of some scales of its data.

    What is averaged over positions is the square of the noise's power, so that a position where it is ten times as
    strong counts a hundredfold. Objects are at few positions, and they have the large values that a range cuts off; an
    average over all positions, nearly all background, would cut them.

    Args:
        model: float32.
        convolutions: of it.
        scales: the candidates, by key of the convolution.
        batches: pictures.
        number_format: of the data; the weights stay in float32.

    Returns:
        By key: the noise's power relative to the output's, each the root of its mean square over positions; one number
        per candidate.
    """
    extra = _Extra(model, number_format)
    outputs: list[str] = []
    for c in convolutions:
        outputs.append(extra.squared_power(c.key))
        for scale in scales[c.key]:
            error = extra.node("Sub", [extra.pair(c.data, scale), c.data])
            outputs.append(extra.squared_power(extra.convolution(c, error, c.weight)))
    runner = extra.runner(outputs)
    sums = np.zeros(len(outputs))
    for batch in batches:
        sums += np.array([float(v) for v in runner(batch.images)])
    values = iter(sums)
    found: dict[str, Float64Array] = {}
    for c in convolutions:
        power = max(float(next(values)), 1e-30)
        found[c.key] = np.sqrt(np.array(list(itertools.islice(values, len(scales[c.key])))) / power)
    return found


def mean_errors(
    model: onnx.ModelProto,
    convolutions: Sequence[Convolution],
    scales: Mapping[str, float],
    weights: Mapping[str, QuantizedWeights],
    batches: Iterable[Batch],
    number_format: Format,
) -> dict[str, Float32Array]:
    """The mean over pictures and positions of (quantized output - output), per output channel of each convolution.

    Args:
        model: float32.
        convolutions: of it.
        scales: of the data, by key.
        weights: by key.
        batches: pictures.
        number_format: of data and weights.
    """
    extra = _Extra(model, number_format)
    outputs = []
    for c in convolutions:
        weight = extra.constant(f"weight_{c.key}", weights[c.key].values)
        exact = extra.convolution(c, c.data, c.weight)
        error = extra.node("Sub", [extra.convolution(c, extra.pair(c.data, scales[c.key]), weight), exact])
        outputs.append(extra.node("ReduceMean", [error, extra.axes], keepdims=0))
    runner = extra.runner(outputs)
    sums, count = [np.zeros(1)] * len(outputs), 0
    for batch in batches:
        sums = [s + v for s, v in zip(sums, runner(batch.images), strict=True)]
        count += 1
    return {c.key: (s / max(count, 1)).astype(np.float32) for c, s in zip(convolutions, sums, strict=True)}


class _Extra:
    """Nodes that are added to a copy of a graph."""

    def __init__(self, model: onnx.ModelProto, number_format: Format) -> None:
        import onnx
        from onnx import helper, numpy_helper

        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.view = GraphView(model)
        self.nodes: list[onnx.NodeProto] = []
        self._pairs: dict[tuple[str, float], str] = {}
        self.axes, self._channels, self._zero = f"{_PREFIX}axes", f"{_PREFIX}channels", f"{_PREFIX}zero"
        for name, axes in ((self.axes, [0, 2, 3]), (self._channels, [1])):
            self.model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), name))
        self.model.graph.initializer.append(
            helper.make_tensor(self._zero, number_format.onnx_type, [], b"\0", raw=True)
        )

    def node(self, op: str, inputs: Sequence[str], **attributes: int) -> str:
        """Add one with a single output; returns that."""
        from onnx import helper

        output = f"{_PREFIX}{len(self.nodes)}"
        node = helper.make_node(op, list(inputs), [output])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return output

    def squared_power(self, tensor: str) -> str:
        """The sum over positions of (the sum of squares over channels) squared."""
        power = self.node("ReduceSumSquare", [tensor, self._channels], keepdims=1)
        return self.node("ReduceSumSquare", [power], keepdims=0)

    def constant(self, name: str, values: Float32Array) -> str:
        from onnx import numpy_helper

        full = f"{_PREFIX}{name}"
        self.model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), full))
        return full

    def pair(self, tensor: str, scale: float) -> str:
        """A tensor quantized and restored; the same pair is made once."""
        if (tensor, scale) not in self._pairs:
            name = self.constant(f"scale_{len(self._pairs)}", np.asarray(scale, np.float32))
            quantized = self.node("QuantizeLinear", [tensor, name, self._zero])
            self._pairs[tensor, scale] = self.node("DequantizeLinear", [quantized, name, self._zero])
        return self._pairs[tensor, scale]

    def convolution(self, like: Convolution, data: str, weight: str) -> str:
        """The same convolution of other tensors, without its bias."""
        output = self.node("Conv", [data, weight])
        self.nodes[-1].attribute.extend(self.view.nodes[like.key].attribute)
        return output

    def runner(self, outputs: Sequence[str]) -> OnnxRunner:
        return OnnxRunner(with_outputs(self.model, outputs, self.nodes), what="the graph with its calibration outputs")
