"""Measuring and profiling plans on a real GPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.gpu.plans import make_plan, noise, reference
from tests.support.tiny_models import tiny_yolo
from yolotrt import assets
from yolotrt.backends.flavours import for_target
from yolotrt.bench.bench import bench
from yolotrt.bench.options import BenchOptions
from yolotrt.bench.plan_runner import PlanRunner
from yolotrt.bench.profile.names import GraphNames
from yolotrt.bench.profile.profile import ProfileOptions, profile
from yolotrt.bench.stages import ENGINE, ENGINE_ON_DEVICE, HOST_TO_BOXES, STREAM
from yolotrt.cuda.device import Device
from yolotrt.errors import BackendError
from yolotrt.export.gate.latency import Where, measure_latencies
from yolotrt.export.gate.proof import Latency
from yolotrt.model_spec import BatchRange
from yolotrt.model_spec_infer import load_onnx, read_onnx_spec
from yolotrt.options import PlanOptions

BATCHES = BatchRange(min=1, opt=2, max=4)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_yolo(tmp_path_factory.mktemp("bench") / "tiny.onnx", batch=None)


@pytest.fixture(scope="module")
def bundle(onnx: Path) -> Path:
    """The manifest beside the plan, which names the ONNX file too."""
    return make_plan(onnx, batch=BATCHES).with_suffix(".json")


@pytest.mark.parametrize("graphs", [False, True], ids=["streams", "graphs"])
def test_bench(bundle: Path, gpu: Device, graphs: bool) -> None:
    options = BenchOptions(model=bundle, backend="tensorrt", seconds=0.2, batch=1, starts=1, graphs=graphs)
    found = bench(options)
    assert found.info.backend == "tensorrt"
    for name in (ENGINE, ENGINE_ON_DEVICE, HOST_TO_BOXES, STREAM):
        assert found.parts[name].p50 > 0, name
    assert (f"{HOST_TO_BOXES}: inference" in found.parts) is not graphs
    assert (found.around_engine_ms is not None) is graphs
    assert any(gpu.name in text for text in found.machine.gpus)
    assert found.device_mib is not None
    assert 0 < found.device_mib < gpu.memory_bytes / 2**20
    assert found.roof is not None
    assert found.roof.work.total_flops > 0


def test_a_plan_alone_is_timed_by_the_gpu(bundle: Path, onnx: Path) -> None:
    spec = read_onnx_spec(onnx)
    with PlanRunner.open(bundle.with_suffix(".engine")) as runner:
        for n in (1, 4, 2):
            batch = noise(spec, n, seed=n)
            runner.load(batch.images)
            assert 0 < runner.run() < 1
            name = spec.outputs[0].name
            runner._buffers[name].download(runner._buffers[name].capacity)
            assert runner._stream is not None
            runner._stream.synchronize()
            wanted = reference(onnx, batch.images)
            found = runner._buffers[name].host(wanted.shape, np.float32)
            np.testing.assert_allclose(found[:, 4:], wanted[:, 4:], atol=0.01)
        with pytest.raises(BackendError):
            runner.load(noise(spec, 5).images)
    with pytest.raises(BackendError, match="closed"):
        runner.run()
    runner.close()


@pytest.mark.parametrize("size", ["fixed", "dynamic"])
def test_versions_of_an_export_are_timed(tmp_path: Path, size: str) -> None:
    path = tiny_yolo(tmp_path / "tiny.onnx", dynamic_size=size == "dynamic")
    where = Where(target="tensorrt-rtx", flavour=for_target("auto"), plan=PlanOptions())
    picture = np.full((64, 96, 3), 114, np.uint8)
    found = measure_latencies({"FP32": (load_onnx(path), "fp32")}, read_onnx_spec(path), where, picture)["FP32"]
    assert isinstance(found, Latency), found
    assert 0 < found.p50_ms <= found.p90_ms
    assert "cuda:0" in found.runtime


def test_profile(tmp_path: Path) -> None:
    onnx = tmp_path / "demo.onnx"  # of the tiny model, fused into one kernel, TensorRT-RTX names nothing
    shutil.copyfile(assets.demo_model(), onnx)
    bundle = make_plan(onnx).with_suffix(".json")
    found = profile(ProfileOptions(model=bundle, backend="tensorrt", inferences=5))
    assert found.info.backend == "tensorrt"
    assert found.layers
    assert found.inferences == 5
    # The runtime waits after each layer, so the whole holds more than the layers.
    assert 0 < found.layers_ms <= 1.05 * found.whole_ms
    operators = GraphNames(load_onnx(onnx)).operators
    named = {name for layer in found.layers for name in layer.nodes}
    assert len(named) > 200
    assert named <= set(operators)
