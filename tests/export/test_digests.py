"""What an export depends on is in its digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from yolotrt.backends.flavours import Flavour, capabilities
from yolotrt.cuda.device import Device
from yolotrt.errors import CudaError
from yolotrt.export.digests import code_digest, compute_digests
from yolotrt.export.source import Source
from yolotrt.options import ExportOptions, PlanOptions, Target


def plan_digest(flavour: str) -> str:
    source = Source(path=Path("m.onnx"), kind="onnx", sha256="0")
    found = Flavour(can=capabilities(flavour), module_name="none", version="1.2.3")
    return compute_digests(source, ExportOptions(), precision="fp16", pictures=[], flavour=found).plan


def test_a_plan_for_the_gpu_it_is_built_on_is_made_again_on_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def on(name: str, capability: str) -> tuple[str, str]:
        gpu = Device(index=0, name=name, compute_capability=capability, memory_bytes=0)
        monkeypatch.setattr(Device, "open", lambda index=0: gpu)
        return plan_digest("tensorrt"), plan_digest("tensorrt_rtx")

    h200, l4 = on("NVIDIA H200", "9.0"), on("NVIDIA L4", "8.9")
    assert h200[0] != l4[0]
    assert h200 == on("NVIDIA H200", "9.0")
    assert h200[1] == l4[1], "these plans fit more GPUs than one"

    def none(index: int = 0) -> Device:
        raise CudaError("no GPU")

    monkeypatch.setattr(Device, "open", none)
    assert plan_digest("tensorrt") not in (h200[0], l4[0])


def auto_digest(target: Target, flavour: str | None, **plan: Any) -> str:
    source = Source(path=Path("m.onnx"), kind="onnx", sha256="0")
    found = Flavour(can=capabilities(flavour), module_name="none", version="1.7.3") if flavour else None
    options = ExportOptions(target=target, plan=PlanOptions(**plan))
    return compute_digests(source, options, precision="auto", pictures=[], flavour=found).onnx


def test_what_auto_chose_holds_only_where_it_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def on(name: str | None) -> None:
        def open_gpu(index: int = 0) -> Device:
            if name is None:
                raise CudaError("no GPU")
            return Device(index=0, name=name, compute_capability="9.0", memory_bytes=0)

        monkeypatch.setattr(Device, "open", open_gpu)

    on(None)
    nowhere, cpu = auto_digest("tensorrt-rtx", "tensorrt_rtx"), auto_digest("onnx", None)
    on("NVIDIA H200")
    gpu = auto_digest("tensorrt-rtx", "tensorrt_rtx")
    found = {
        nowhere, cpu, gpu, auto_digest("openvino", None), auto_digest("tensorrt", "tensorrt"),
        auto_digest("tensorrt-rtx", "tensorrt_rtx", workspace_mib=64),
    }  # fmt: skip
    assert len(found) == 6
    assert auto_digest("tensorrt-rtx", "tensorrt_rtx") == gpu
    assert auto_digest("onnx", None) == cpu, "a GPU is not what it is timed on"


def test_the_code_of_every_module_counts(tmp_path: Path) -> None:
    def digest(*contents: str) -> str:
        for name, content in zip(("a.py", "sub/b.py"), contents, strict=True):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
        code_digest.cache_clear()
        return code_digest(tmp_path)

    assert digest("x", "y") == digest("x", "y")
    assert len({digest("x", "y"), digest("z", "y"), digest("x", "z")}) == 3
