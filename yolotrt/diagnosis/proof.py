"""A tiny model whose right answer is known, so that each back-end is checked by what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from yolotrt.backends.base import Backend
    from yolotrt.model_spec import ModelSpec

_SIDE, _CELL, _CHANNELS = 32, 8, 5
_ANCHORS = (_SIDE // _CELL) ** 2
# GPUs may multiply in TF32, which keeps 10 bits of each factor.
_TOLERANCE = 5e-3


def write_proof_model(folder: Path) -> Path:
    """Write the model: averages of 8 by 8 pixels, one 1x1 convolution, in the layout of a YOLO with one class."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[_CELL, _CELL], strides=[_CELL, _CELL]),
        helper.make_node("Conv", ["cells", "weights"], ["mixed"]),
        helper.make_node("Reshape", ["mixed", "shape"], ["output0"]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "weights": _weights()[:, :, None, None],
        "shape": np.array([1, _CHANNELS, _ANCHORS], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "proof",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, _CHANNELS, _ANCHORS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = folder / "proof.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def proof_spec() -> ModelSpec:
    """The model's description."""
    from yolotrt.model_spec import ModelSpec, TensorSpec

    return ModelSpec(
        head="anchor_free",
        names=("proof",),
        imgsz=(_SIDE, _SIDE),
        input=TensorSpec(name="images", dtype="float32", shape=(1, 3, _SIDE, _SIDE)),
        outputs=(TensorSpec(name="output0", dtype="float32", shape=(1, _CHANNELS, _ANCHORS)),),
    )


def prove(backend: Backend) -> str:
    """Run the model once and compare with NumPy; the time it took, for people. Raises BackendError if it is wrong."""
    import time

    import numpy as np

    from yolotrt.errors import BackendError
    from yolotrt.preprocess.geometry import LetterboxGeometry
    from yolotrt.types import Batch

    size = (_SIDE, _SIDE)
    geometry = LetterboxGeometry(source_size=size, input_size=size, resized_size=size, pad_top=0, pad_left=0)
    images = np.random.default_rng(0).random((1, 3, *size), np.float32)
    batch = Batch(images=images, geometries=(geometry,))
    started = time.perf_counter()
    found = backend.infer(batch).first
    took = time.perf_counter() - started
    error = float(np.abs(found - _expected(batch.images)).max())
    if not error <= _TOLERANCE:  # NaN is wrong too
        raise BackendError("it computes wrong numbers", got=f"an error of {error:.3g}", expected=f"below {_TOLERANCE}")
    return f"a small model runs right, in {took * 1000:.1f} ms"


def _weights() -> npt.NDArray[np.float32]:
    import numpy as np

    return np.random.default_rng(1).normal(size=(_CHANNELS, 3)).astype(np.float32)


def _expected(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    import numpy as np

    cells = images.reshape(1, 3, _SIDE // _CELL, _CELL, _SIDE // _CELL, _CELL).mean(axis=(3, 5))
    result: npt.NDArray[np.float32] = np.einsum("oc,nca->noa", _weights(), cells.reshape(1, 3, _ANCHORS))
    return result
