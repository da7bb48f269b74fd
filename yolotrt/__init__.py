"""yolotrt: from trained YOLO weights to boxes on a production GPU.

The public names are loaded on first use, so that `import yolotrt` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from yolotrt._version import __version__

if TYPE_CHECKING:
    from yolotrt.detections import Detections as Detections
    from yolotrt.detector import Detector as Detector
    from yolotrt.errors import YolotrtError as YolotrtError
    from yolotrt.export.pipeline import export_model as export_model
    from yolotrt.model_spec import ModelSpec as ModelSpec
    from yolotrt.options import DetectOptions as DetectOptions
    from yolotrt.options import ExportOptions as ExportOptions
    from yolotrt.options import PlanOptions as PlanOptions
    from yolotrt.sources import open_source as open_source
    from yolotrt.types import Frame as Frame
    from yolotrt.types import FrameResult as FrameResult

_HOMES = {
    "DetectOptions": "options",
    "Detections": "detections",
    "Detector": "detector",
    "ExportOptions": "options",
    "Frame": "types",
    "FrameResult": "types",
    "ModelSpec": "model_spec",
    "PlanOptions": "options",
    "YolotrtError": "errors",
    "export_model": "export.pipeline",
    "open_source": "sources",
}

__all__ = [
    "DetectOptions",
    "Detections",
    "Detector",
    "ExportOptions",
    "Frame",
    "FrameResult",
    "ModelSpec",
    "PlanOptions",
    "YolotrtError",
    "__version__",
    "export_model",
    "open_source",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yolotrt' has no attribute {name!r}")
    value = getattr(import_module(f"yolotrt.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
