"""Options as Python callers write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolotrt import DetectOptions, ExportOptions, PlanOptions
from yolotrt.errors import UsageError
from yolotrt.model_spec import BatchRange


def test_short_forms_become_the_declared_types() -> None:
    short: dict[str, Any] = {"imgsz": [384, 640], "names": ["a", "b"], "batch": 4, "output": "out", "images": "pics"}
    assert ExportOptions(**short) == ExportOptions(
        imgsz=(384, 640),
        names=("a", "b"),
        batch=BatchRange(min=4, opt=4, max=4),
        output=Path("out"),
        images=Path("pics"),
    )
    square: dict[str, Any] = {"imgsz": 320}
    assert ExportOptions(**square).imgsz == (320, 320)
    plan: dict[str, Any] = {"timing_cache": "t.bin", "compute_capability": ["8.6"]}
    assert PlanOptions(**plan) == PlanOptions(timing_cache=Path("t.bin"), compute_capability=("8.6",))


@pytest.mark.parametrize("imgsz", [0, (640,), (640, 640, 3), (640, -1)])
def test_sizes_that_are_none(imgsz: Any) -> None:
    with pytest.raises(UsageError, match="option imgsz is out of range"):
        ExportOptions(imgsz=imgsz)


@pytest.mark.parametrize(
    "given",
    [
        {"imgsz": "320"},
        {"imgsz": 320.0},
        {"imgsz": True},
        {"imgsz": 1 << 40},
        {"batch": 0},
        {"batch": None},
        {"batch": True},
        {"batch": "1,2,4"},
        {"batch": (4, 2, 1)},
        {"opset": "17"},
        {"opset": 0},
        {"images": ["a.jpg"]},
        {"output": 5},
    ],
)
def test_what_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"option {next(iter(given))} "):
        ExportOptions(**given)


def test_numbers_of_numpy_and_ranges() -> None:
    given: dict[str, Any] = {"imgsz": np.int64(320), "batch": (1, np.int32(4), 8)}
    assert ExportOptions(**given) == ExportOptions(imgsz=(320, 320), batch=BatchRange(min=1, opt=4, max=8))


@pytest.mark.parametrize("classes", ["car", ("car",), (None,), 2, (2.5,), np.array([1, 2])])
def test_classes_that_are_no_ids(classes: Any) -> None:
    with pytest.raises(UsageError, match=r"option classes holds something other than class ids.*Detector\(classes="):
        DetectOptions(classes=classes)


def test_class_ids() -> None:
    ids: Any = [np.int64(2), 1]
    assert DetectOptions(classes=ids).classes == (2, 1)
