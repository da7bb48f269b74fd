"""The mechanics: put Q/DQ pairs into a float32 graph, at the places and with the scales that were chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from yolotrt.errors import ExportError
from yolotrt.export.quantize.formats import Float32Array, Format
from yolotrt.export.quantize.place import GraphView, Placement

if TYPE_CHECKING:
    import onnx

MIN_OPSET = 19
"""The first one with FP8 and with FP16 scales."""


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedWeights:
    """The weights of one convolution.

    Attributes:
        rounded: values of the format `[out, in / groups, kh, kw]`, before the scale.
        scale: `[out]`, each a number that FP16 holds.
        bias: `[out]`; None where the convolution has none.
    """

    rounded: Float32Array = field(repr=False)
    scale: Float32Array = field(repr=False)
    bias: Float32Array | None = field(repr=False)

    @property
    def values(self) -> Float32Array:
        """What the convolution computes with."""
        return self.rounded * self.scale.reshape(-1, 1, 1, 1)


def raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in the operator set `MIN_OPSET`, if its own is older. Raises ExportError where ONNX cannot do that."""
    import onnx

    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset >= MIN_OPSET:
        return model
    try:
        raised = onnx.version_converter.convert_version(model, MIN_OPSET)
    except (RuntimeError, onnx.onnx_cpp2py_export.version_converter.ConvertError) as e:
        raise ExportError(
            f"the graph cannot be brought from opset {opset} to {MIN_OPSET} ({str(e).splitlines()[0][:200]})",
            remedy=f"Export the ONNX again with opset {MIN_OPSET}.",
        ) from e
    raised.ir_version = max(model.ir_version, 9)  # the first that knows FP8
    return raised


def insert(
    model: onnx.ModelProto,
    placement: Placement,
    *,
    number_format: Format,
    scales: Mapping[str, float],
    weights: Mapping[str, QuantizedWeights],
) -> onnx.ModelProto:
    """A copy of the graph with the pairs.

    Args:
        model: float32, opset `MIN_OPSET` or later.
        placement: of this model.
        number_format: INT8 or FP8.
        scales: by tensor of `placement.tensors`.
        weights: by key of `placement.convolutions`.

    Returns:
        A float32 graph with pairs; the keys of its other nodes are unchanged.
    """
    import onnx

    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    _Inserter(quantized, placement, number_format).run(scales, weights)
    return quantized


class _Inserter:
    def __init__(self, model: onnx.ModelProto, placement: Placement, number_format: Format) -> None:
        self.graph, self.placement, self.format = model.graph, placement, number_format
        self.view = GraphView(model)
        self.zero = self._fresh("quantized_zero")

    def run(self, scales: Mapping[str, float], weights: Mapping[str, QuantizedWeights]) -> None:
        from onnx import helper

        pairs: dict[str, list[onnx.NodeProto]] = {t: self._pair(t, scales[t]) for t in self.placement.tensors}
        self._initializer(self.zero, np.zeros((), np.uint8))
        before: dict[str, list[onnx.NodeProto]] = {}
        for convolution in self.placement.convolutions:
            node = self.view.nodes[convolution.key]
            before[convolution.key] = [self._weights(node, weights[convolution.key])]
        for key, slot in self.placement.reads:
            node = self.view.nodes[key]
            if node.input[slot] in pairs:
                node.input[slot] = pairs[node.input[slot]][-1].output[0]
        ordered = [n for v in self.graph.input for n in pairs.get(v.name, [])]
        for node in self.graph.node:
            ordered += [*before.get(node.output[0], []), node]
            ordered += [n for o in node.output for n in pairs.get(o, [])]
        copies = [helper.make_node("Identity", ["x"], ["y"]) for _ in ordered]
        for copy, node in zip(copies, ordered, strict=True):
            copy.CopyFrom(node)
        del self.graph.node[:]
        self.graph.node.extend(copies)
        used = {name for node in self.graph.node for name in node.input} | set(self.view.outputs)
        initializers = [i for i in self.graph.initializer if i.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(initializers)
        del self.graph.value_info[:]

    def _pair(self, tensor: str, scale: float) -> list[onnx.NodeProto]:
        from onnx import helper, numpy_helper

        scale_name, quantized, restored = (self._fresh(f"{tensor}_{s}") for s in ("scale", "quantized", "dequantized"))
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(scale, np.float32), scale_name))
        return [
            helper.make_node("QuantizeLinear", [tensor, scale_name, self.zero], [quantized], name=f"{quantized}_q"),
            helper.make_node("DequantizeLinear", [quantized, scale_name, self.zero], [restored], name=f"{restored}_dq"),
        ]

    def _weights(self, node: onnx.NodeProto, weights: QuantizedWeights) -> onnx.NodeProto:
        from onnx import helper, numpy_helper

        # Named by the convolution, not by its weights: two may share those and be corrected differently.
        base = f"{node.name or node.output[0]}_weight"
        quantized, scale, zero, restored = (
            self._fresh(f"{base}_{s}") for s in ("quantized", "scale", "zero", "dequantized")
        )
        self._initializer(quantized, self.format.encode(weights.rounded))
        self._initializer(zero, np.zeros(len(weights.scale), np.uint8))
        self.graph.initializer.append(numpy_helper.from_array(weights.scale.astype(np.float32), scale))
        node.input[1] = restored
        if weights.bias is not None:
            bias = self._fresh(f"{base[:-7]}_bias")
            self.graph.initializer.append(numpy_helper.from_array(weights.bias.astype(np.float32), bias))
            del node.input[2:]
            node.input.append(bias)
        return helper.make_node("DequantizeLinear", [quantized, scale, zero], [restored], axis=0, name=f"{restored}_dq")

    def _initializer(self, name: str, data: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        from onnx import helper

        self.graph.initializer.append(
            helper.make_tensor(name, self.format.onnx_type, data.shape, data.tobytes(), raw=True)
        )

    def _fresh(self, name: str) -> str:
        taken = self.view.producer.keys() | self.view.constants.keys() | self.view.readers.keys()
        while name in taken:
            name += "_"
        return name
