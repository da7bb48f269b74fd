"""What a device can do at most: a table for GPUs, a short probe for CPUs, and "unknown" for the rest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

_TERA = 1e12
_GIGA = 1e9


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """The most that a device can do.

    Attributes:
        source: where the figures come from.
        flops: operations per second by precision of the arithmetic (`fp32`, `fp16`, `int8`, `fp8`); what is unknown
            is left out.
        bytes: per second, to and from memory.
    """

    source: str
    flops: Mapping[str, float] = field(default_factory=dict)
    bytes: float | None = None


UNKNOWN = Peaks(source="peak unknown")

# By a part of the name that the driver gives. Dense rates of the tensor cores in 10^12 operations per second, and
# memory in 10^9 bytes per second, from NVIDIA's data sheets of the named products (where those give rates "with
# sparsity", half of them). FP32 graphs run in TF32 there, which is TensorRT's default; a T4 has none and runs FP32.
# The longest name that fits counts.
_GPUS: dict[str, tuple[dict[str, float], float]] = {
    "H200": ({"fp32": 494.5, "fp16": 989.5, "int8": 1979, "fp8": 1979}, 4800),
    "H200 NVL": ({"fp32": 417.5, "fp16": 835.5, "int8": 1670.5, "fp8": 1670.5}, 4800),
    "H100 80GB HBM3": ({"fp32": 494.5, "fp16": 989.5, "int8": 1979, "fp8": 1979}, 3350),
    "H100 PCIe": ({"fp32": 378, "fp16": 756, "int8": 1513, "fp8": 1513}, 2000),
    "A100-SXM4-40GB": ({"fp32": 156, "fp16": 312, "int8": 624}, 1555),
    "A100-PCIE-40GB": ({"fp32": 156, "fp16": 312, "int8": 624}, 1555),
    "A100-SXM4-80GB": ({"fp32": 156, "fp16": 312, "int8": 624}, 2039),
    "A100 80GB PCIe": ({"fp32": 156, "fp16": 312, "int8": 624}, 1935),
    "A10": ({"fp32": 62.5, "fp16": 125, "int8": 250}, 600),
    "L4": ({"fp32": 60, "fp16": 121, "int8": 242.5, "fp8": 242.5}, 300),
    "L40S": ({"fp32": 183, "fp16": 362, "int8": 733, "fp8": 733}, 864),
    "T4": ({"fp32": 8.1, "fp16": 65, "int8": 130}, 320),
}


def gpu_peaks(name: str) -> Peaks:
    """The peaks of a GPU by the name that the driver gives it; `UNKNOWN` for one that is not in the table."""
    words = f" {name.removesuffix(' GPU')} "
    fitting = [key for key in _GPUS if f" {key} " in words]
    if not fitting:
        return UNKNOWN
    flops, bandwidth = _GPUS[max(fitting, key=len)]
    return Peaks(
        source="NVIDIA's data sheet, dense rates",
        flops={precision: rate * _TERA for precision, rate in flops.items()},
        bytes=bandwidth * _GIGA,
    )


_MATRIX = 1024
_ARRAY = 2**24  # numbers, 64 MiB: more than caches hold
_PROBE_S = 0.5


def cpu_peaks(threads: int) -> Peaks:
    """What ONNX Runtime reaches on this CPU with so many threads: a large matrix product, and a pass over much memory.

    A probe, not a data sheet: the best of the calls that half a second holds. Whatever else runs lowers it.
    """
    flops = 2 * _MATRIX**3 / _best_call("MatMul", (_MATRIX, _MATRIX), threads)
    # Neg reads every number once and writes it once.
    moved = 2 * 4 * _ARRAY / _best_call("Neg", (_ARRAY,), threads)
    return Peaks(
        source="the best of a half-second probe in ONNX Runtime: matrix product, pass over memory",
        flops={"fp32": flops},
        bytes=moved,
    )


def _best_call(operator: str, shape: tuple[int, ...], threads: int) -> float:
    """Seconds of the fastest call of a graph of one node."""
    import onnxruntime
    from onnx import TensorProto, helper

    inputs = ["a", "b"] if operator == "MatMul" else ["a"]
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"])],
        "probe",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = {name: np.ones(shape, np.float32) for name in inputs}
    best = float("inf")
    began = time.perf_counter()
    while time.perf_counter() - began < _PROBE_S:
        started = time.perf_counter()
        session.run(None, fed)
        best = min(best, time.perf_counter() - started)
    return best
