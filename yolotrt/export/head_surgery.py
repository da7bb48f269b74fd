"""Cut the arithmetic behind a YOLO's last convolutions off its graph, so that the runtime does it for what it needs.

An `anchor_free` head works out the boxes and scores of all anchors, 8400 in a picture of 640 by 640, of which a few are
ever looked at. Its `raw` form ends where the convolutions end: two outputs per level, with nothing laid out anew,
joined or cast. `yolotrt.decode` works out what is above the threshold.

What is cut off is not told by its form, which changes with every version of every exporter: it is run on random
numbers, and has to give what `yolotrt.decode.raw.whole_head` gives.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.decode.raw import whole_head
from yolotrt.errors import ExportError
from yolotrt.model_spec import MAX_LEVELS, MAX_REG_MAX, ModelSpec, RawHead, RawLevel
from yolotrt.model_spec_infer import tensor_spec, with_input_shape

if TYPE_CHECKING:
    import onnx

# Where the multiplying is done: the head ends in these. DFL's softmax and its mean do not count.
_COMPUTE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LayerNormalization", "Einsum"})
_SIZES = frozenset({"Shape", "Size"})
_BOX_PX, _SCORE = 0.02, 1e-4  # rounding of single precision at 1280 pixels is a hundredth of these
_REASONS = {
    "end_to_end": "its boxes are chosen in the graph, and no arithmetic is left to spare",
    "detr": "its boxes are chosen in the graph, and no arithmetic is left to spare",
    "objectness": "heads with an objectness (YOLOv5, YOLOv7) are not cut",
    "raw": "it is raw already",
}

Level = tuple[RawLevel, str, str]


class HeadError(ExportError):
    """The head of a model has no raw form, for a reason that the error names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RawGraph:
    """A graph with a `raw` head, and its description."""

    model: onnx.ModelProto = field(repr=False)
    spec: ModelSpec


def cut_head(model: onnx.ModelProto, spec: ModelSpec) -> RawGraph:
    """A copy of a model that ends with its last convolutions.

    Args:
        model: with an `anchor_free` head, in any precision, as `onnxsim` leaves it.
        spec: of it.

    Raises:
        HeadError: a head of another kind or form; the model is as it was.
    """
    if spec.head != "anchor_free" or spec.task != "detect":
        raise _no_raw_form(_REASONS.get(spec.head, f"task {spec.task}"))
    if len(spec.outputs) != 1:
        raise _no_raw_form(f"it has {len(spec.outputs)} outputs")
    tail = _Tail.of(model, spec.outputs[0].name)
    found = _recognise(tail, model, spec)
    return _cut(model, spec, *found)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tail:
    """What lies between the last convolutions and the output of a graph.

    Attributes:
        ends: the convolutions' results that it reads.
        nodes: of it, in the order of the graph.
    """

    ends: Sequence[str]
    nodes: Sequence[onnx.NodeProto] = field(repr=False)

    @classmethod
    def of(cls, model: onnx.ModelProto, output: str) -> _Tail:
        """Raises HeadError where something else than convolutions is at its beginning."""
        from onnx import numpy_helper

        maker = {o: node for node in model.graph.node for o in node.output}
        constants = {i.name: i for i in model.graph.initializer}
        pending, seen, ends = [output], set[str](), set[str]()
        while pending:
            name = pending.pop()
            node = maker.get(name)
            if node is None:
                if name in constants or not name:
                    continue
                raise _no_raw_form("its output depends on the picture by other ways than its last convolutions")
            if node.op_type in _COMPUTE:
                weights = constants.get(node.input[1])
                if node.op_type == "Conv" and weights is not None and _is_mean(numpy_helper.to_array(weights)):
                    pending.append(node.input[0])
                    seen.add(node.output[0])
                    continue
                if node.op_type != "Conv":
                    raise _no_raw_form(f"a {node.op_type} gives its scores or boxes")
                ends.add(name)
                continue
            if node.output[0] not in seen:
                seen.add(node.output[0])
                if node.op_type not in _SIZES:
                    pending += node.input
        # By their place in the graph, so that the same file gives the same result.
        ordered = [o for node in model.graph.node for o in node.output if o in ends]
        return cls(ends=ordered, nodes=[node for node in model.graph.node if node.output[0] in seen])


def _is_mean(weights: npt.NDArray[Any]) -> bool:
    """Weights 0, 1, 2, ...: a convolution that takes the mean of DFL's bins."""
    return len(weights) == 1 and weights.size > 1 and bool(np.array_equal(weights.ravel(), np.arange(weights.size)))


