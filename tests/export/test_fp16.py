"""The FP16 rewrite: what is kept in FP32 and why, and that the graph is well typed for every reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.export.conftest import Weights
from tests.support.weights import write_pictures
from yolotrt.errors import ExportError
from yolotrt.export.fp16_rewrite import normalise, rewrite, tensor_types
from yolotrt.export.origin import TorchOrigin, checked
from yolotrt.export.precision import Fp16Result, to_fp16
from yolotrt.export.ranges import measure_ranges
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.export.samples import batches, find_pictures
from yolotrt.export.simplify import simplify
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import ExportOptions
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import Batch

HEADS = ["yolov8n", "yolo11n", "yolo26n", "yolov10n", pytest.param("rtdetr-l", marks=pytest.mark.slow)]


def graph(nodes: list[onnx.NodeProto], constants: dict[str, Any], *, outputs: tuple[str, ...] = ("y",)) -> Any:
    """A model over `x` float32 [1, 3, 8, 8]."""
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    return onnx.shape_inference.infer_shapes(model)


def one_batch(scale: float = 1.0) -> Batch:
    place = LetterboxGeometry(source_size=(8, 8), input_size=(8, 8), resized_size=(8, 8), pad_top=0, pad_left=0)
    return Batch(images=(np.random.default_rng(0).random((1, 3, 8, 8)) * scale).astype(np.float32), geometries=(place,))


def conv(x: str, w: str, y: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, w], [y], pads=[1, 1, 1, 1])


def weight(scale: float = 0.1) -> Any:
    return (np.random.default_rng(1).standard_normal((3, 3, 3, 3)) * scale).astype(np.float32)


def converted(model: Any, batch: Batch | None = None) -> Fp16Result:
    found = to_fp16(model, [batch or one_batch()])
    checked(found.model)
    return found


def type_of(model: Any, tensor: str) -> str:
    return str(helper.tensor_dtype_to_np_dtype(tensor_types(model)[tensor]))


def close(a: Any, b: Any, batch: Batch) -> float:
    pairs = zip(OnnxRunner(a, what="a")(batch.images), OnnxRunner(b, what="b")(batch.images), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in pairs)


def test_inputs_and_outputs_stay_float32() -> None:
    model = graph([conv("x", "w", "y")], {"w": weight()})
    found = converted(model)
    assert (found.fp16_nodes, found.nodes, dict(found.kept)) == (1, 1, {})
    assert [n.op_type for n in found.model.graph.node] == ["Cast", "Conv", "Cast"]
    assert type_of(found.model, "x") == type_of(found.model, "y") == "float32"
    assert close(model, found.model, one_batch()) < 5e-3


def test_what_follows_the_last_convolution_stays_in_fp32() -> None:
    nodes = [
        conv("x", "w", "a"),
        helper.make_node("Relu", ["a"], ["b"]),
        conv("b", "w", "c"),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        helper.make_node("Mul", ["d", "stride"], ["y"]),
    ]
    found = converted(graph(nodes, {"w": weight(), "shape": np.array([1, 3, 64]), "stride": np.float32(32)}))
    assert dict(found.kept) == {"box decode": 1}
    # The reshape only moves FP16 values, so the cast comes behind it.
    assert type_of(found.model, "d") == "float16"
    assert [n.op_type for n in found.model.graph.node] == ["Cast", "Conv", "Relu", "Conv", "Reshape", "Cast", "Mul"]


def test_the_expectation_over_bins_stays_in_fp32() -> None:
    """DFL: softmax over the bins of a box side, then their mean as a convolution with the weights 0, 1, 2."""
    nodes = [
        conv("x", "w", "a"),
        helper.make_node("Softmax", ["a"], ["b"], axis=1),
        helper.make_node("Conv", ["b", "bins"], ["c"]),
        helper.make_node("Mul", ["c", "stride"], ["y"]),
    ]
    bins = np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1)
    found = converted(graph(nodes, {"w": weight(), "bins": bins, "stride": np.float32(32)}))
    assert dict(found.kept) == {"box decode": 3}
    assert type_of(found.model, "b") == type_of(found.model, "c") == "float32"


def test_the_last_pointwise_convolutions_stay_in_fp32() -> None:
    nodes = [
        conv("x", "w", "a"),
        helper.make_node("Conv", ["a", "point"], ["b"]),
        helper.make_node("Conv", ["b", "point"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["y"]),
    ]
    found = converted(graph(nodes, {"w": weight(), "point": weight()[:, :, :1, :1]}))
    assert dict(found.kept) == {"last convolution": 1, "box decode": 1}
    assert type_of(found.model, "b") == "float16"
    assert type_of(found.model, "c") == "float32"


def test_nodes_that_the_caller_wants_in_fp32() -> None:
    model = graph([conv("x", "w", "a"), conv("a", "w", "b"), conv("b", "w", "y")], {"w": weight()})
    found = to_fp16(model, [one_batch()], keep=lambda node: node.output[0] == "b")
    checked(found.model)
    assert dict(found.kept) == {"asked": 1}
    assert type_of(found.model, "b") == "float32"
    assert type_of(found.model, "a") == "float16"


def test_constants_are_converted_once_and_shared_ones_kept_in_both_types() -> None:
    nodes = [
        conv("x", "w", "a"),
        helper.make_node("Mul", ["a", "half"], ["b"]),
        conv("b", "w", "c"),
        helper.make_node("Mul", ["c", "half"], ["y"]),
    ]
    found = converted(graph(nodes, {"w": weight(), "half": np.float32(0.5)}))
    types = [(i.name, i.data_type) for i in found.model.graph.initializer]
    assert sorted(types) == [
        ("half", TensorProto.FLOAT),
        ("half_fp16", TensorProto.FLOAT16),
        ("w_fp16", TensorProto.FLOAT16),
    ]


def test_constant_nodes_and_resize_scales() -> None:
    value = numpy_helper.from_array(np.array(0.25, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["quarter"], value=value),
        conv("x", "w", "a"),
        helper.make_node("Mul", ["a", "quarter"], ["b"]),
        helper.make_node("Resize", ["b", "", "scales"], ["c"], mode="nearest"),
        conv("c", "w", "y"),
    ]
    found = converted(graph(nodes, {"w": weight(), "scales": np.array([1, 1, 2, 2], np.float32)}))
    assert found.fp16_nodes == 4
    assert type_of(found.model, "c") == "float16"
    assert type_of(found.model, "scales") == "float32"


def test_an_output_in_the_middle_keeps_its_name_and_type() -> None:
    nodes = [conv("x", "w", "middle"), helper.make_node("Relu", ["middle"], ["a"]), conv("a", "w", "y")]
    model = graph(nodes, {"w": weight()}, outputs=("y", "middle"))
    found = converted(model)
    assert [v.name for v in found.model.graph.output] == ["y", "middle"]
    assert type_of(found.model, "middle") == "float32"
    assert close(model, found.model, one_batch()) < 5e-3


def test_reading_a_shape_needs_no_cast() -> None:
    nodes = [
        conv("x", "w", "a"),
        helper.make_node("Shape", ["a"], ["shape"]),
        conv("a", "w", "b"),
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("Mul", ["c", "stride"], ["y"]),
    ]
    found = converted(graph(nodes, {"w": weight(), "stride": np.float32(8)}))
    assert [n.op_type for n in found.model.graph.node].count("Cast") == 2


def test_values_near_the_end_of_fp16_stay_in_fp32() -> None:
    nodes = [conv("x", "w", "a"), conv("a", "big", "b"), conv("b", "small", "c"), conv("c", "w", "y")]
    constants = {"w": weight(), "big": weight(1e4), "small": weight(1e-4)}
    model = graph(nodes, constants)
    found = converted(model, one_batch(10))
    assert dict(found.kept) == {"range": 2}, "the node that gives b, and the one that reads it"
    assert type_of(found.model, "b") == "float32"
    assert type_of(found.model, "c_fp16" if "c_fp16" in tensor_types(found.model) else "c") == "float16"


def test_vanishing_values_stay_in_fp32() -> None:
    nodes = [conv("x", "tiny", "a"), conv("a", "huge", "b"), conv("b", "w", "y")]
    model = graph(nodes, {"tiny": weight(1e-4), "huge": weight(1e3), "w": weight()})
    assert dict(converted(model, one_batch(0.05)).kept) == {"range": 2}


def test_weights_that_fp16_cannot_hold() -> None:
    nodes = [conv("x", "w", "a"), conv("a", "lost", "b"), conv("b", "w", "y")]
    found = converted(graph(nodes, {"w": weight(), "lost": weight(1e-9)}))
    assert found.kept["weights"] == 1
    with np.errstate(over="ignore"):
        infinite = np.full((3, 3, 3, 3), np.inf, np.float32)
    nodes = [conv("x", "w", "a"), helper.make_node("Max", ["a", "low"], ["b"]), conv("b", "w", "y")]
    found = converted(graph(nodes, {"w": weight(), "low": -infinite[0, 0, 0, 0]}))
    assert found.kept["weights"] == 1


def test_regions_that_compute_nothing_are_left_alone() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("ReduceSum", ["a"], ["y"], keepdims=1)]
    found = converted(graph(nodes, {}))
    assert found.fp16_nodes == 0
    assert "Cast" not in [n.op_type for n in found.model.graph.node]


def test_subgraphs_are_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "b", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    nodes = [helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)]
    with pytest.raises(ExportError, match="If nodes"):
        normalise(graph(nodes, {"flag": np.array([1], bool)}))


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    nodes = [conv("x", "w", "a"), helper.make_node("Relu", ["a"], ["w_fp16"]), conv("w_fp16", "w", "y")]
    model = normalise(graph(nodes, {"w": weight()}))
    checked(rewrite(model, {"a", "w_fp16", "y"}))


def test_ranges_are_the_largest_absolute_values() -> None:
    model = graph([conv("x", "w", "a"), helper.make_node("Relu", ["a"], ["y"])], {"w": weight()})
    batch_list = [one_batch(), one_batch(3)]
    found = measure_ranges(model, ["x", "a", "y"], batch_list)
    values = np.concatenate([OnnxRunner(model, what="m")(b.images)[0] for b in batch_list])
    assert found["x"] == pytest.approx(max(b.images.max() for b in batch_list))
    assert found["y"] == pytest.approx(values.max())
    assert found["a"] >= found["y"]


def test_a_model_that_is_not_finite_is_refused() -> None:
    model = graph([conv("x", "w", "y")], {"w": np.full((3, 3, 3, 3), np.float32(3e38))})
    with pytest.raises(ExportError, match="FP32 already"):
        measure_ranges(model, ["y"], [one_batch(1e3)])


@pytest.mark.parametrize("config", HEADS)
def test_every_head_is_well_typed_and_keeps_its_outputs(
    weights: Weights, pictures: Path, tmp_path: Path, config: str
) -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    origin = TorchOrigin(weights(config), ExportOptions(imgsz=(128, 128)))
    model = simplify(origin.to_onnx())
    spec = read_onnx_spec(model)
    found = to_fp16(model, batches(find_pictures(pictures), spec))
    checked(found.model)
    assert found.fp16_nodes > 0.7 * found.nodes
    assert found.kept["box decode"] > 0
    path = tmp_path / "fp16.onnx"
    onnx.save(found.model, path)
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    batch = next(batches(find_pictures(pictures), spec))
    fp32, fp16 = (OnnxRunner(m, what="m")(batch.images)[0] for m in (model, found.model))
    assert fp16.dtype == np.float32
    scores = np.abs(fp32[:, 4:] - fp16[:, 4:]) if spec.head == "anchor_free" else np.abs(fp32[..., 4] - fp16[..., 4])
    assert scores.max() < 0.1  # of weights that were never trained, so small errors grow
    if spec.head == "anchor_free":
        assert np.abs(fp32[:, :4] - fp16[:, :4]).max() < 2.0


def test_pixel_coordinates_are_finer_than_fp16(weights: Weights, tmp_path: Path) -> None:
    """Above 512, FP16 has a step of 0.5 px. The box decode in FP32 gives values between."""
    origin = TorchOrigin(weights("yolov8n"), ExportOptions(imgsz=(64, 1024)))
    model = simplify(origin.to_onnx())
    spec = read_onnx_spec(model)
    all_batches = list(batches(find_pictures(write_pictures(tmp_path / "wide", 1)), spec))
    found = to_fp16(model, all_batches)
    x = OnnxRunner(found.model, what="m")(all_batches[0].images)[0][0, 0]
    far = x[x > 512]
    assert len(far)
    assert (far * 2 != np.round(far * 2)).mean() > 0.5
