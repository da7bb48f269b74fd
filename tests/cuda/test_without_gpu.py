"""What CUDA's failures look like. The driver API is the real one; only codes that need a GPU are made up."""

from __future__ import annotations

import sys

import pytest

from yolotrt.cuda import driver as driver_module
from yolotrt.cuda.device import Device, device_count
from yolotrt.cuda.driver import check, driver, driver_version, translated
from yolotrt.errors import CudaError, MissingExtraError, ModelError

driver_api = pytest.importorskip("cuda.bindings.driver")
without_gpu = pytest.mark.skipif(device_count() > 0, reason="says what happens on a machine without a GPU")


@without_gpu
def test_no_gpu() -> None:
    assert device_count() == 0
    for call in (driver, driver_version, lambda: Device.open(0)):
        with pytest.raises(CudaError, match=r"CUDA cannot start: no .*--device cpu"):
            call()


def test_no_cuda_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    driver_module.driver.cache_clear()
    try:
        assert device_count() == 0
        with pytest.raises(MissingExtraError, match=r"yolotrt\[gpu\]") as caught:
            driver()
        assert caught.value.extra == "gpu"
    finally:
        driver_module.driver.cache_clear()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY", "out of GPU memory.*smaller batch"),
        ("CUDA_ERROR_NO_DEVICE", "no usable NVIDIA GPU.*CUDA_VISIBLE_DEVICES"),
        ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "Restart the machine"),
        ("CUDA_ERROR_LAUNCH_FAILED", "lost to this process .CUDA_ERROR_LAUNCH_FAILED.*Start the program again"),
        ("CUDA_ERROR_UNKNOWN", "it failed: CUDA_ERROR_UNKNOWN"),
    ],
)
def test_codes_become_sentences(code: str, said: str) -> None:
    with pytest.raises(CudaError, match=f"it failed: .*{said}" if "it failed" not in said else said):
        check((getattr(driver_api.CUresult, code),), "it failed")


def test_every_code_with_a_meaning_exists() -> None:
    # The driver API has no code for a driver that is too old: the CUDA runtime has, and the loader finds it out.
    names = set(driver_module._MEANINGS) - {"CUDA_ERROR_INSUFFICIENT_DRIVER"}
    assert names <= set(driver_api.CUresult.__members__)


def test_check_gives_the_value() -> None:
    success = driver_api.CUresult.CUDA_SUCCESS
    assert check((success, 5), "") == 5
    assert check((success, 5, 6), "") == (5, 6)
    assert check((success,), "") == ()


def test_what_cuda_core_raises_is_translated() -> None:
    from cuda.core._utils.cuda_utils import CUDAError

    with pytest.raises(CudaError, match="allocating: out of GPU memory"), translated("allocating"):
        raise CUDAError("CUDA_ERROR_OUT_OF_MEMORY: the API call failed")
    with pytest.raises(CudaError, match="allocating: CUDA_ERROR_UNKNOWN"), translated("allocating"):
        raise CUDAError("CUDA_ERROR_UNKNOWN: who knows")
    with pytest.raises(CudaError, match="driver is too old"), translated("allocating"):
        raise RuntimeError('Function "cuNew" not found')


def test_other_errors_pass_through() -> None:
    for error in (ValueError("a mistake of ours"), ModelError("already said"), RuntimeError("something else")):
        with pytest.raises(type(error)) as caught, translated("trying"):
            raise error
        assert caught.value is error
