"""DFL in OpenVINO's order of the channels gives what DFL as exported gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from yolotrt import assets
from yolotrt.backends.openvino_dfl import fold_dfl

LEVELS = {"p3": (6, 4), "p4": (3, 2)}
POSITIONS = sum(h * w for h, w in LEVELS.values())


def head(
    *,
    bins: int = 8,
    batch: int | str = 2,
    kind: str = "float32",
    softmax: int = 1,
    first: float = 0.0,
    also: str | None = None,
) -> onnx.ModelProto:
    """The box branch of a YOLOv8: its last features in, the four sides of each box out.

    Args:
        bins: of each side's distribution.
        batch: number of pictures, or a name for any.
        kind: NumPy's name of the data type.
        softmax: its axis; 1 is that of the bins.
        first: the weight of the first bin.
        also: a tensor on the way that is an output of the graph as well.
    """
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    constants = {
        "row": np.array([0, 4 * bins, -1]),
        "split": np.array([0, 4, bins, POSITIONS]),
        "mean": (np.arange(bins).reshape(1, bins, 1, 1) + first).astype(kind),
        "flat": np.array([0, 4, POSITIONS]),
    }
    shapes: dict[str, list[int | str]] = {
        "sides": [batch, 4, POSITIONS],
        "rows": [batch, 4 * bins, POSITIONS],
        "probabilities": [batch, bins, 4, POSITIONS],
        "means": [batch, 1, 4, POSITIONS],
    }
    nodes = [helper.make_node("Relu", [name], [f"{name}_box"]) for name in LEVELS]
    nodes += [helper.make_node("Reshape", [f"{name}_box", "row"], [f"{name}_row"]) for name in LEVELS]
    nodes += [
        helper.make_node("Concat", [f"{name}_row" for name in LEVELS], ["rows"], axis=2),
        helper.make_node("Reshape", ["rows", "split"], ["bins"]),
        helper.make_node("Transpose", ["bins"], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Softmax", ["turned"], ["probabilities"], axis=softmax),
        helper.make_node("Conv", ["probabilities", "mean"], ["means"]),
        helper.make_node("Reshape", ["means", "flat"], ["lengths"]),
        helper.make_node("Mul", ["lengths", "lengths"], ["sides"]),
    ]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info(n, number, [batch, 4 * bins, h, w]) for n, (h, w) in LEVELS.items()],
        [helper.make_tensor_value_info(name, number, shapes[name]) for name in ("sides", also) if name],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, **inputs: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # constants of the old form stay behind
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("bins", [8, 16])
@pytest.mark.parametrize("batch", [2, "batch"])
def test_the_values_stay(bins: int, batch: int | str) -> None:
    model = head(bins=bins, batch=batch)
    changed = fold_dfl(model)
    onnx.checker.check_model(changed, full_check=True)
    assert not {"Softmax", "Conv"} & {n.op_type for n in changed.graph.node}
    rng = np.random.default_rng(bins)
    for scale in (1, 20):  # flat distributions, and such that are nearly all in one bin
        features = {
            n: (scale * rng.standard_normal((2, 4 * bins, h, w))).astype(np.float32) for n, (h, w) in LEVELS.items()
        }
        np.testing.assert_allclose(run(changed, **features), run(model, **features), rtol=2e-5, atol=2e-5)


def test_large_values_do_not_overflow() -> None:
    features = {name: np.full((2, 32, h, w), 3e4, np.float32) for name, (h, w) in LEVELS.items()}
    model = head()
    np.testing.assert_allclose(run(fold_dfl(model), **features), run(model, **features), rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"first": 1.0},
        {"kind": "float16"},
        {"softmax": 3},
        {"also": "probabilities"},
        {"also": "rows"},
        {"also": "means"},
    ],
    ids=["other-weights", "fp16", "other-axis", "softmax-is-read", "rows-are-read", "mean-is-read"],
)
def test_another_form_stays(changes: dict[str, Any]) -> None:
    model = head(**changes)
    assert fold_dfl(model) is model


def test_the_demo_model() -> None:
    model = onnx.load(assets.demo_model())
    changed = fold_dfl(model)
    assert len(changed.graph.node) < len(model.graph.node) + 10
    assert not any(n.op_type == "Softmax" for n in changed.graph.node)
    image = np.random.default_rng(0).random((1, 3, 640, 640), np.float32)
    np.testing.assert_allclose(run(changed, images=image), run(model, images=image), rtol=1e-4, atol=1e-3)
    assert sum(n.op_type == "Exp" for n in changed.graph.node) == 1
