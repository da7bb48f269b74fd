"""The demo model as ONNX in several sizes, made once per test process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.demo_val import DemoVal, demo_val
from yolotrt import assets
from yolotrt.export.pipeline import export_model

WEIGHTS = assets.folder() / "yolov8n_demo.pt"
Exported = Callable[..., Path]


@pytest.fixture(scope="session")
def val() -> DemoVal:
    return demo_val()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The ONNX file of the demo model in some precision and input size."""
    made: dict[str, Path] = {}

    def export(precision: str = "fp32", imgsz: tuple[int, int] = (640, 640)) -> Path:
        key = f"{precision}-{imgsz[0]}x{imgsz[1]}"
        if key not in made:
            folder = tmp_path_factory.mktemp("exported") / key
            made[key] = export_model(WEIGHTS, precision=precision, imgsz=imgsz, target="onnx", output=folder).onnx
        return made[key]

    return export
