"""Small Ultralytics weights for tests: built from their YAML, with activations as lively as those of trained ones.

Random weights alone let the signal die out layer by layer, which leaves nothing to calibrate or to compare.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolotrt.export.ultralytics_quiet import quiet_ultralytics
from yolotrt.types import ImageU8

NC = 5


def picture(seed: int, height: int = 240, width: int = 320) -> ImageU8:
    """A picture with shapes, a gradient and some noise: BGR `uint8 [H, W, 3]`."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(8):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        side = int(rng.integers(8, height // 3))
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        cv2.rectangle(image, (x, y), (x + side, y + side), colour, -1)
    noisy: ImageU8 = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
    return noisy


def write_pictures(folder: Path, count: int = 3) -> Path:
    """Write some pictures of different shapes and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        size = [(240, 320), (320, 200), (256, 256)][i % 3]
        cv2.imwrite(str(folder / f"{i}.png"), picture(i, *size))
    return folder


def save_weights(path: Path, config: str, *, bias: float = -4.0, **extra: Any) -> Path:
    """Build the model of an Ultralytics YAML (`yolov8n`, `yolov8n-seg`) and save it as Ultralytics does.

    Args:
        path: the `.pt` to write.
        config: name of the YAML.
        bias: of the class scores; lower means fewer boxes.
        extra: more entries of the checkpoint.
    """
    with quiet_ultralytics(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

        net = _build(config)
        _settle(net)
        _place_boxes(net, bias)
        net.names = {i: f"thing{i}" for i in range(NC)}
        checkpoint = {"model": net, "ema": None, "train_args": {"imgsz": 128}, "version": "8.4.190", **extra}
        torch.save(checkpoint, path)
    return path


def _build(config: str) -> Any:
    import torch
    from ultralytics.nn import tasks

    torch.manual_seed(0)
    kinds = {"-seg": "SegmentationModel", "-pose": "PoseModel", "-obb": "OBBModel", "-cls": "ClassificationModel"}
    kind = next((k for ending, k in kinds.items() if config.endswith(ending)), "DetectionModel")
    if config.startswith("rtdetr"):
        kind = "RTDETRDetectionModel"
    net = getattr(tasks, kind)(f"{config}.yaml", nc=NC, verbose=False)
    net.task = {"-seg": "segment", "-pose": "pose", "-obb": "obb", "-cls": "classify"}.get(
        next((e for e in kinds if config.endswith(e)), ""), "detect"
    )
    return net


def _settle(net: Any) -> None:
    """Give every batch normalisation the statistics of some pictures, so that each layer's output has unit variance."""
    import torch

    images = np.stack([cv2.resize(picture(i), (128, 128)) for i in range(2)])
    batch = torch.from_numpy(np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2))).float() / 255
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    net.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        net(batch)
    net.eval()
    for norm in norms:
        norm.momentum = 0.03


def _place_boxes(net: Any, bias: float) -> None:
    """Boxes of some pixels around their anchors, class scores that follow the picture."""
    import torch

    head = net.model[-1]
    for name in ("cv3", "one2one_cv3"):
        for branch in getattr(head, name, None) or []:
            torch.nn.init.normal_(branch[-1].weight, std=0.05)
            branch[-1].bias.data[:] = bias
    bins = -((torch.arange(16) - 4.0) ** 2) * 0.7
    for name in ("cv2", "one2one_cv2"):
        for branch in getattr(head, name, None) or []:
            torch.nn.init.normal_(branch[-1].weight, std=0.02)
            branch[-1].bias.data[:] = 3.0 if head.reg_max == 1 else bins.repeat(4)
