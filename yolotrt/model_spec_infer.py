"""Work out a `ModelSpec` from what a file holds: yolotrt's own entry, Ultralytics' metadata, or only shapes."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from yolotrt.errors import ModelError
from yolotrt.model_spec import BatchRange, Head, LetterboxRule, ModelSpec, Precision, TensorSpec

if TYPE_CHECKING:
    import onnx

T = TypeVar("T")

METADATA_KEY = "yolotrt"
"""The `metadata_props` entry that holds `ModelSpec.to_dict()` as JSON."""

_DYNAMIC_BATCH = BatchRange(min=1, opt=1, max=64)
# A tensor of K final detections has at most this many rows; one of anchors has more (the smallest YOLO input, 32 by
# 32 pixels, has 21, but then the rows are not six numbers long).
_MAX_FINAL_DETECTIONS = 1000
_TRIED_SIZES = (320, 640)


def infer_spec(
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    metadata: Mapping[str, str],
    where: str,
    precision: Precision = "fp32",
) -> ModelSpec:
    """Describe a model by its tensors and metadata.

    Args:
        inputs, outputs: as the file declares them, in order.
        metadata: ONNX `metadata_props`, or Ultralytics' plan header with its values as text.
        where: the file, for errors.
        precision: of the graph's arithmetic, where nothing in the metadata says it.

    Raises:
        ModelError: not a YOLO detection model, or of a task that yolotrt does not run.
    """
    if METADATA_KEY in metadata:
        return _own_spec(metadata[METADATA_KEY], where)
    task = metadata.get("task", "detect")
    if task != "detect":
        raise ModelError(f"{where}: a YOLO of a task that yolotrt does not run", got=f"task {task}", expected="detect")
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] not in (3, None):
        raise _not_a_yolo(where, f"inputs {_shapes(inputs)}", "one picture input of shape (N, 3, H, W)")
    if not outputs or len(outputs[0].shape) != 3:
        raise _not_a_yolo(where, f"outputs {_shapes(outputs)}", "a first output of rank 3")
    names = _parsed(metadata, "names", _names, None, where)
    head = _head(outputs[0].shape, metadata, len(names) if names else None)
    if head is None:
        raise _not_a_yolo(where, f"outputs {_shapes(outputs)}", "boxes and class scores of a YOLO head")
    stride = _parsed(metadata, "stride", _stride, 32, where)
    return ModelSpec(
        head=head,
        names=names or tuple(str(i) for i in range(_class_count(outputs[0].shape, head))),
        stride=stride,
        imgsz=_imgsz(inputs[0], metadata, where),
        batch=_batch(inputs[0]),
        letterbox=_letterbox(inputs[0], head),
        input=inputs[0],
        outputs=tuple(outputs),
        precision=precision,
    )


def read_onnx_spec(model: Path | onnx.ModelProto, *, where: str | None = None) -> ModelSpec:
    """The `ModelSpec` of an ONNX file or a loaded model. Raises ModelError where it is not a YOLO."""

    if isinstance(model, Path):
        where = where or str(model)
        model = load_onnx(model)
    graph = model.graph
    constants = {i.name for i in graph.initializer}
    inputs = [tensor_spec(v) for v in graph.input if v.name not in constants]
    outputs = [tensor_spec(v) for v in graph.output]
    if outputs and outputs[0].shape[1:] == (None, None):
        outputs = _closed_sides(model, inputs, outputs)
    spec = infer_spec(
        inputs=inputs,
        outputs=outputs,
        metadata={p.key: p.value for p in model.metadata_props},
        where=where or "the ONNX model",
    )
    # Seen, not believed: other tools quantize a graph and leave its metadata as it was.
    return dataclasses.replace(spec, precision=_precision(graph))


def _closed_sides(
    model: onnx.ModelProto, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> list[TensorSpec]:
    """The outputs with those sides known that are the same for pictures of two sizes.

    Exporters that leave the picture's size open may leave the number of channels open as well, though it is fixed.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return list(outputs)
    found: list[list[TensorSpec]] = []
    for size in _TRIED_SIZES:
        shape = [given or side for given, side in zip(inputs[0].shape, (1, 3, size, size), strict=True)]
        found.append([tensor_spec(v) for v in with_input_shape(model, inputs[0].name, shape).graph.output])
    return [_with_sides(*same, batch=inputs[0].shape[0]) for same in zip(outputs, *found, strict=True)]


