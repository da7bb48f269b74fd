"""Profiles of real models in both CPU back-ends, and of what TensorRT's profiler would be told."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest

from tests.support.tiny_models import tiny_yolo
from tests.support.tiny_quantized import tiny_quantized
from yolotrt import assets
from yolotrt.backends import BackendName
from yolotrt.bench.plan_runner import read_layer_information
from yolotrt.bench.profile.names import GraphNames
from yolotrt.bench.profile.onnx_runtime import read_events
from yolotrt.bench.profile.openvino_ import _without
from yolotrt.bench.profile.profile import ProfileOptions, explain, profile
from yolotrt.bench.profile.report import Profile
from yolotrt.bench.profile.tensorrt import put_together
from yolotrt.bench.profile.trace import trace
from yolotrt.errors import BackendError, ModelError, UsageError
from yolotrt.model_spec_infer import load_onnx

DEMO = assets.folder() / "yolov8n_demo.onnx"
both = pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])


@functools.cache
def of_demo(backend: BackendName) -> Profile:
    return profile(ProfileOptions(model=DEMO, backend=backend, inferences=5))


@both
def test_layers_are_about_the_whole(backend: BackendName) -> None:
    found = of_demo(backend)
    assert found.info.backend == backend
    assert (found.inferences, found.batch, found.means) == (5, 1, backend == "openvino")
    # The rest is the runtime's own work between the layers, and whatever the machine does besides.
    assert 0.3 * found.whole_ms < found.layers_ms <= 1.05 * found.whole_ms
    assert sum(layer.share for layer in found.layers) == pytest.approx(1.0)
    assert sum(operator.ms for operator in found.operators) == pytest.approx(sum(layer.ms for layer in found.layers))
    assert sum(operator.layers for operator in found.operators) == len(found.layers)
    assert found.operators[0].kind == "Conv"
    assert found.plain_ms > 0


@both
def test_every_node_that_is_named_is_one_of_the_graph(backend: BackendName) -> None:
    found = of_demo(backend)
    model = load_onnx(DEMO)
    operators = GraphNames(model).operators
    named = [name for layer in found.layers for name in layer.nodes]
    assert set(named) <= set(operators)
    assert set(found.missing) <= set(operators)
    for layer in found.layers:
        assert set(layer.operators) == {operators[name] for name in layer.nodes}
    convolutions = {name for name, kind in operators.items() if kind == "Conv"}
    assert convolutions <= set(named)
    assert found.graph_nodes == len(GraphNames(model).computed)
    # What cannot be told is little.
    assert len(found.missing) <= 5
    assert len(found.unmapped) <= 5
    assert not set(found.own) & set(found.unmapped)
    assert all(layer.gflops is None or layer.gflops > 0 for layer in found.layers)
    assert sum(layer.gflops is not None for layer in found.layers) >= len(convolutions) - 1


@both
def test_a_trace_shows_one_inference(backend: BackendName) -> None:
    found = of_demo(backend)
    events = trace(found)["traceEvents"]
    assert {e["ph"] for e in events} == {"M", "X"}
    layers = [e for e in events if e["ph"] == "X" and e["cat"] != "inference"]
    (whole,) = (e for e in events if e.get("cat") == "inference")
    assert [e["name"] for e in layers] == [layer.name for layer in found.layers]
    assert all(e["ts"] >= 0 and e["dur"] >= 0 for e in layers)
    assert all(e["ts"] + e["dur"] <= whole["ts"] + whole["dur"] + 1e-6 for e in layers)
    for earlier, later in itertools.pairwise(layers):
        assert later["ts"] >= earlier["ts"] + earlier["dur"] - 2  # both are whole microseconds
    said = trace(found)["otherData"]["starts"]
    assert said == ("as measured" if backend == "onnxruntime" else "end to end: the runtime tells durations only")


@pytest.mark.parametrize("kind", ["int8", "fp8"])
@both
def test_quantized_graphs(tmp_path: Path, backend: BackendName, kind: str) -> None:
    path = tiny_quantized(tmp_path / "q.onnx", "int8" if kind == "int8" else "fp8")
    found = profile(ProfileOptions(model=path, backend=backend, inferences=2, threads=1))
    operators = GraphNames(load_onnx(path)).operators
    assert {name for layer in found.layers for name in layer.nodes} <= set(operators)
    assert any("Conv" in layer.operators for layer in found.layers)
    assert found.threads == 1


@both
def test_a_batch_of_several_pictures(tmp_path: Path, backend: BackendName) -> None:
    found = profile(ProfileOptions(model=tiny_yolo(tmp_path / "m.onnx", batch=2), backend=backend, inferences=1))
    assert found.batch == 2
    assert found.inferences == 1


@pytest.mark.parametrize("wrong", [{"inferences": 0}, {"threads": -1}, {"threads": 10**8}])
def test_wrong_options(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        ProfileOptions(model=DEMO, **wrong)  # type: ignore[arg-type]


def test_a_model_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises((ModelError, BackendError), match=r"m\.onnx"):
        profile(ProfileOptions(model=tmp_path / "m.onnx"))


def test_openvino_s_running_means_without_the_warm_up() -> None:
    # Five inferences of 10 s to warm up, then 20 of 2 s: the mean of all 25 is 3.6 s.
    assert _without(5 * 10.0, (5 * 10 + 20 * 2) / 25, 5, 20) == pytest.approx(2.0)
    assert _without(0.0, 2.0, 0, 20) == pytest.approx(2.0)
    assert _without(1.0, 0.0, 5, 20) == 0.0


def test_events_of_onnx_runtime() -> None:
    def node(name: str, ts: int, dur: int, index: int) -> dict[str, object]:
        return {
            "cat": "Node",
            "name": name,
            "ts": ts,
            "dur": dur,
            "args": {"op_name": "Conv", "node_index": str(index)},
        }

    runs = [{"cat": "Session", "name": "model_run", "ts": ts, "dur": 100} for ts in (0, 200, 400)]
    nodes = [
        node("a_kernel_time", 10, 90, 0),
        node("a_kernel_time", 210, 20, 0),
        node("a_kernel_time", 240, 30, 1),  # another node of the same name
        node("a_kernel_time", 410, 40, 0),
        node("a_kernel_time", 450, 5, 0),  # again: the body of a loop
        node("a_fence_before", 460, 7, 0),
    ]
    found = read_events([*nodes, *runs], skipped=1)
    assert found.whole == [1e-4, 1e-4]
    first, second = found.layers
    assert (first.name, first.kind, first.nodes) == ("a", "Conv", ["a"])
    assert list(first.seconds) == pytest.approx([2e-5, 4.5e-5])
    assert list(second.seconds) == pytest.approx([3e-5, 0.0])
    with pytest.raises(BackendError, match="no inference"):
        read_events([*nodes, *runs], skipped=3)


INFORMATION = """{"Layers": [
    {"Name": "__myl_Fc_0", "LayerType": "kgen", "TacticName": "sm90_conv", "Inputs": [], "Outputs": [],
     "Metadata": "[ONNX Layer: /model.0/conv/Conv]\\u001f[ONNX Layer: /model.0/act/Mul]"},
    {"Name": "Reformatting CopyNode for Input Tensor 0 to x", "LayerType": "Reformat"},
    "only a name"
], "Bindings": []}"""


def test_what_tensorrt_tells() -> None:
    information = read_layer_information(INFORMATION)
    assert len(information) == 2
    runs = [
        [("Reformatting CopyNode for Input Tensor 0 to x", 0.1), ("__myl_Fc_0", ms), ("/model.1/conv/Conv", 0.2)]
        for ms in (0.5, 0.7, 0.6)
    ]
    recording = put_together(runs, [0.9e-3, 1.1e-3, 1.0e-3], information)
    assert recording.shown == 2
    made = explain(recording, load_onnx(DEMO), {"/model.0/conv/Conv": 600_000}, batch=2)
    found = made(model=DEMO, info=of_demo("onnxruntime").info, threads=0, plain_ms=1.0)
    own, fused, named = found.layers
    assert found.own == [own.name]
    assert set(fused.nodes) == {"/model.0/conv/Conv", "/model.0/act/Sigmoid", "/model.0/act/Mul"}
    assert (fused.kind, fused.detail) == ("kgen", "sm90_conv")
    assert fused.ms == pytest.approx(0.6)
    assert fused.gflops == pytest.approx(2 * 600_000 / 0.6 / 1e6)
    assert "/model.1/conv/Conv" in named.nodes
    assert found.whole_ms == pytest.approx(1.0)
    assert found.layers_ms == pytest.approx(0.9)
    assert len(found.missing) > 100


def test_a_plan_without_its_graph_keeps_its_own_names() -> None:
    recording = put_together([[("layer 1", 0.5)]], [0.6e-3], [])
    info = of_demo("onnxruntime").info
    found = explain(recording, None, {}, batch=1)(model=DEMO, info=info, threads=0, plain_ms=1.0)
    assert [layer.name for layer in found.layers] == ["layer 1"]
    assert (found.graph_nodes, found.missing, found.unmapped) == (None, [], [])


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"Layers": ["a"]}'])
def test_an_inspector_that_tells_nothing(text: str) -> None:
    assert read_layer_information(text) == []
