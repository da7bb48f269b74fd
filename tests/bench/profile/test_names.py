"""Names of runtimes, back to the nodes of a graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from yolotrt.bench.profile.names import GraphNames, is_own, operators_of


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    """conv -> sigmoid, mul (SiLU) -> pool, and a second branch, joined; a constant reshaped by the way."""
    node = helper.make_node
    nodes = [
        node("Constant", [], ["c"], name="/c/Constant", value=numpy_helper.from_array(np.zeros(4, np.float32))),
        node("Reshape", ["c", "shape"], ["bias"], name="/c/Reshape"),
        node("Conv", ["x", "w"], ["/0/conv/Conv_output_0"], name="/0/conv/Conv"),
        node("Sigmoid", ["/0/conv/Conv_output_0"], ["/0/act/Sigmoid_output_0"], name="/0/act/Sigmoid"),
        node("Mul", ["/0/conv/Conv_output_0", "/0/act/Sigmoid_output_0"], ["/0/act/Mul_output_0"], name="/0/act/Mul"),
        node("MaxPool", ["/0/act/Mul_output_0"], ["pooled"], name="/1/MaxPool", kernel_shape=[1, 1]),
        node("Add", ["pooled", "bias"], ["added"]),
        node("Concat", ["pooled", "added"], ["y"], name="/2/Concat", axis=1),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 4, 4])],
            [
                numpy_helper.from_array(np.zeros((4, 3, 1, 1), np.float32), "w"),
                numpy_helper.from_array(np.array([1, 4, 1, 1]), "shape"),
            ],
        )
    )


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("/0/conv/Conv", ["/0/conv/Conv"]),
        ("/0/conv/Conv_output_0_nchwc", ["/0/conv/Conv"]),
        ("/0/conv/Conv/WithoutBiases", ["/0/conv/Conv"]),
        ("/0/act/Mul/QuickGeluFusion/", ["/0/act/Mul"]),
        ("/1/MaxPool_token_17", ["/1/MaxPool"]),
        ("added", ["added"]),  # a node without a name goes by its result
        ("pooled_rows_exp", ["/1/MaxPool"]),
        (
            "/0/conv/Conv + PWN(PWN(/0/act/Sigmoid), /0/act/Mul)",
            ["/0/conv/Conv", "/0/act/Sigmoid", "/0/act/Mul"],
        ),
        ("[ONNX Layer: /0/conv/Conv]\x1e[ONNX Layer: /1/MaxPool]", ["/0/conv/Conv", "/1/MaxPool"]),
        ("/0/conv/Conv || /1/MaxPool", ["/0/conv/Conv", "/1/MaxPool"]),
        ("__myl_Fc_myl0_3", []),
        ("/9/conv/Conv", []),
        ("", []),
    ],
)
def test_nodes_in_a_name(graph: onnx.ModelProto, text: str, nodes: list[str]) -> None:
    assert GraphNames(graph).told([text]) == nodes


def test_constants_hang_on_no_picture(graph: onnx.ModelProto) -> None:
    assert GraphNames(graph).computed == [
        *("/0/conv/Conv", "/0/act/Sigmoid", "/0/act/Mul", "/1/MaxPool", "added", "/2/Concat"),
    ]


def test_what_is_not_told_was_fused_into_its_only_reader(graph: onnx.ModelProto) -> None:
    names = GraphNames(graph)
    found, missing = names.assign([["/0/conv/Conv"], ["/0/act/Mul"], ["added"], ["/2/Concat"]])
    # Two layers read what the pool gives, so it may be in either.
    assert found == [["/0/conv/Conv"], ["/0/act/Sigmoid", "/0/act/Mul"], ["added"], ["/2/Concat"]]
    assert missing == ["/1/MaxPool"]


def test_a_node_may_be_several_layers_and_the_end_is_not_inferred(graph: onnx.ModelProto) -> None:
    found, missing = GraphNames(graph).assign([["/0/conv/Conv"], ["/0/conv/Conv", "/1/MaxPool"], []])
    assert found[0] == ["/0/conv/Conv"]
    assert found[1] == ["/0/conv/Conv", "/0/act/Sigmoid", "/0/act/Mul", "/1/MaxPool"]
    assert found[2] == []
    assert missing == ["added", "/2/Concat"]


@pytest.mark.parametrize(
    ("name", "kind", "own"),
    [
        ("ReorderInput_token_17", "ReorderInput", True),
        ("x_abcd_acdb_/0/conv/Conv/WithoutBiases", "Reorder", True),
        ("Reformatting CopyNode for Input Tensor 0 to /0/conv/Conv", "Reformat", True),
        ("/0/conv/Conv/WithoutBiases", "Convolution", False),
        ("/copy/Mul", "Mul", False),
        ("entry^bb^signal^1_myl0_0", "signal", True),
        ("__myl_MoveMove_myl0_43", "kgen", True),
        ("__myl_CorrSilu_myl0_6", "runtime_fusion", False),
    ],
)
def test_layers_of_the_runtime_s_own(name: str, kind: str, own: bool) -> None:
    assert is_own(name, kind) is own


def test_operators_of_a_layer_the_heaviest_first(graph: onnx.ModelProto) -> None:
    names = GraphNames(graph)
    assert operators_of(["/0/act/Sigmoid", "/0/conv/Conv", "/0/act/Mul"], names.operators) == ("Conv", "Sigmoid", "Mul")
