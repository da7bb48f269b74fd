"""Operations and bytes by hand count, and what follows from peaks."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from yolotrt import assets
from yolotrt.bench.peaks import UNKNOWN, Peaks, cpu_peaks, gpu_peaks
from yolotrt.bench.roofline import Work, count_work, roof
from yolotrt.inspection.onnx_layers import onnx_layers
from yolotrt.model_spec import BatchRange, ModelSpec, TensorSpec
from yolotrt.model_spec_infer import load_onnx, read_onnx_spec


def two_convs(path: Path, batch: int, *, quantized: bool = False) -> ModelSpec:
    """Conv 3 -> 4, 3x3 on 8x8, then Sigmoid, then Conv 4 -> 2, 1x1; the second one's weights through Q/DQ if asked."""
    rng = np.random.default_rng(0)
    values = {
        "w1": rng.random((4, 3, 3, 3), np.float32),
        "b1": np.zeros(4, np.float32),
        "w2": rng.integers(-9, 9, (2, 4, 1, 1)).astype(np.int8) if quantized else rng.random((2, 4, 1, 1), np.float32),
        "scale": np.float32(0.1),
        "zero": np.int8(0),
    }
    quantizers = [
        helper.make_node("QuantizeLinear", ["s", "scale", "zero"], ["s_q"]),
        helper.make_node("DequantizeLinear", ["s_q", "scale", "zero"], ["s_d"]),
        helper.make_node("DequantizeLinear", ["w2", "scale", "zero"], ["w2_d"]),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        *(quantizers if quantized else []),
        helper.make_node("Conv", ["s_d", "w2_d"] if quantized else ["s", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two_convs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2, 8, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return ModelSpec(
        head="anchor_free",
        names=("a",),
        imgsz=(8, 8),
        batch=BatchRange(min=batch, opt=batch, max=batch),
        input=TensorSpec(name="x", dtype="float32", shape=(batch, 3, 8, 8)),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(batch, 2, 8, 8)),),
    )


FIRST, SECOND = 2 * 4 * 64 * 27, 2 * 2 * 64 * 4


@pytest.mark.parametrize("batch", [1, 4])
def test_work_of_a_graph(tmp_path: Path, batch: int) -> None:
    work = count_work(tmp_path / "m.onnx", two_convs(tmp_path / "m.onnx", batch))
    assert work.flops == {"fp32": FIRST + SECOND}
    assert work.weight_bytes == 4 * (4 * 27 + 2 * 4)
    assert work.activation_bytes == 4 * (3 * 64 + 4 * 64 + 4 * 64 + 2 * 64)
    assert (work.layers, work.uncounted) == (2, 0)
    assert work.bytes(10) == work.weight_bytes + 10 * work.activation_bytes


def test_precisions_are_counted_apart(tmp_path: Path) -> None:
    work = count_work(tmp_path / "m.onnx", two_convs(tmp_path / "m.onnx", 1, quantized=True))
    assert work.flops == {"fp32": FIRST, "int8": SECOND}
    assert work.weight_bytes == 4 * 4 * 27 + 2 * 4
    assert work.activation_bytes == 4 * (3 * 64 + 4 * 64) + (4 * 64 + 2 * 64)


def test_the_demo_model_counts_as_inspect_does() -> None:
    path = assets.folder() / "yolov8n_demo.onnx"
    model = load_onnx(path)
    spec = read_onnx_spec(model)
    work = count_work(path, spec)
    assert work.total_flops == sum(layer.flops or 0 for layer in onnx_layers(model, spec.imgsz))
    assert work.total_flops == pytest.approx(8.1e9, rel=0.02)
    assert work.weight_bytes == pytest.approx(4 * 3.0e6, rel=0.02)


WORK = Work(
    flops={"fp32": 2_000_000, "int8": 4_000_000}, weight_bytes=1000, activation_bytes=500, layers=2, uncounted=0
)


def test_a_roof_of_arithmetic_and_one_of_memory() -> None:
    peaks = Peaks(source="test", flops={"fp32": 1e9, "int8": 4e9}, bytes=1e6)
    found = roof(WORK, peaks, batch=2, measured_ms=12.0, on_cpu=False, arithmetic="int8")
    assert (found.compute_ms, found.memory_ms) == pytest.approx((4 + 2, 2.0))
    assert found.share == pytest.approx(0.5)
    assert "50% of the roof (6.00 ms, bound by arithmetic; test)" in str(found)
    slow = Peaks(source="test", flops=peaks.flops, bytes=1e5)
    assert "bound by memory" in str(roof(WORK, slow, batch=2, measured_ms=30.0, on_cpu=False, arithmetic="int8"))


def test_an_unknown_peak_is_said() -> None:
    found = roof(WORK, UNKNOWN, batch=1, measured_ms=6.0, on_cpu=False, arithmetic="fp16")
    assert found.share is None
    assert str(found).endswith("1.0 GFLOP/s; peak unknown")
    cpu = Peaks(source="probe", flops={"fp32": 1e9}, bytes=1e9)
    found = roof(WORK, cpu, batch=1, measured_ms=6.0, on_cpu=True, arithmetic="int8 in 1 of 2 convolutions, else fp32")
    assert found.share is None
    assert "peak of this precision unknown" in str(found)


def test_cpus_widen_what_they_cannot_compute_in() -> None:
    peaks = Peaks(source="probe", flops={"fp32": 1e9}, bytes=1e9)
    half = Work(flops={"fp16": 3_000_000}, weight_bytes=1, activation_bytes=1, layers=1, uncounted=0)
    found = roof(half, peaks, batch=1, measured_ms=6.0, on_cpu=True, arithmetic="fp16 weights, fp32 arithmetic")
    assert found.compute_ms == pytest.approx(3.0)
    eighth = Work(flops={"fp8": 3_000_000}, weight_bytes=1, activation_bytes=1, layers=1, uncounted=0)
    found = roof(eighth, peaks, batch=1, measured_ms=6.0, on_cpu=True, arithmetic="fp8 weights, fp32 arithmetic")
    assert found.compute_ms == pytest.approx(3.0)
    assert roof(half, peaks, batch=1, measured_ms=6.0, on_cpu=False, arithmetic="fp16").compute_ms is None


@pytest.mark.parametrize(
    ("name", "fp16", "gigabytes"),
    [
        ("NVIDIA H200", 989.5, 4800),
        ("NVIDIA H200 NVL", 835.5, 4800),
        ("NVIDIA H100 80GB HBM3", 989.5, 3350),
        ("NVIDIA A100-SXM4-80GB", 312, 2039),
        ("NVIDIA L4", 121, 300),
        ("NVIDIA L40S", 362, 864),
        ("Tesla T4", 65, 320),
    ],
)
def test_gpus_of_the_table(name: str, fp16: float, gigabytes: float) -> None:
    found = gpu_peaks(name)
    assert found.flops["fp16"] == pytest.approx(fp16 * 1e12)
    assert found.bytes == pytest.approx(gigabytes * 1e9)
    assert "data sheet" in found.source


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 9999", "NVIDIA L4X", "NVIDIA A1000", "", platform.machine()])
def test_other_gpus_are_unknown(name: str) -> None:
    assert gpu_peaks(name) == UNKNOWN


def test_a_cpu_is_probed() -> None:
    found = cpu_peaks(threads=1)
    assert set(found.flops) == {"fp32"}
    # Any CPU that runs Python, up to any there may be: only the unit can be wrong.
    assert 1e8 < found.flops["fp32"] < 1e15
    assert found.bytes is not None
    assert 1e8 < found.bytes < 1e14
    assert "probe" in found.source
