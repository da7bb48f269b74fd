"""ONNX graphs as OpenVINO's CPU plug-in computes them right, and fast.

Three things go wrong in it with quantized graphs, without an error (2026.4); all are taken care of in memory:

- Where signed INT8 data passes a Split, MaxPool or Concat on its way to a convolution, negative values are cut off.
  `q + 128` as an unsigned number with the zero point raised by 128 is the same number, and is computed right.
- On a CPU without VNNI it adds pairs of products in 16 bits, which saturate: a box that is not there appears. The
  plug-in is asked once whether it adds exactly; where it does not, convolutions get their weights in floating point.
- From a file, it misreads FP8 weights that ONNX keeps as numbers (`int32_data`). From memory it does not.

TensorRT, on the other hand, reads nothing but signed data without a zero point, so the file stays as it is.

What it does slowly in graphs of any precision, `openvino_dfl` shortens. And since its convolutions want the channels
of a picture last, the input takes them so: turning a picture around costs as much as the first convolution. The boxes
of raw heads are given so too.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.backends.box_branch import BoxBranch, cut_boxes
from yolotrt.backends.openvino_dfl import fold_dfl
from yolotrt.backends.openvino_head import CpuHead
from yolotrt.backends.openvino_import import openvino_core
from yolotrt.backends.openvino_patches import patch_graph
from yolotrt.errors import BackendError
from yolotrt.model_spec import ModelSpec, RawHead
from yolotrt.model_spec_infer import load_onnx

if TYPE_CHECKING:
    import onnx
    import openvino

Array = npt.NDArray[Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class CpuGraph:
    """A graph as OpenVINO's CPU plug-in is to compile it.

    Attributes:
        model: OpenVINO's form of it. Its input is `[N, H, W, 3]`: see `taken`.
        turned: outputs whose channels come last: `given` turns them back.
        int8: its activations are INT8.
        exact: the plug-in computes INT8 in integers; False where it must take FP32 for it.
        head: what follows, where `model` is only the trunk of it: see `BoxBranch`.
    """

    model: openvino.Model = field(repr=False)
    turned: frozenset[str] = frozenset()
    int8: bool = False
    exact: bool = True
    head: CpuHead | None = None


def read_graph(
    core: openvino.Core,
    path: Path,
    *,
    raw: RawHead | None = None,
    cut: ModelSpec | None = None,
    cpuinfo: Path = Path("/proc/cpuinfo"),
) -> CpuGraph:
    """Read an ONNX file, and rewrite what OpenVINO computes wrongly or slowly.

    Args:
        core: of OpenVINO.
        path: the ONNX file.
        raw: its head, if that is raw.
        cut: what it is, where it is to be cut before its boxes if it can be, and if OpenVINO can read it so.
        cpuinfo: where Linux tells what the CPU can do.

    Raises:
        RuntimeError: OpenVINO cannot read it.
        BackendError: an INT8 graph of a form that it would compute wrongly, or that would crash it here.
        ModelError: the file cannot be read.
    """
    graph = load_onnx(path)
    if cut is not None and (branch := cut_boxes(graph, cut)) is not None:
        try:
            found = _cut_graph(core, branch, joined="" if raw else cut.outputs[0].name)
        except RuntimeError as e:
            _log.warning("%s: OpenVINO cannot read it in parts, so it stays whole: %s", path, last_line(e))
        else:
            if found is not None:
                return found
    model = core.read_model(str(path))
    int8, fp8 = _quantized(model)
    if int8 and model.is_dynamic() and _has_amx(cpuinfo):
        # openvinotoolkit/openvino#37577: not an error, but the end of the process.
        raise BackendError(
            "OpenVINO crashes on CPUs with AMX where an INT8 graph leaves its batch or size open",
            remedy="Export it with a fixed batch and size, or use --backend onnxruntime.",
        )
    changed = fold_dfl(unsigned_activations(graph))
    exact = not int8 or adds_exactly()
    if not exact:
        changed = float_weights(changed)
    if changed is not graph or fp8:
        model = core.read_model(changed.SerializeToString())
    # Of scores the best class is looked for in all cells, which NumPy does faster with the cells last.
    turned = frozenset(level.boxes for level in raw.levels) if raw else frozenset()
    return CpuGraph(model=_channels_last(model, turned), turned=turned, int8=int8, exact=exact)


def last_line(error: RuntimeError) -> str:
    """Why OpenVINO failed. It lists every node that it stumbles over; the last line says it."""
    return str(error).strip().rpartition("\n")[2][:200]


def _quantized(model: openvino.Model) -> tuple[bool, bool]:
    """Whether there is INT8 in it, and FP8."""
    operators = model.get_ops()
    int8 = any(op.get_type_name() == "FakeQuantize" for op in operators)
    return int8, any(o.get_element_type().to_string().startswith("f8") for op in operators for o in op.outputs())


def _cut_graph(core: openvino.Core, branch: BoxBranch, *, joined: str) -> CpuGraph | None:
    """None where it is quantized. Raises RuntimeError where OpenVINO cannot read it."""

    def read(model: onnx.ModelProto) -> openvino.Model:
        return core.read_model(model.SerializeToString())

    trunk, boxes = read(branch.trunk), read(fold_dfl(branch.boxes))
    if any((*_quantized(trunk), *_quantized(boxes))):
        return None
    boxes = _channels_last(boxes, () if joined else branch.outputs)
    patches = read(patch_graph(branch, distances=bool(joined)))
    head = CpuHead.of(branch, boxes=boxes, patches=patches, joined=joined)
    return CpuGraph(model=_channels_last(trunk, branch.features), head=head)


def _channels_last(model: openvino.Model, outputs: Iterable[str]) -> openvino.Model:
    """The model with inputs of `[N, H, W, C]` instead of `[N, C, H, W]`, and such outputs."""
    from openvino import Layout
    from openvino.preprocess import PrePostProcessor

    changes = PrePostProcessor(model)
    inputs = [changes.input(i) for i in range(len(model.inputs))]
    for info in (*inputs, *map(changes.output, outputs)):
        info.tensor().set_layout(Layout("NHWC"))
        info.model().set_layout(Layout("NCHW"))
    return changes.build()


def taken(images: Array) -> Array:
    """Images `[N, 3, H, W]` as the input of a `CpuGraph`; copied only where their channels are not last in memory."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def given(output: Array) -> Array:
    """An output `[N, h, w, C]` of a `CpuGraph` as `[N, C, h, w]`; nothing is copied."""
    return output.transpose(0, 3, 1, 2)