def with_input_shape(model: onnx.ModelProto, name: str, shape: Sequence[int]) -> onnx.ModelProto:
    """A copy of a model for an input of one shape, with the shapes that its other tensors have then."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    tensor = next(v for v in fixed.graph.input if v.name == name).type.tensor_type
    for dim, side in zip(tensor.shape.dim, shape, strict=True):
        dim.Clear()
        dim.dim_value = side
    del fixed.graph.value_info[:]
    for output in fixed.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.Clear()
    return onnx.shape_inference.infer_shapes(fixed, data_prop=True)


def _with_sides(output: TensorSpec, small: TensorSpec, large: TensorSpec, *, batch: int | None) -> TensorSpec:
    if not len(output.shape) == len(small.shape) == len(large.shape):
        return output
    _, *sides = (_same(*each) for each in zip(output.shape, small.shape, large.shape, strict=True))
    return dataclasses.replace(output, shape=(output.shape[0] or batch, *sides))


def _same(given: int | None, small: int | None, large: int | None) -> int | None:
    """A side as it was given; where that leaves it open, what it is for both sizes."""
    return small if given is None and small == large else given


def _precision(graph: onnx.GraphProto) -> Precision:
    """The lowest one that its weights are kept in, or that its activations are rounded to."""
    import onnx

    kinds = onnx.TensorProto
    types = {i.name: i.data_type for i in graph.initializer}
    # PyTorch writes the zero points of fake-quantized models so.
    constants = [n for n in graph.node if n.op_type == "Constant"]
    types |= {n.output[0]: a.t.data_type for n in constants for a in n.attribute if a.name == "value"}
    pairs = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    rounded = {types.get(n.input[2]) if len(n.input) > 2 else kinds.UINT8 for n in pairs}
    if rounded & {kinds.INT8, kinds.UINT8}:
        return "int8"
    if rounded & {kinds.FLOAT8E4M3FN, kinds.FLOAT8E5M2}:
        return "fp8"
    return "fp16" if kinds.FLOAT16 in types.values() else "fp32"


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file. Raises ModelError where it is missing, empty or not ONNX."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except FileNotFoundError as e:
        raise ModelError(f"{path}: no such file") from e
    except OSError as e:
        raise ModelError(f"{path}: cannot read the model: {e.strerror or e}") from e
    except (DecodeError, ValueError, onnx.checker.ValidationError) as e:
        missing = next((p for p in external_data(path) if not p.is_file()), None)
        if missing is not None:
            raise ModelError(
                f"{path}: its weights are in {missing}, which is missing",
                remedy="Keep the two files in one folder, under the names that they were written with.",
            ) from None
        raise ModelError(f"{path}: not an ONNX file, or one that is cut short ({type(e).__name__})") from e
    if not model.graph.node:
        raise ModelError(f"{path}: not an ONNX model", got="a file without a graph")
    return model


def external_data(path: Path) -> list[Path]:
    """The files that hold weights of an ONNX file outside it, whether they are there or not; none for what is no ONNX.

    Raises OSError where it cannot be read.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import uses_external_data

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError):
        return []  # reading the model says what is wrong
    names = {e.value for t in model.graph.initializer if uses_external_data(t) for e in t.external_data
             if e.key == "location"}  # fmt: skip
    return sorted(path.parent / n for n in names)


def tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """An input or output as the graph declares it. What is no tensor (a list, a map) has the dtype `unknown`."""
    import onnx

    tensor = value.type.tensor_type
    if not tensor.elem_type:
        return TensorSpec(name=value.name, dtype="unknown", shape=())
    shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)
    return TensorSpec(
        name=value.name, dtype=str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name), shape=shape
    )


def _own_spec(text: str, where: str) -> ModelSpec:
    try:
        data = json.loads(text)
    except ValueError as e:
        raise ModelError(f"{where}: damaged {METADATA_KEY} metadata", remedy="Export the model again.") from e
    return ModelSpec.from_dict(data, where=where)


def _not_a_yolo(where: str, got: str, expected: str) -> ModelError:
    return ModelError(f"{where}: not a YOLO detection model", got=got, expected=expected)


def _shapes(tensors: Sequence[TensorSpec]) -> str:
    if not tensors:
        return "none"
    shown = [f"{t.name} ({', '.join('?' if d is None else str(d) for d in t.shape)})" for t in tensors[:4]]
    return "; ".join(shown) + (f" and {len(tensors) - 4} more" if len(tensors) > 4 else "")


def _parsed(metadata: Mapping[str, str], key: str, parse: Callable[[Any], T], default: T, where: str) -> T:
    """The value of an entry; any file may hold one of that name that means something else."""
    if key not in metadata:
        return default
    try:
        return parse(ast.literal_eval(metadata[key]))
    except (ValueError, SyntaxError, TypeError, IndexError, RecursionError) as e:
        raise ModelError(f"{where}: unreadable metadata {key}", got=repr(metadata[key][:80])) from e


def _names(names: Any) -> tuple[str, ...] | None:
    if isinstance(names, Mapping):
        highest = max((int(i) for i in names), default=-1)
        by_id = {int(i): str(n) for i, n in names.items()}
        return tuple(by_id.get(i, str(i)) for i in range(highest + 1))
    return tuple(str(n) for n in names) if names else None


def _stride(value: Any) -> int:
    stride = int(max(value) if isinstance(value, list | tuple) else value)  # some exporters name that of each level
    if stride < 1:
        raise ValueError(stride)
    return stride


def _sides(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _head(shape: tuple[int | None, ...], metadata: Mapping[str, str], nc: int | None) -> Head | None:
    """Which head gives an output of this shape; None where no YOLO does."""
    _, rows, columns = shape
    if metadata.get("end2end") == "True":
        return "end_to_end" if columns == 6 else None
    if metadata.get("head") == "RTDETRDecoder":
        return "detr" if columns == 6 else None
    if nc is not None and rows == 4 + nc:
        return "anchor_free"
    if columns == 6 and rows is not None and rows <= _MAX_FINAL_DETECTIONS:
        return "end_to_end"
    if nc is not None:
        return "objectness" if columns == 5 + nc else None
    # Without names only the proportions speak: there are always more anchors than channels.
    if rows is not None and rows > 4 and (columns is None or columns > rows):
        return "anchor_free"
    return "objectness" if columns is not None and columns > 5 else None


def _class_count(shape: tuple[int | None, ...], head: Head) -> int:
    _, rows, columns = shape
    if head == "anchor_free":
        return (rows or 4) - 4
    # End-to-end outputs hold class numbers, not one score per class: their names stay unknown.
    return (columns or 5) - 5 if head == "objectness" else 0


def _imgsz(tensor: TensorSpec, metadata: Mapping[str, str], where: str) -> tuple[int, int]:
    height, width = _parsed(metadata, "imgsz", _sides, (640, 640), where)
    return tensor.shape[2] or height, tensor.shape[3] or width


def _batch(tensor: TensorSpec) -> BatchRange:
    size = tensor.shape[0]
    return _DYNAMIC_BATCH if size is None else BatchRange(min=size, opt=size, max=size)


def _letterbox(tensor: TensorSpec, head: Head) -> LetterboxRule:
    if head == "detr":
        return LetterboxRule(resize="stretch")
    return LetterboxRule(resize="minimal" if None in tensor.shape[2:] else "fit")
