"""Options of a measurement that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from yolotrt.bench.options import BenchOptions
from yolotrt.errors import UsageError


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seconds": 0.0}, "option seconds is out of range"),
        ({"seconds": float("nan")}, "option seconds is out of range"),
        ({"seconds": float("inf")}, "option seconds is out of range"),
        ({"batch": 0}, "option batch is out of range"),
        ({"threads": -1}, "option threads is out of range"),
        ({"threads": 10**9}, "option threads is out of range"),
        ({"starts": -1}, "option starts is out of range"),
        ({"target_qps": 0.0}, "option target_qps is out of range"),
        ({"target_latency_ms": -5.0}, "option target_latency_ms is out of range"),
        ({"compare": "darknet"}, "option compare is unknown"),
        ({"scenarios": ("offlin",), "output": Path("x")}, "option loadgen is unknown"),
        ({"scenarios": ("offline",)}, "--output DIR"),
        ({"output": Path("x")}, "belongs to --loadgen"),
        ({"scenarios": ("offline",), "output": Path("x"), "compare": "ultralytics"}, "exclude each other"),
    ],
)
def test_wrong_options(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BenchOptions(model=Path("m.onnx"), **wrong)


def test_the_defaults_are_right() -> None:
    assert BenchOptions(model=Path("m.onnx")).seconds > 0
