"""Let Ultralytics run where torchvision's compiled operators cannot be loaded.

torchvision fails at import when its extension was built for another PyTorch: it describes `torchvision::nms` to the
dispatcher, and no such operator exists. `install()` defines the operators first, with Ultralytics' own non-maximum
suppression behind them, which is written in plain PyTorch.
"""

from __future__ import annotations

from typing import Any

_libraries: list[Any] = []
"""Kept, because an operator ends when the library object that defines it does."""

_SCHEMAS = ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # fmt: skip


def _suppress(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    from ultralytics.utils.nms import TorchNMS

    return TorchNMS.nms(boxes, scores, iou_threshold)


def install() -> None:
    """Define the missing operators; does nothing where torchvision works, or when called again."""
    if _libraries:
        return
    try:
        import torchvision
    except (ImportError, RuntimeError):
        pass
    else:
        if torchvision.extension._has_ops():
            return
    _define()
    import torchvision

    torchvision.extension._has_ops = lambda: True


def _define() -> None:
    import sys

    import torch

    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    _libraries.append(library)
    for schema in _SCHEMAS:
        name = schema.partition("(")[0]
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
            library.impl(name, _suppress, "CPU")
