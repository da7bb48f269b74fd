"""Cutting a head off: which ones, what is left of the graph, and that its boxes are the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support.tiny_heads import TinyHead, tiny_head
from tests.support.tiny_models import tiny_yolo
from tests.support.yolov8n import export_yolov8n
from yolotrt import assets
from yolotrt.decode.raw import whole_head
from yolotrt.export.head_surgery import HeadError, RawGraph, cut_head
from yolotrt.export.precision import to_fp16
from yolotrt.export.quantize import quantize
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.export.samples import batches, find_pictures
from yolotrt.export.simplify import simplify
from yolotrt.model_spec import ModelSpec
from yolotrt.model_spec_infer import load_onnx, read_onnx_spec

HEADS = [
    TinyHead(),
    TinyHead(joined=True, batch=None),
    TinyHead(reg_max=1, nc=1),
    TinyHead(reg_max=16, strides=(8, 16, 32)),
    TinyHead(strides=(8, 16, 32, 64), imgsz=(128, 64), batch=3),
    TinyHead(dynamic_size=True),
    TinyHead(dynamic_size=True, batch=None, joined=True),
    # As many classes as numbers per box: only the arithmetic tells which is which.
    TinyHead(nc=16, scores_first=True),
    TinyHead(nc=16, scores_first=False),
    TinyHead(nc=16, scores_first=True, joined=True),
    TinyHead(nc=4, reg_max=1, joined=True),
]


def cut(model: onnx.ModelProto) -> RawGraph:
    before = model.SerializeToString()
    found = cut_head(model, read_onnx_spec(model))
    assert model.SerializeToString() == before
    onnx.checker.check_model(found.model, full_check=True)
    return found


def outputs(model: onnx.ModelProto, images: Any) -> dict[str, Any]:
    runner = OnnxRunner(model, what="the graph")
    return dict(zip(runner.output_names, runner(images), strict=True))


def assert_same(model: onnx.ModelProto, found: RawGraph, images: Any, atol: float = 2e-3) -> None:
    assert found.spec.raw is not None
    whole = outputs(model, images)["output0"]
    np.testing.assert_allclose(whole_head(outputs(found.model, images), found.spec.raw), whole, atol=atol)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_what_is_left(head: TinyHead) -> None:
    model = tiny_head(head)
    found = cut(model)
    assert found.spec.raw == head.raw
    kinds = [node.op_type for node in found.model.graph.node]
    assert sorted(set(kinds)) == ["AveragePool", "Conv"]
    assert len(found.model.graph.initializer) == kinds.count("Conv")
    declared = [tensor.name for tensor in found.spec.outputs]
    assert declared == [v.name for v in found.model.graph.output]
    assert declared == [name for level in head.raw.levels for name in (level.boxes, level.scores)]
    sides = [(64, 96)] if not head.dynamic_size else [(64, 96), (192, 64)]
    for height, width in sides if head.imgsz == (64, 96) else [head.imgsz]:
        images = np.random.default_rng(0).random((head.batch or 2, 3, height, width), np.float32)
        assert_same(model, found, images)


def test_the_description_goes_through_the_file(tmp_path: Path) -> None:
    found = cut(tiny_head(TinyHead(batch=None)))
    assert ModelSpec.from_dict(found.spec.to_dict()) == found.spec
    assert (found.spec.head, found.spec.names) == ("raw", ("class0", "class1", "class2"))
    assert found.spec.outputs[0].shape == (None, 16, 8, 12)


def test_the_demo_model_in_every_precision() -> None:
    model = load_onnx(assets.folder() / "yolov8n_demo.onnx")
    spec = read_onnx_spec(model)
    images = next(batches(find_pictures(None)[:1], spec)).images
    half = to_fp16(model, batches(find_pictures(None)[:1], spec)).model
    for version in (model, half):
        found = cut(version)
        assert found.spec.raw is not None
        assert [level.stride for level in found.spec.raw.levels] == [8, 16, 32]
        assert found.spec.raw.reg_max == 16
        assert_same(version, found, images, atol=0.02)
    # The last convolutions are in FP32 in every precision, and nothing follows them.
    assert {tensor.dtype for tensor in found.spec.outputs} == {"float32"}
    assert [n.op_type for n in found.model.graph.node if set(n.output) & {"boxes_8", "scores_32"}] == ["Conv", "Conv"]


def test_a_quantized_graph() -> None:
    """The last convolutions are never quantized, so what is cut off is the same."""
    model = tiny_head(TinyHead(joined=True))
    spec = read_onnx_spec(model)
    low = quantize(model, lambda: batches(find_pictures(None), spec), kind="int8")
    assert low.share > 0
    found = cut_head(low.model, spec)
    onnx.checker.check_model(found.model, full_check=True)
    kinds = [node.op_type for node in found.model.graph.node]
    assert kinds.count("QuantizeLinear") == [n.op_type for n in low.model.graph.node].count("QuantizeLinear") > 0
    assert not {"Softmax", "Sigmoid", "Reshape", "Split"} & set(kinds)
    images = next(batches(find_pictures(None), spec)).images
    assert_same(low.model, found, images)


def with_node(model: onnx.ModelProto, kind: str, name: str) -> onnx.ModelProto:
    """The model with an operator between a tensor and all that read it."""
    for node in model.graph.node:
        for i, read in enumerate(node.input):
            if read == name:
                node.input[i] = "changed"
    place = next(i for i, node in enumerate(model.graph.node) if name in node.output)
    model.graph.node.insert(place + 1, helper.make_node(kind, [name], ["changed"]))
    return model


def scaled(model: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    constant = next(i for i in model.graph.initializer if i.name == name)
    array = numpy_helper.to_array(constant)
    constant.CopyFrom(numpy_helper.from_array((array * factor).astype(array.dtype), name))
    return model


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (scaled(tiny_head(TinyHead()), "strides", 1.01), "its arithmetic is another one: boxes differ by"),
        (scaled(tiny_head(TinyHead(reg_max=1)), "middles", 1.01), "its arithmetic is another one"),
        (with_node(tiny_head(TinyHead()), "Abs", "all_classes"), "its arithmetic is another one"),
        (with_node(tiny_head(TinyHead()), "Neg", "all_boxes"), "its arithmetic is another one"),
        (with_node(tiny_head(TinyHead()), "Softplus", "scores"), "its arithmetic is another one"),
        (with_node(tiny_head(TinyHead(nc=16)), "Abs", "all_classes"), "its arithmetic is another one"),
        (tiny_head(TinyHead(half=True)), "its arithmetic is another one"),
    ],
    ids=["strides", "middles", "classes", "sides", "scores", "ambiguous", "FP16"],
)
def test_arithmetic_that_is_not_a_yolos(model: onnx.ModelProto, why: str) -> None:
    with pytest.raises(HeadError, match=why):
        cut(model)


def test_other_graphs_are_named(tmp_path: Path) -> None:
    tiny = load_onnx(tiny_yolo(tmp_path / "m.onnx"))
    with pytest.raises(HeadError, match=r"a MatMul gives its scores or boxes|by other ways than its last convolutions"):
        cut(tiny)
    spec = read_onnx_spec(tiny)
    for head, why in (("end_to_end", "chosen in the graph"), ("objectness", "objectness"), ("detr", "chosen")):
        with pytest.raises(HeadError, match=f"no raw form: .*{why}"):
            cut_head(tiny, dataclasses.replace(spec, head=head))  # type: ignore[arg-type]
    found = cut(tiny_head(TinyHead()))
    with pytest.raises(HeadError, match="it is raw already"):
        cut_head(found.model, found.spec)
    twice = tiny_head(TinyHead())
    twice.graph.output.append(helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, None))
    with pytest.raises(HeadError, match="it has 2 outputs"):
        cut(twice)
    taken = tiny_head(TinyHead())
    for node in taken.graph.node:
        node.output[:] = ["boxes_8" if name == "cell_16" else name for name in node.output]
        node.input[:] = ["boxes_8" if name == "cell_16" else name for name in node.input]
    with pytest.raises(HeadError, match="a tensor of its graph is called boxes_8"):
        cut(taken)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n"])
def test_ultralytics_models(config: str, tmp_path: Path) -> None:
    """As its own exporter writes them, simplified; those that end with boxes of their own are named."""
    pytest.importorskip("ultralytics")
    model = simplify(load_onnx(export_yolov8n(tmp_path, imgsz=64, config=config)))
    if read_onnx_spec(model).head == "end_to_end":
        with pytest.raises(HeadError, match="chosen in the graph"):
            cut(model)
        return
    images = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    found = cut(model)
    assert found.spec.raw is not None
    assert found.spec.raw.reg_max == (1 if config == "yolo26n" else 16)
    assert_same(model, found, images)