def _has_amx(cpuinfo: Path) -> bool:
    return cpuinfo.is_file() and "amx_int8" in cpuinfo.read_text(encoding="utf-8", errors="replace").split()


def unsigned_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model whose QuantizeLinear nodes give uint8 instead of int8; the arithmetic is the same.

    A model without signed INT8 activations is returned as it is. Weights stay signed.

    Raises:
        BackendError: something else than a DequantizeLinear reads quantized data, or a zero point is not constant.
    """
    import onnx

    if not any(_signed(model)):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    raised = {node.output[0]: _raise(changed, node, zero) for node, zero in list(_signed(changed))}
    if any(v.name in raised for v in changed.graph.output):
        raise _other_reader("output of the graph")
    for node in changed.graph.node:
        for tensor in raised.keys() & set(node.input):
            if node.op_type != "DequantizeLinear":
                raise _other_reader(node.op_type)
            _set_zero_point(node, raised[tensor])
    kept = [v for v in changed.graph.value_info if v.name not in raised]
    del changed.graph.value_info[:]
    changed.graph.value_info.extend(kept)
    return changed


def float_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model whose quantized constants are written out in floating point; the values are the same."""
    import onnx
    from onnx import numpy_helper

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    constants = _constants(changed)
    nodes = list(changed.graph.node)
    for node in nodes:
        if node.op_type == "DequantizeLinear" and all(name in constants for name in node.input if name):
            data, scale, *zero = (numpy_helper.to_array(constants[name]) for name in node.input if name)
            if scale.ndim > 1:
                continue  # a scale per block
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            shape = [-1 if scale.ndim and i == axis % data.ndim else 1 for i in range(data.ndim)]
            values = data.astype(np.float32) - (zero[0].astype(np.float32).reshape(shape) if zero else 0)
            values = (values * scale.astype(np.float32).reshape(shape)).astype(scale.dtype)
            changed.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            changed.graph.node.remove(node)
    return changed


