"""FP16 graphs in FP32: what OpenVINO computes of them anyway."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.tiny_heads import TinyHead, tiny_head
from yolotrt.backends.onnx_runtime import OnnxRuntimeBackend
from yolotrt.backends.widened import widened
from yolotrt.export.precision import to_fp16
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.preprocess.letterbox_cpu import letterbox
from yolotrt.types import Batch

HEAD = TinyHead(branch=6, strides=(8, 16, 32), imgsz=(96, 160))


def types_of(model: onnx.ModelProto) -> set[int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    return {v.type.tensor_type.elem_type for v in values} | {i.data_type for i in inferred.initializer}


def rounded(model: onnx.ModelProto, half: onnx.ModelProto) -> onnx.ModelProto:
    """An FP32 model with the weights of its FP16 form."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    small = {i.name.removesuffix("_fp16") for i in half.graph.initializer if i.data_type == TensorProto.FLOAT16}
    for i in found.graph.initializer:
        if i.name in small:
            i.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(i).astype(np.float16).astype(np.float32), i.name))
    return found


def run(model: onnx.ModelProto, path: Path, batch: Batch) -> Any:
    onnx.save(model, path)
    with OnnxRuntimeBackend(path, read_onnx_spec(path)) as backend:
        return backend.infer(batch).first


def test_an_export_in_fp16(tmp_path: Path) -> None:
    onnx.save(model := tiny_head(HEAD), path := tmp_path / "m.onnx")
    spec = read_onnx_spec(path)
    batch = letterbox([np.random.default_rng(0).integers(0, 255, (*HEAD.imgsz, 3), np.uint8)], spec)
    half = to_fp16(model, [batch]).model
    before = half.SerializeToString()
    found = widened(half)
    assert found is not None
    assert half.SerializeToString() == before
    onnx.checker.check_model(found, full_check=True)
    assert TensorProto.FLOAT16 in types_of(half)
    assert TensorProto.FLOAT16 not in types_of(found)
    assert not [node for node in found.graph.node if node.op_type in ("Cast", "Identity")]
    expected = run(rounded(model, half), tmp_path / "rounded.onnx", batch)
    np.testing.assert_allclose(run(found, tmp_path / "wide.onnx", batch), expected, rtol=1e-5, atol=1e-4)
    assert not np.allclose(run(model, path, batch), expected, rtol=1e-5, atol=1e-4), "weights are those of FP16"


def test_what_has_no_fp16_stays_as_it_is() -> None:
    model = tiny_head(HEAD)
    assert widened(model) is model


def made(nodes: Sequence[onnx.NodeProto], *, output: int = TensorProto.FLOAT) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", output, [2, 3])],
        [numpy_helper.from_array(np.array(0.1, np.float16), "tenth")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


TO_HALF = helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16)
TENTH = helper.make_node("Mul", ["half", "tenth"], ["less"])


def test_numbers_of_other_kinds_are_still_converted() -> None:
    """A shape that becomes a number, a constant, and a conversion that is an output."""
    nodes = [
        TO_HALF,
        TENTH,
        helper.make_node("Size", ["less"], ["count"]),
        helper.make_node("Cast", ["count"], ["counted"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["less", "counted"], ["more"]),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array(1, np.float16))),
        helper.make_node("Add", ["more", "one"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.FLOAT),
    ]
    found = widened(made(nodes))
    assert found is not None
    assert TensorProto.FLOAT16 not in types_of(found)
    session = onnxruntime.InferenceSession(found.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x * np.float32(np.float16(0.1)) * 6 + 1, rtol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        made([TO_HALF, helper.make_node("Mul", ["half", "tenth"], ["y"])], output=TensorProto.FLOAT16),
        made(
            [
                TO_HALF,
                helper.make_node("EyeLike", ["half"], ["eye"], dtype=TensorProto.FLOAT16),
                helper.make_node("Mul", ["eye", "tenth"], ["less"]),
                helper.make_node("Cast", ["less"], ["y"], to=TensorProto.FLOAT),
            ]
        ),
    ],
    ids=["an edge in FP16", "a type named otherwise"],
)
def test_what_is_left_alone(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert widened(model) is None
