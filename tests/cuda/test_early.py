"""CUDA is started beside the imports; what fails is left to whoever opens the GPU."""

from __future__ import annotations

import threading

import pytest

from yolotrt.cuda.device import Device, device_count
from yolotrt.cuda.early import started_early
from yolotrt.errors import CudaError, MissingExtraError


@pytest.mark.parametrize("index", [0, 10_000])
def test_what_fails_is_left_to_whoever_opens_the_gpu(index: int) -> None:
    with started_early(index):
        if device_count() <= index:
            with pytest.raises((CudaError, MissingExtraError)):
                Device.open(index)
    assert not any(thread.name == "yolotrt-cuda" for thread in threading.enumerate())


def test_an_error_of_the_block_goes_on() -> None:
    with pytest.raises(KeyError), started_early(0):
        raise KeyError
    assert not any(thread.name == "yolotrt-cuda" for thread in threading.enumerate())
