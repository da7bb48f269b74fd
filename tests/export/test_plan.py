"""Real plans, built by the TensorRT-RTX that is installed: it needs no GPU."""

from __future__ import annotations

import dataclasses
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.tiny_models import tiny_yolo
from tests.support.yolov8n import export_yolov8n
from yolotrt.backends.flavours import Flavour, capabilities, for_target
from yolotrt.backends.tensorrt_log import capture
from yolotrt.cuda.device import device_count
from yolotrt.errors import CudaError, ExportError, ModelError, UnsupportedOptionError, UsageError
from yolotrt.export.plan import (
    BuiltPlan,
    attach_timing_cache,
    build_plan,
    check_options,
    profile_shapes,
    save_timing_cache,
    set_options,
)
from yolotrt.model_spec import BatchRange, ModelSpec
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import PlanOptions
from yolotrt.plan_file import read_plan_header

RTX_DEFAULT_GPUS = {"8.0", "8.6", "8.9", "12.0", "12.1"}


@pytest.fixture(scope="module")
def rtx() -> Flavour:
    return for_target("tensorrt-rtx")


@pytest.fixture(scope="session")
def yolov8n_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_yolov8n(tmp_path_factory.mktemp("yolov8n"))


def build(path: Path, flavour: Flavour, *, batch: BatchRange | None = None, **options: Any) -> BuiltPlan:
    spec = read_onnx_spec(path)
    if batch is not None:
        spec = dataclasses.replace(spec, batch=batch)
    return build_plan(path, flavour=flavour, spec=spec, options=PlanOptions(**options))


def fp16_graph(path: Path) -> Path:
    """One convolution whose weights, input and output are FP16."""
    weights = numpy_helper.from_array(np.full((8, 3, 3, 3), 0.1, np.float16), "weights")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "weights"], ["output0"], pads=[1, 1, 1, 1])],
        "fp16",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT16, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT16, [1, 8, 32, 32])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def spec_for(path: Path, imgsz: tuple[int, int] = (64, 64)) -> ModelSpec:
    return dataclasses.replace(read_onnx_spec(tiny_yolo(path.parent / "spec.onnx")), imgsz=imgsz)


def test_static(rtx: Flavour, tmp_path: Path) -> None:
    said: list[str] = []
    path = tiny_yolo(tmp_path / "m.onnx")
    plan = build_plan(path, flavour=rtx, spec=read_onnx_spec(path), options=PlanOptions(), on_progress=said.append)
    assert (plan.flavour, plan.version) == (rtx.key, rtx.version)
    assert plan.compute_capabilities == ()
    assert plan.options == {}
    assert plan.warnings == ()
    header = read_plan_header(plan.data)
    assert (header.family, header.version) == (rtx.key, rtx.version)
    assert set(header.compute_capabilities) == RTX_DEFAULT_GPUS
    assert [text.split(":")[0] for text in said] == [rtx.title] * 3


def test_the_same_build_gives_the_same_bytes(rtx: Flavour, tmp_path: Path) -> None:
    path = tiny_yolo(tmp_path / "m.onnx")
    assert build(path, rtx).data == build(path, rtx).data


def test_dynamic_batch(rtx: Flavour, tmp_path: Path) -> None:
    path = tiny_yolo(tmp_path / "m.onnx", batch=None)
    assert build(path, rtx, batch=BatchRange(min=1, opt=4, max=16)).data


def test_dynamic_size(rtx: Flavour, tmp_path: Path) -> None:
    assert build(tiny_yolo(tmp_path / "m.onnx", batch=None, dynamic_size=True), rtx).data


def test_fp16_graph(rtx: Flavour, tmp_path: Path) -> None:
    path = fp16_graph(tmp_path / "m.onnx")
    spec = spec_for(path, imgsz=(32, 32))
    assert build_plan(path, flavour=rtx, spec=spec, options=PlanOptions()).data


@pytest.mark.slow
def test_yolov8n(rtx: Flavour, yolov8n_onnx: Path) -> None:
    plan = build(yolov8n_onnx, rtx)
    assert len(plan.data) > 10 * 2**20
    assert read_plan_header(plan.data).version == rtx.version