@functools.cache
def adds_exactly() -> bool:
    """Whether a convolution of 8-bit numbers is exact in the plug-in on this CPU: a small one is run to see."""
    core = openvino_core(needed_for="The back-end openvino")
    compiled = core.compile_model(
        core.read_model(_largest_products().SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    shape = (1, _CHANNELS, _SIDE, _SIDE)
    found = compiled([np.full(shape, 255, np.float32)])[0]
    # In the middle, where no padding is read.
    return bool(np.allclose(found[..., 1:-1, 1:-1], 255 * 127 * _CHANNELS * 9, rtol=1e-4))


_CHANNELS, _SIDE = 16, 8


def _largest_products() -> onnx.ModelProto:
    """A 3x3 convolution of data up to 255 with weights of 127, scales being 1: the largest products that there are."""
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, _CHANNELS, _SIDE, _SIDE]
    values = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "weight_q": np.full((_CHANNELS, _CHANNELS, 3, 3), 127, np.int8),
        "weight_zero": np.int8(0),
    }
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["x_q"]),
            helper.make_node("DequantizeLinear", ["x_q", "one", "zero"], ["x_d"]),
            helper.make_node("DequantizeLinear", ["weight_q", "one", "weight_zero"], ["weight"]),
            helper.make_node("Conv", ["x_d", "weight"], ["y"], pads=[1, 1, 1, 1]),
        ],
        "largest_products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _signed(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, Array]]:
    """The QuantizeLinear nodes of computed data that give int8, with their zero points."""
    from onnx import TensorProto, numpy_helper

    constants = _constants(model)
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in constants:
            continue
        if len(node.input) > 2 and node.input[2]:
            zero = constants.get(node.input[2])
            if zero is None:
                raise BackendError("OpenVINO cannot run the INT8 graph: a zero point is not constant")
            if zero.data_type == TensorProto.INT8:
                yield node, numpy_helper.to_array(zero)
        elif any(a.name == "output_dtype" and a.i == TensorProto.INT8 for a in node.attribute):
            scale = constants.get(node.input[1])
            yield node, np.zeros(tuple(scale.dims) if scale is not None else (), np.int8)


def _raise(model: onnx.ModelProto, node: onnx.NodeProto, zero: Array) -> str:
    """Let a QuantizeLinear give uint8; returns the name of its new zero point."""
    from onnx import numpy_helper

    name = f"{node.output[0]}_zero_unsigned"
    raised = (zero.astype(np.int16) + 128).astype(np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(raised, name))
    _set_zero_point(node, name)
    for attribute in [a for a in node.attribute if a.name == "output_dtype"]:
        node.attribute.remove(attribute)
    return name


def _set_zero_point(node: onnx.NodeProto, name: str) -> None:
    del node.input[2:]
    node.input.append(name)


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    found = {i.name: i for i in model.graph.initializer}
    constants = (node for node in model.graph.node if node.op_type == "Constant")
    return found | {n.output[0]: a.t for n in constants for a in n.attribute if a.name == "value"}


def _other_reader(what: str) -> BackendError:
    return BackendError(
        "OpenVINO would compute the INT8 graph wrongly",
        got=f"signed INT8 data that goes to {what}",
        expected="a DequantizeLinear behind each QuantizeLinear",
        remedy="Use --backend onnxruntime.",
    )
