"""The precision of each layer of an ONNX graph that does arithmetic with weights.

A layer computes in the type of its inputs. Where both its picture data and its weights come out of a
DequantizeLinear, back-ends compute it in the quantized type: that is what TensorRT fuses. Operators that only move
values may stand between, since they move quantized ones as well. Weights alone in a quantized type only save memory,
and the layer is named after both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING

from yolotrt.inspection.report import Layer

if TYPE_CHECKING:
    import onnx

# Operators that hold nearly all of a YOLO's arithmetic, and the index of their weights among the inputs.
_WEIGHT_INPUT = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3, "Gemm": 1, "MatMul": 1}
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})
# Operators whose output holds only values of their first input, or of all inputs of a Concat. A Resize is one only if
# it takes the nearest value, and a Cast only between floating-point types.
_MOVES = {
    "Cast", "Concat", "DepthToSpace", "Flatten", "Identity", "MaxPool", "Reshape", "Resize", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
# Between a weight and its layer stand only operators that leave the values' precision alone, or change it openly.
_ON_WEIGHTS = {"Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Cast", "QuantizeLinear", "DequantizeLinear"}
_NAMES = {
    "FLOAT": "fp32",
    "FLOAT16": "fp16",
    "BFLOAT16": "bf16",
    "INT8": "int8",
    "UINT8": "int8",
    "FLOAT8E4M3FN": "fp8",
    "FLOAT8E5M2": "fp8",
    "INT4": "int4",
    "FLOAT4E2M1": "fp4",
}
_FLOATING = {"fp32", "fp16", "bf16"}
_QUANTIZED = {"int8", "fp8", "int4", "fp4"}
_MAX_CHAIN = 8


def onnx_layers(model: onnx.ModelProto, imgsz: tuple[int, int]) -> list[Layer]:
    """The convolutions and matrix products of a graph, in its order.

    Args:
        model: with its weights.
        imgsz: input (height, width) in pixels to count operations for, where the graph leaves it open.
    """
    graph = _Graph(model, imgsz)
    return [graph.layer(node) for node in model.graph.node if node.op_type in _WEIGHT_INPUT]


class _Graph:
    """Look-ups over one model: who makes a tensor, and its type and shape."""

    def __init__(self, model: onnx.ModelProto, imgsz: tuple[int, int]) -> None:
        self.weights = {i.name: i for i in model.graph.initializer}
        constants = [node for node in model.graph.node if node.op_type == "Constant"]
        self.weights |= {n.output[0]: a.t for n in constants for a in n.attribute if a.name == "value"}
        self.maker = {name: node for node in model.graph.node for name in node.output}
        self.types, self.shapes = tensor_types(model, imgsz)
        self.dequantized: dict[str, str] = {}
        self._find_dequantized(model.graph.node)
        pictures = [v for v in model.graph.input if v.name not in self.weights]
        self.batch = next((s[0] for v in pictures if len(s := self.shapes.get(v.name, ())) == 4), 1)

    def layer(self, node: onnx.NodeProto) -> Layer:
        index = _WEIGHT_INPUT[node.op_type]
        precision = self._precision(node, index)
        weight = self._weight(node.input[index])
        if weight is None and node.op_type == "MatMul":
            weight = self._weight(node.input[0])
        output = node.output[0]
        shape = self.shapes.get(output)
        return Layer(
            name=node.name or output,
            kind=node.op_type,
            precision=precision,
            output=" x ".join(map(str, shape)) if shape else output,
            parameters=prod(weight.dims) if weight is not None else 0,
            flops=self._flops(node, shape, weight),
        )

    def _precision(self, node: onnx.NodeProto, index: int) -> str:
        data, weight = self._type(node.input[0]), self._type(node.input[index])
        if data == weight or weight == "unknown":
            return data
        if weight in _QUANTIZED and data not in _QUANTIZED:
            return f"{data}, {weight} weights"
        return data if data not in _QUANTIZED else weight

    def _type(self, name: str) -> str:
        """The precision that the values of a tensor have: the quantized one where they were dequantized."""
        return self.dequantized.get(name) or self.types.get(name, "unknown")

    def _find_dequantized(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """The quantized type behind each tensor that comes out of DequantizeLinear nodes, through moves alone."""
        for node in nodes:  # in the order of computation
            if node.op_type == "DequantizeLinear":
                kinds = {self.types.get(node.input[0])}
            elif self._moves(node):
                sources = node.input if node.op_type == "Concat" else node.input[:1]
                kinds = {self.dequantized.get(source) for source in sources}
            else:
                continue
            if len(kinds) == 1 and (kind := kinds.pop()) in _QUANTIZED:
                self.dequantized |= dict.fromkeys(node.output, kind)

    def _moves(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Resize":
            return next((a.s for a in node.attribute if a.name == "mode"), b"nearest") == b"nearest"
        if node.op_type == "Cast":
            return {self.types.get(t) for t in (node.input[0], node.output[0])} <= _FLOATING
        return node.op_type in _MOVES

    def _weight(self, name: str) -> onnx.TensorProto | None:
        for _ in range(_MAX_CHAIN):
            if name in self.weights:
                return self.weights[name]
            node = self.maker.get(name)
            if node is None or node.op_type not in _ON_WEIGHTS:
                return None
            name = node.input[0]
        return None

    def _flops(
        self, node: onnx.NodeProto, shape: tuple[int, ...] | None, weight: onnx.TensorProto | None
    ) -> int | None:
        """Multiplications and additions of one picture, two per weight use."""
        whole = self._flops_of_batch(node, shape, weight)
        return None if whole is None else whole // self.batch

    def _flops_of_batch(
        self, node: onnx.NodeProto, shape: tuple[int, ...] | None, weight: onnx.TensorProto | None
    ) -> int | None:
        if shape is None:
            return None
        if node.op_type == "MatMul":
            inner = self.shapes.get(node.input[0])
            return 2 * prod(shape) * inner[-1] if inner else None
        if weight is None:
            return None
        if node.op_type == "ConvTranspose":
            taken = self.shapes.get(node.input[0])
            return 2 * prod(taken) * prod(weight.dims[1:]) if taken else None
        if node.op_type == "Gemm":
            return 2 * shape[0] * prod(weight.dims)
        return 2 * prod(shape) * prod(weight.dims[1:])


def tensor_types(
    model: onnx.ModelProto, imgsz: tuple[int, int]
) -> tuple[Mapping[str, str], Mapping[str, tuple[int, ...]]]:
    """The type name and, where it is known, the shape of every tensor: of one picture of `imgsz` where it is open."""
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    constants = {i.name for i in sized.graph.initializer}
    for value in sized.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in constants and len(dims) == 4:
            for dim, size in zip(dims, (1, 3, *imgsz), strict=True):
                if dim.dim_value <= 0:
                    dim.dim_value = size
    del sized.graph.value_info[:]
    try:
        graph = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError):  # its own types still stand in the file
        graph = model.graph
    types, shapes = {}, {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        types[value.name] = type_name(tensor.elem_type)
        sizes = tuple(d.dim_value for d in tensor.shape.dim)
        if tensor.HasField("shape") and all(sizes):
            shapes[value.name] = sizes
    for initializer in graph.initializer:
        types[initializer.name] = type_name(initializer.data_type)
        shapes[initializer.name] = tuple(initializer.dims)
    return types, shapes


def type_name(number: int) -> str:
    """The short name of an ONNX data type: `fp16`, `int8`."""
    import onnx

    name = onnx.TensorProto.DataType.Name(number) if number else "unknown"
    return _NAMES.get(name, name.lower())