def test_compute_capability(rtx: Flavour, tmp_path: Path) -> None:
    path = tiny_yolo(tmp_path / "m.onnx")
    for asked in (("8.9",), ("12.1",), ("8.0", "12.0")):
        plan = build(path, rtx, compute_capability=asked)
        assert read_plan_header(plan.data).compute_capabilities == asked
        assert plan.compute_capabilities == asked
        assert plan.options == {"compute_capability": list(asked)}


def test_a_gpu_that_cannot_run_the_graph(rtx: Flavour, tmp_path: Path) -> None:
    if rtx.version.startswith("1.6"):
        pytest.skip("TensorRT-RTX checks this at build time from 1.7 on")
    with pytest.raises(ExportError, match=r"cannot build the plan.*Turing \(SM75\): FP32 GEMM is not supported"):
        build(tiny_yolo(tmp_path / "m.onnx"), rtx, compute_capability=("7.5",))


def test_a_gpu_given_twice_counts_once(rtx: Flavour, tmp_path: Path) -> None:
    path = tiny_yolo(tmp_path / "m.onnx")
    assert len(build(path, rtx, compute_capability=("8.9", "8.9")).data) == len(
        build(path, rtx, compute_capability=("8.9",)).data
    )


@pytest.mark.slow
def test_workspace(rtx: Flavour, yolov8n_onnx: Path) -> None:
    assert build(yolov8n_onnx, rtx, workspace_mib=512).options == {"workspace_mib": 512}
    with pytest.raises(ExportError, match=r"cannot build the plan.*--workspace"):
        build(yolov8n_onnx, rtx, workspace_mib=1)


@pytest.mark.skipif(device_count() > 0, reason="says what happens on a machine without a GPU")
@pytest.mark.parametrize("option", ["refittable", "strip"])
def test_a_build_that_needs_a_gpu_says_so(rtx: Flavour, tmp_path: Path, option: str) -> None:
    with pytest.raises(CudaError, match=f"with option {option} only on a machine with a GPU"):
        build(tiny_yolo(tmp_path / "m.onnx"), rtx, batch=None, **{option: True})


def test_the_gpu_of_a_full_tensorrt_is_missing(tmp_path: Path) -> None:
    if device_count() > 0:
        pytest.skip("says what happens on a machine without a GPU")
    full = Flavour(can=capabilities("tensorrt"), module_name="tensorrt", version="10.16.1.11")
    with pytest.raises(CudaError, match=r"TensorRT 10\.16\.1\.11 builds a plan only.*--target tensorrt-rtx"):
        build(tiny_yolo(tmp_path / "m.onnx"), full)


@pytest.mark.parametrize(
    ("flavour", "option", "value", "has_it"),
    [
        ("tensorrt_rtx", "optimization_level", 3, "TensorRT has it"),
        ("tensorrt_rtx", "timing_cache", Path("t.cache"), "TensorRT has it"),
        ("tensorrt_rtx", "version_compatible", True, "TensorRT has it"),
        ("tensorrt_rtx", "hardware_compatible", True, "TensorRT has it"),
        ("tensorrt", "compute_capability", ("8.9",), "TensorRT-RTX has it"),
    ],
)
def test_an_option_that_a_flavour_lacks(flavour: str, option: str, value: object, has_it: str) -> None:
    can = capabilities(flavour)
    with pytest.raises(UnsupportedOptionError) as caught:
        check_options(
            PlanOptions(**{option: value}),  # type: ignore[arg-type]
            Flavour(can=can, module_name="absent", version="9.8.7"),
        )
    assert caught.value.exit_code == 2
    for part in (f"{can.title} 9.8.7", option, has_it):
        assert part in str(caught.value)


def test_every_option_is_had_or_lacked_with_a_reason() -> None:
    names = set(vars(PlanOptions()))
    for key in ("tensorrt", "tensorrt_rtx"):
        can = capabilities(key)
        assert can.plan_options | set(can.lacks) == names
        assert not can.plan_options & set(can.lacks)


def test_a_runtime_cannot_build() -> None:
    lean = Flavour(can=capabilities("tensorrt_lean"), module_name="absent", version="10.16.1.11")
    with pytest.raises(UnsupportedOptionError, match=r"lean runtime 10\.16\.1\.11 cannot build plans"):
        check_options(PlanOptions(), lean)


