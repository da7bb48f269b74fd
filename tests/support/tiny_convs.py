"""The tiny YOLO of `tiny_models` behind some convolutions that hand its colours on, for what quantizes convolutions.

    images -> stem -> spread -> gather -> wide -> last -> the cells of tiny_yolo

With `trap`, `spread` gives each colour once as it is and once a thousandfold, and `gather` adds both up again. No range
serves both, so `gather` cannot be quantized: half of every colour would be lost. The rest can.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tests.support.tiny_models import tiny_yolo

TRAP = "gather"
_FACTOR = 1000.0


def tiny_convs(path: Path, *, trap: bool = False, heavy: bool = False, **options: Any) -> Path:
    """Write the model and return its path.

    Args:
        path: the ONNX file to write.
        trap: make `gather` impossible to quantize.
        heavy: and make it do most of the arithmetic.
        options: of `tiny_yolo`.
    """
    model = onnx.load(tiny_yolo(path, **options))
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["colours" if name == "images" else name for name in node.input]
    others = list(graph.node)
    eye = np.eye(3, dtype=np.float32)[:, :, None, None]
    factor = _FACTOR if trap else 1.0
    weights = {
        "stem": eye,
        "spread": np.concatenate([eye, eye * factor]),
        "gather": _padded(np.concatenate([eye / 2, eye / 2 / factor], axis=1), 9 if heavy else 1),
        "wide": _padded(eye, 5),
        "last": eye,
    }
    tensors = ["images", *(f"{name}_out" for name in weights)]
    tensors[-1] = "colours"
    del graph.node[:]
    for (name, values), source, result in zip(weights.items(), tensors, tensors[1:], strict=False):
        side = values.shape[-1]
        graph.node.append(
            helper.make_node("Conv", [source, name], [result], name, kernel_shape=[side, side], pads=[side // 2] * 4)
        )
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    graph.node.extend(others)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def _padded(weights: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """A kernel of `side` by `side` that computes the same."""
    edge = side // 2
    return np.pad(weights, [(0, 0), (0, 0), (edge, edge), (edge, edge)])
