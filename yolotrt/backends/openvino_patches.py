"""The boxes of some anchors alone, in OpenVINO: a graph of matrix products over the cells that they follow from.

OpenVINO prepares a matrix product anew for each number of rows that it has not met. So rows come in few numbers, filled
up with zeros. NumPy's own product would do but for its threads, which keep looking for work for a while: they take the
cores from OpenVINO's, and twice the time is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.backends.box_branch import SIDES, BoxBranch, BranchLevel, Kernel
from yolotrt.backends.box_patches import Patches

if TYPE_CHECKING:
    import onnx
    import openvino

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

_FEWEST_FIRST, _FEWEST_BOXES = 32, 8
_OPSET = 17


def patch_graph(branch: BoxBranch, *, distances: bool) -> onnx.ModelProto:
    """The box branch of some cells, of all levels.

    Its inputs are, for each level i, `rows{i} [m, 9 * C]` and `near{i} [n, 9]` as `Patches` gives them, with m for what
    is outside. Its output holds the levels one after the other.

    Args:
        branch: whose weights.
        distances: the output is the distances of the sides `[K, 4]` in strides; else `[K, 4 * reg_max]`.
    """
    from onnx import TensorProto, helper, numpy_helper

    inputs, nodes = [], []
    constants: dict[str, npt.NDArray[Any]] = {}
    for i, level in enumerate(branch.levels):
        inputs.append(helper.make_tensor_value_info(f"rows{i}", TensorProto.FLOAT, ["m", len(level.first.matrix)]))
        inputs.append(helper.make_tensor_value_info(f"near{i}", TensorProto.INT32, ["n", 9]))
        nodes += _level(i, level, constants)
    nodes.append(helper.make_node("Concat", [f"values{i}" for i in range(len(branch.levels))], ["values"], axis=0))
    result, width = "values", SIDES * branch.reg_max
    if distances and branch.reg_max > 1:
        nodes += _mean(branch.reg_max, constants)
        result, width = "distances", SIDES
    graph = helper.make_graph(
        nodes,
        "box_patches",
        inputs,
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, ["k", width])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)


def _level(i: int, level: BranchLevel, constants: dict[str, npt.NDArray[Any]]) -> list[onnx.NodeProto]:
    from onnx import helper

    channels = len(level.first.bias)
    constants[f"outside{i}"] = np.zeros((1, channels), np.float32)
    constants[f"patch{i}"] = np.array([-1, 9 * channels], np.int64)
    return [
        *_product(f"first{i}", f"rows{i}", level.first, constants, silu=True),
        helper.make_node("Concat", [f"first{i}", f"outside{i}"], [f"all{i}"], axis=0),
        helper.make_node("Gather", [f"all{i}", f"near{i}"], [f"gathered{i}"], axis=0),
        helper.make_node("Reshape", [f"gathered{i}", f"patch{i}"], [f"patches{i}"]),
        *_product(f"second{i}", f"patches{i}", level.second, constants, silu=True),
        *_product(f"values{i}", f"second{i}", level.last, constants, silu=False),
    ]


def _product(
    name: str, rows: str, kernel: Kernel, constants: dict[str, npt.NDArray[Any]], *, silu: bool
) -> list[onnx.NodeProto]:
    from onnx import helper

    constants[f"{name}_matrix"], constants[f"{name}_bias"] = kernel.matrix, kernel.bias
    summed = f"{name}_sum" if silu else name
    nodes = [
        helper.make_node("MatMul", [rows, f"{name}_matrix"], [f"{name}_product"]),
        helper.make_node("Add", [f"{name}_product", f"{name}_bias"], [summed]),
    ]
    if silu:
        nodes += [
            helper.make_node("Sigmoid", [summed], [f"{name}_gate"]),
            helper.make_node("Mul", [summed, f"{name}_gate"], [name]),
        ]
    return nodes


def _mean(bins: int, constants: dict[str, npt.NDArray[Any]]) -> list[onnx.NodeProto]:
    """DFL: the mean of each side's bins, weighted by their softmax."""
    from onnx import helper

    constants["each_side"], constants["sides"] = np.array([-1, bins], np.int64), np.array([-1, SIDES], np.int64)
    constants["bins"] = np.arange(bins, dtype=np.float32)[:, None]
    return [
        helper.make_node("Reshape", ["values", "each_side"], ["values_of_sides"]),
        helper.make_node("Softmax", ["values_of_sides"], ["weights"], axis=1),
        helper.make_node("MatMul", ["weights", "bins"], ["means"]),
        helper.make_node("Reshape", ["means", "sides"], ["distances"]),
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchRequest:
    """Runs a `patch_graph`. For one thread at a time."""

    request: openvino.InferRequest = field(repr=False)

    def run(self, features: Sequence[Float32Array], patches: Sequence[Patches]) -> list[Float32Array]:
        """What the graph gives for some boxes of each level.

        Args:
            features: of each level, `[N, h, w, C]`.
            patches: of each level, what its boxes follow from.

        Returns:
            Of each level, one row per box; valid until the next call.

        Raises RuntimeError: OpenVINO failed.
        """
        given: dict[str, npt.NDArray[Any]] = {}
        places, start = [], 0
        for i, (feature, patch) in enumerate(zip(features, patches, strict=True)):
            first, boxes = few(len(patch.reads), _FEWEST_FIRST), few(len(patch.near), _FEWEST_BOXES)
            given[f"rows{i}"] = patch.rows(feature.reshape(-1, feature.shape[3]), first)
            given[f"near{i}"] = patch.neighbours(boxes, first)
            places.append(slice(start, start + len(patch.near)))
            start += boxes
        found = self.request.infer(given, share_inputs=True, share_outputs=True)[0]
        return [found[place] for place in places]


def few(count: int, fewest: int) -> int:
    """The next of few numbers: 32, 48, 64, 96, 128, ... for a fewest of 32."""
    found = fewest
    while found < count:
        if 2 * count <= 3 * found:
            return found + found // 2
        found *= 2
    return found
