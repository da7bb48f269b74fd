"""INT8 graphs of every form, rewritten for OpenVINO: the arithmetic stays what ONNX Runtime says it is."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.static_quantizer import quantize_statically
from tests.support.tiny_models import tiny_yolo
from tests.support.tiny_quantized import tiny_quantized
from yolotrt.backends.openvino_graph import float_weights, read_graph, taken, unsigned_activations
from yolotrt.backends.openvino_import import openvino_core
from yolotrt.errors import BackendError

SHAPE = (1, 4, 6, 6)


def data(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(-1, 1, SHAPE).astype(np.float32)


def pair(
    *,
    zero: Any,
    scale: Any = 0.01,
    as_node: bool = False,
    between: Sequence[onnx.NodeProto] = (),
    **attributes: Any,
) -> onnx.ModelProto:
    """`x` through a QuantizeLinear and a DequantizeLinear to `y`."""
    constants = [numpy_helper.from_array(np.asarray(scale, np.float32), "scale")]
    nodes = []
    names = ["scale"]
    if zero is not None:
        names.append("zero")
        tensor = numpy_helper.from_array(np.asarray(zero), "zero")
        if as_node:
            nodes.append(helper.make_node("Constant", [], ["zero"], value=tensor))
        else:
            constants.append(tensor)
    axis = {k: v for k, v in attributes.items() if k == "axis"}
    nodes += [
        helper.make_node("QuantizeLinear", ["x", *names], ["q"], **attributes),
        *between,
        helper.make_node("DequantizeLinear", ["moved" if between else "q", *names], ["y"], **axis),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "pair", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    options = onnxruntime.SessionOptions()
    # As it stands: an optimization of its own trips over a type that is named twice.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def types_of_quantized(model: onnx.ModelProto) -> set[int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    quantized = {n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    return {v.type.tensor_type.elem_type for v in inferred.graph.value_info if v.name in quantized}


@pytest.mark.parametrize(
    "model",
    [
        pair(zero=np.int8(0)),
        pair(zero=np.int8(-37)),
        pair(zero=np.int8(5), as_node=True),
        pair(zero=np.array([0, -128, 127, 3], np.int8), scale=[0.01, 0.02, 0.004, 0.1], axis=1),
        pair(zero=None, output_dtype=TensorProto.INT8),
        pair(zero=np.int8(-3), output_dtype=TensorProto.INT8),
    ],
    ids=["symmetric", "asymmetric", "constant-node", "per-channel", "type-alone", "type-and-zero"],
)
def test_signed_data_becomes_unsigned(model: onnx.ModelProto) -> None:
    assert types_of_quantized(model) == {TensorProto.INT8}
    changed = unsigned_activations(model)
    onnx.checker.check_model(changed, full_check=True)
    assert types_of_quantized(changed) == {TensorProto.UINT8}
    x = data() * 2
    np.testing.assert_array_equal(run(changed, x), run(model, x))


@pytest.mark.parametrize("zero", [np.uint8(0), np.uint8(90), None], ids=str)
def test_unsigned_data_stays(zero: Any) -> None:
    model = pair(zero=zero)
    assert unsigned_activations(model) is model


def test_moves_of_signed_data_are_refused() -> None:
    """OpenVINO computes those wrongly, and here they are not rewritten."""
    move = helper.make_node("Transpose", ["q"], ["moved"], perm=[0, 1, 3, 2])
    with pytest.raises(BackendError, match=r"goes to Transpose.*onnxruntime"):
        unsigned_activations(pair(zero=np.int8(0), between=[move]))


def test_signed_outputs_are_refused() -> None:
    model = pair(zero=np.int8(0))
    model.graph.output.append(helper.make_tensor_value_info("q", TensorProto.INT8, SHAPE))
    with pytest.raises(BackendError, match="goes to output of the graph"):
        unsigned_activations(model)


def test_open_sizes_of_int8_are_refused_where_they_crash(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : fpu amx_bf16 avx512_fp16 amx_tile amx_int8\n")
    core = openvino_core(needed_for="this test")
    dynamic = tiny_quantized(tmp_path / "dynamic.onnx", "int8", batch=None)
    with pytest.raises(BackendError, match=r"CPUs with AMX.*fixed batch and size"):
        read_graph(core, dynamic, cpuinfo=cpuinfo)
    for harmless in (
        tiny_quantized(tmp_path / "static.onnx", "int8"),
        tiny_quantized(tmp_path / "fp8.onnx", "fp8", batch=None),
        tiny_yolo(tmp_path / "fp32.onnx", batch=None),
    ):
        read_graph(core, harmless, cpuinfo=cpuinfo)
    cpuinfo.write_text("flags : fpu avx512_vnni\n")
    assert read_graph(core, dynamic, cpuinfo=cpuinfo).int8
    assert read_graph(core, dynamic, cpuinfo=tmp_path / "not-linux").int8


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_weights_written_out_are_the_same(kind: Any, tmp_path: Path) -> None:
    model = onnx.load(tiny_quantized(tmp_path / "m.onnx", kind))
    changed = float_weights(model)
    onnx.checker.check_model(changed, full_check=True)
    assert sum(n.op_type == "DequantizeLinear" for n in changed.graph.node) == 2, "those of the data"
    x = np.random.default_rng(1).random((1, 3, 64, 64), np.float32)
    np.testing.assert_allclose(run(changed, x), run(model, x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
def test_what_onnxruntime_quantized(activations: str, tmp_path: Path) -> None:
    """Its graphs have zero points that are not zero, quantized biases, and pairs around every operator."""
    path = quantize_statically(tmp_path / "m.onnx", activations=activations)
    core = openvino_core(needed_for="this test")
    graph = read_graph(core, path)
    assert graph.int8
    compiled = core.compile_model(graph.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for seed in range(3):
        x = np.random.default_rng(seed).random((1, 3, 32, 32), np.float32)
        expected = run(onnx.load(path), x)
        step = np.abs(expected).max() / 127
        np.testing.assert_allclose(compiled([taken(x)])[0], expected, atol=2 * step)


WITHOUT_VNNI = """
import sys
from pathlib import Path
import numpy as np
from tests.contract.test_backends import pictures
from yolotrt.backends.onnx_runtime import OnnxRuntimeBackend
from yolotrt.backends.openvino_ import OpenVinoBackend
from yolotrt.model_spec_infer import read_onnx_spec

path = Path(sys.argv[1])
spec = read_onnx_spec(path)
batch = pictures(spec, 1)
with OpenVinoBackend(path, spec) as backend, OnnxRuntimeBackend(path, spec) as reference:
    np.testing.assert_allclose(backend.infer(batch).first, reference.infer(batch).first, rtol=1e-5, atol=1e-4)
    print(backend.info)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="VNNI is of x86 processors")
def test_a_cpu_that_saturates_takes_floating_point(tmp_path: Path) -> None:
    path = tiny_quantized(tmp_path / "m.onnx", "int8")
    # oneDNN, which computes for OpenVINO, can be held to the instructions of an older CPU.
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", WITHOUT_VNNI, path], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "int8 weights, fp32 arithmetic (this CPU does not add INT8 products exactly)" in done.stdout
