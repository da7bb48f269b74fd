"""What `yolotrt doctor` says of NVDEC and of the compiler of the kernels."""

from __future__ import annotations

import sys
import types
from typing import Any, cast

import pytest

from tests.support.cuda_host.machine import HostMachine
from tests.support.host_nvdec import HostNvdec
from yolotrt.cuda import compile as compiler
from yolotrt.cuda import gpu
from yolotrt.cuda.device import Device
from yolotrt.diagnosis import machine, media
from yolotrt.diagnosis.report import Check
from yolotrt.errors import CudaError, MissingExtraError

GPU = machine.Gpu(index=0, name="NVIDIA H200", compute_capability="9.0", memory_mib=143771)


@pytest.fixture
def nvdec(monkeypatch: pytest.MonkeyPatch) -> HostNvdec:
    """A machine with a GPU and PyNvVideoCodec."""
    api = HostNvdec()
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", cast("types.ModuleType", api))
    monkeypatch.setattr(media, "version_of", lambda _: "2.2.4")
    monkeypatch.setattr(machine, "usable_gpus", lambda: ([GPU], ""))
    monkeypatch.setattr(Device, "open", lambda _: None)
    monkeypatch.setattr(gpu, "gpu", lambda _: HostMachine())
    return api


def only(checks: Any) -> Check:
    [found] = checks
    return cast("Check", found)


def test_what_it_decodes(nvdec: HostNvdec) -> None:
    found = only(media.check_nvdec())
    assert (found.status, found.detail) == ("ok", "PyNvVideoCodec 2.2.4 decodes h264, hevc, av1")


def test_a_gpu_without_decoders(nvdec: HostNvdec) -> None:
    nvdec.caps |= {"width_max": 0}
    found = only(media.check_nvdec())
    assert (found.status, found.detail) == ("absent", "PyNvVideoCodec 2.2.4: this GPU does not decode h264")


def test_a_package_that_does_not_start(nvdec: HostNvdec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    found = only(media.check_nvdec())
    assert (found.status, found.remedy) == ("broken", "pip install --force-reinstall PyNvVideoCodec")


def test_no_gpu(nvdec: HostNvdec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_gpus", lambda: ([], "no driver"))
    found = only(media.check_nvdec())
    assert (found.status, found.detail) == ("absent", "PyNvVideoCodec 2.2.4; needs a GPU to decode")


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "version_of", lambda _: None)
    found = only(media.check_nvdec())
    assert (found.status, found.remedy) == ("missing", 'pip install "yolotrt[gpu]"')
    monkeypatch.setattr(sys, "platform", "darwin")
    assert only(media.check_nvdec()).status == "absent"
    assert list(machine.check_nvrtc()) == []


@pytest.mark.parametrize(
    ("error", "status", "remedy"),
    [
        (None, "ok", ""),
        (MissingExtraError("nvidia-cuda-nvrtc", "gpu", needed_for="x"), "missing", 'pip install "yolotrt[gpu]"'),
        (CudaError("no version"), "broken", "pip install --force-reinstall nvidia-cuda-nvrtc"),
    ],
)
def test_the_compiler(error: Exception | None, status: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version() -> tuple[int, int]:
        if error is not None:
            raise error
        return 13, 5

    monkeypatch.setattr(compiler, "compiler_version", version)
    found = only(machine.check_nvrtc())
    assert (found.status, found.remedy) == (status, remedy)
    assert found.detail.startswith({"ok": "13.5 ", "missing": "nvidia-cuda-nvrtc is not installed"}.get(status, ""))