def _recognise(tail: _Tail, model: onnx.ModelProto, spec: ModelSpec) -> tuple[int, list[Level]]:
    """(`reg_max`, the levels with the tensors of their boxes and scores). Raises HeadError."""
    sizes = [spec.imgsz]
    if spec.is_dynamic_size:
        sizes = [(4 * spec.stride, 6 * spec.stride), (5 * spec.stride, 3 * spec.stride)]
    shaped = [_Shaped.of(model, spec, size) for size in sizes]
    problem = ""
    for swapped in (False, True):
        reg_max, levels = _levels(tail, shaped[0], spec, swapped=swapped)
        head = RawHead(reg_max=reg_max, levels=tuple(level for level, _, _ in levels))
        names = {made: name for level, boxes, scores in levels for made, name in _named(level, boxes, scores)}
        problem = next((p for s in shaped if (p := _difference(tail, s, spec, head, names))), "")
        if not problem:
            return reg_max, levels
        if 4 * reg_max != _classes_of(spec):
            break
    raise _no_raw_form(problem)


def _named(level: RawLevel, boxes: str, scores: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (level.boxes, boxes), (level.scores, scores)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shaped:
    """A model for pictures of one size: which shape and type its tensors have there."""

    model: onnx.ModelProto = field(repr=False)
    size: tuple[int, int]
    shapes: Mapping[str, tuple[int | None, ...]] = field(repr=False)
    types: Mapping[str, int] = field(repr=False)

    @classmethod
    def of(cls, model: onnx.ModelProto, spec: ModelSpec, size: tuple[int, int]) -> _Shaped:
        fixed = with_input_shape(model, spec.input.name, (spec.input.shape[0] or 2, 3, *size))
        values = (*fixed.graph.input, *fixed.graph.value_info, *fixed.graph.output)
        return cls(
            model=fixed,
            size=size,
            shapes={v.name: tensor_spec(v).shape for v in values},
            types={v.name: v.type.tensor_type.elem_type for v in values},
        )

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor. Raises HeadError where it cannot be told."""
        found = tuple(side for side in self.shapes.get(name, (None,)) if side is not None)
        if len(found) != len(self.shapes.get(name, (None,))):
            raise _no_raw_form(f"the shape of {name} cannot be told from the graph")
        return found


def _levels(tail: _Tail, shaped: _Shaped, spec: ModelSpec, *, swapped: bool) -> tuple[int, list[Level]]:
    """(`reg_max`, the levels), told by the sizes of the tensors. Raises HeadError where they do not make levels."""
    by_stride: dict[int, list[str]] = {}
    for name in tail.ends:
        shape = shaped.shape(name)
        height, width = shape[2:] if len(shape) == 4 else (0, 0)
        stride = shaped.size[0] // height if height else 0
        if not stride or (height * stride, width * stride) != shaped.size:
            raise _no_raw_form(f"a convolution gives {shape} for it, which is no level of a picture")
        by_stride.setdefault(stride, []).append(name)
    found, channels, classes = [], set[int](), _classes_of(spec)
    for stride, names in sorted(by_stride.items()):
        # Of as many classes as numbers per box, either may be which.
        scores = [n for n in names if shaped.shape(n)[1] == classes][-1 if not swapped else 0 :][:1]
        boxes = [n for n in names if n not in scores]
        if len(scores) != 1 or len(boxes) != 1:
            raise _no_raw_form(
                f"{len(names)} convolutions end at stride {stride}, and not one for boxes and scores each"
            )
        channels.add(shaped.shape(boxes[0])[1])
        level = RawLevel(stride=stride, boxes=f"boxes_{stride}", scores=f"scores_{stride}")
        found.append((level, boxes[0], scores[0]))
    reg_max = min(channels, default=0) // 4
    if channels != {4 * reg_max} or not 1 <= reg_max <= MAX_REG_MAX or len(found) > MAX_LEVELS:
        raise _no_raw_form(f"{len(found)} levels with {sorted(channels)} numbers per box")
    return reg_max, found


def _classes_of(spec: ModelSpec) -> int:
    return (spec.outputs[0].shape[1] or len(spec.names) + 4) - 4


def _difference(tail: _Tail, shaped: _Shaped, spec: ModelSpec, head: RawHead, names: Mapping[str, str]) -> str:
    """How the tail differs from `whole_head` on random numbers; empty where it does not."""
    rng = np.random.default_rng(0)
    given = {made: rng.normal(0, 3, shaped.shape(name)).astype(np.float32) for made, name in names.items()}
    dtypes = {made: _dtype(shaped.types[name]) for made, name in names.items()}
    given = {made: array.astype(dtypes[made]) for made, array in given.items()}
    wanted = whole_head(given, head)
    try:
        got = _run(tail, shaped, spec.outputs[0].name, {names[made]: array for made, array in given.items()})
    except ExportError as e:
        return e.what
    if got.shape != wanted.shape:
        return f"it gives {got.shape} where {wanted.shape} follows from its levels"
    box = float(np.abs(got[:, :4] - wanted[:, :4]).max())
    score = float(np.abs(got[:, 4:] - wanted[:, 4:]).max())
    if math.isnan(box + score) or box > _BOX_PX or score > _SCORE:
        return f"its arithmetic is another one: boxes differ by {box:.2g} px, scores by {score:.2g}"
    return ""


def _dtype(kind: int) -> np.dtype[Any]:
    import onnx

    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))


def _run(tail: _Tail, shaped: _Shaped, output: str, given: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """The output of the graph, for these results of its last convolutions."""
    import onnx
    import onnxruntime as ort

    made = {o for node in tail.nodes for o in node.output}
    constants = {i.name for i in shaped.model.graph.initializer}
    read = {name for node in tail.nodes for name in node.input if name and name not in made | constants}
    # Some are only asked for their shape.
    fed = {name: given.get(name, _zeros(shaped, name)) for name in sorted(read)}
    used = {name for node in tail.nodes for name in node.input}
    graph = onnx.helper.make_graph(
        list(tail.nodes),
        "tail",
        [onnx.helper.make_tensor_value_info(n, shaped.types[n], array.shape) for n, array in fed.items()],
        [onnx.helper.make_tensor_value_info(output, shaped.types[output], None)],
        [i for i in shaped.model.graph.initializer if i.name in used],
    )
    model = onnx.helper.make_model(graph, opset_imports=shaped.model.opset_import, ir_version=shaped.model.ir_version)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found: npt.NDArray[Any] = session.run([output], fed)[0]
    except Exception as e:  # its exceptions share no base class
        raise ExportError(f"what follows its last convolutions does not run ({str(e).splitlines()[0][:200]})") from e
    return found.astype(np.float32)


def _zeros(shaped: _Shaped, name: str) -> npt.NDArray[Any]:
    return np.zeros(shaped.shape(name), _dtype(shaped.types[name]))


def _cut(model: onnx.ModelProto, spec: ModelSpec, reg_max: int, levels: Sequence[Level]) -> RawGraph:
    import onnx

    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    names = {name: made for level, boxes, scores in levels for made, name in _named(level, boxes, scores)}
    taken = {o for node in graph.node for o in node.output} - set(names)
    for made in set(names.values()) & taken:
        raise _no_raw_form(f"a tensor of its graph is called {made}")
    for node in graph.node:
        for names_of in (node.input, node.output):
            for i, name in enumerate(names_of):
                names_of[i] = names.get(name, name)
    del graph.output[:]
    for level, boxes, scores in levels:
        for made, name, channels in (
            (level.boxes, boxes, 4 * reg_max),
            (level.scores, scores, _classes_of(spec)),
        ):
            shape = _shape(cut, spec, level.stride, channels)
            graph.output.append(onnx.helper.make_tensor_value_info(made, types[name], shape))
    _prune(graph)
    outputs = tuple(tensor_spec(v) for v in graph.output)
    raw = RawHead(reg_max=reg_max, levels=tuple(level for level, _, _ in levels))
    return RawGraph(model=cut, spec=dataclasses.replace(spec, head="raw", outputs=outputs, raw=raw))


def _shape(model: onnx.ModelProto, spec: ModelSpec, stride: int, channels: int) -> list[int | str]:
    image = next(v for v in model.graph.input if v.name == spec.input.name)
    batch = image.type.tensor_type.shape.dim[0]
    sides = [
        f"{name}_{stride}" if side is None else side // stride
        for name, side in zip(("height", "width"), spec.input.shape[2:], strict=True)
    ]
    return [batch.dim_value or batch.dim_param or "batch", channels, *sides]


def _prune(graph: onnx.GraphProto) -> None:
    """Drop what no output needs."""
    needed, kept = {v.name for v in graph.output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)
    for constant in [i for i in graph.initializer if i.name not in needed]:
        graph.initializer.remove(constant)
    made = {v.name for v in graph.output}
    for value in [v for v in graph.value_info if v.name in made or v.name not in needed]:
        graph.value_info.remove(value)


def _no_raw_form(why: str) -> HeadError:
    return HeadError(
        f"this model's head has no raw form: {why}",
        expected="the head of a YOLOv8, 9, 10, 11, 12 or 26 before NMS",
        remedy="Leave the head whole (--head whole).",
    )