def test_an_unknown_gpu(rtx: Flavour, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOptionError, match=r"compute_capability 9\.0.*expected 7\.5, 8\.0"):
        build(tiny_yolo(tmp_path / "m.onnx"), rtx, compute_capability=("8.9", "9.0"))


@pytest.mark.parametrize("options", [{"workspace_mib": 0}, {"workspace_mib": 10**20}, {"optimization_level": 6}])
def test_a_value_out_of_range(options: dict[str, int]) -> None:
    full = Flavour(can=capabilities("tensorrt"), module_name="absent", version="10.16.1.11")
    with pytest.raises(UsageError, match="out of range"):
        check_options(PlanOptions(**options), full)  # type: ignore[arg-type]


def test_an_operator_that_tensorrt_lacks(rtx: Flavour, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Swirl", ["images"], ["a"], name="first", domain="mine"),
            helper.make_node("Twirl", ["images"], ["output0"], name="second", domain="mine"),
        ],
        "unknown",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 3, 64, 64])],
    )
    path = tmp_path / "m.onnx"
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    with pytest.raises(ExportError) as caught:
        build_plan(path, flavour=rtx, spec=spec_for(path), options=PlanOptions())
    for part in ("node 0 'first' (Swirl)", "node 1 'second' (Twirl)", "--target onnx"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "error"), [(b"", ModelError), (b"\x0f no ONNX " * 99, ExportError), (b"\x08\x08\x12\xff", ExportError)]
)
def test_no_onnx(rtx: Flavour, tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(error, match=r"m\.onnx"):
        build_plan(path, flavour=rtx, spec=spec_for(path), options=PlanOptions())


def test_profile_shapes(tmp_path: Path) -> None:
    spec = dataclasses.replace(
        read_onnx_spec(tiny_yolo(tmp_path / "m.onnx")), batch=BatchRange(min=2, opt=4, max=8), imgsz=(320, 640)
    )
    shapes = {
        (-1, 3, 320, 640): ((2, 3, 320, 640), (4, 3, 320, 640), (8, 3, 320, 640)),
        (-1, 3, -1, -1): ((2, 3, 32, 32), (4, 3, 320, 640), (8, 3, 320, 640)),
    }
    for shape, wanted in shapes.items():
        assert profile_shapes(shape, spec, where="m") == wanted
    static = dataclasses.replace(spec, batch=BatchRange(min=4, opt=4, max=4))
    assert profile_shapes((4, 3, 320, 640), static, where="m") is None
    with pytest.raises(ExportError, match="batches of 1 only"):
        profile_shapes((1, 3, 320, 640), spec, where="m")
    with pytest.raises(ExportError, match="pictures of 64x64 only"):
        profile_shapes((4, 3, 64, 64), static, where="m")


def test_set_options_are_json_ready() -> None:
    options = PlanOptions(timing_cache=Path("a/t.cache"), compute_capability=("8.9",), strip=True)
    assert json.loads(json.dumps(set_options(options))) == {
        "timing_cache": "a/t.cache",
        "compute_capability": ["8.9"],
        "strip": True,
    }


def test_timing_cache(rtx: Flavour, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """TensorRT-RTX keeps an empty cache, which is enough to try reading, writing and damage."""
    path = tmp_path / "folder" / "t.cache"
    with capture(rtx) as (logger, _), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        builder = rtx.module.Builder(logger)
        first = builder.create_builder_config()
        attach_timing_cache(first, path)
        save_timing_cache(first, path)
        assert path.is_file()
        assert [p.name for p in path.parent.iterdir()] == ["t.cache"]
        path.write_bytes(b"damaged" * 100)
        with caplog.at_level(logging.WARNING, "yolotrt"):
            second = builder.create_builder_config()
            attach_timing_cache(second, path)
        assert caplog.messages
        save_timing_cache(second, path)
        assert not path.read_bytes().startswith(b"damaged")
        with pytest.raises(UsageError, match="timing_cache"):
            attach_timing_cache(builder.create_builder_config(), tmp_path)
