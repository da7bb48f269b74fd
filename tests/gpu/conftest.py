"""Tests that need an NVIDIA GPU. Without one they are skipped; under YOLOTRT_REQUIRE_GPU=1 any skip is a failure."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from yolotrt.cuda.device import Device
from yolotrt.errors import CudaError, MissingExtraError

HERE = Path(__file__).parent
REQUIRED = os.environ.get("YOLOTRT_REQUIRE_GPU") == "1"
REHEARSAL = os.environ.get("YOLOTRT_REHEARSAL") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.gpu)
    if REHEARSAL:
        left_out = [item for item in items if item.get_closest_marker("real_gpu")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[Any],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REQUIRED and report.skipped and item.path.is_relative_to(HERE) and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped under YOLOTRT_REQUIRE_GPU=1: {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def gpu() -> Device:
    """The GPU that the tests run on."""
    try:
        return Device.open(0)
    except (CudaError, MissingExtraError) as e:
        pytest.skip(str(e))
