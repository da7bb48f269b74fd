"""What a model is, read from its own entry, from Ultralytics' metadata, and from shapes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.support.specs import make_spec
from tests.support.tiny_models import tiny_yolo
from tests.support.tiny_quantized import Kind, tiny_quantized
from yolotrt.errors import ModelError
from yolotrt.model_spec import BatchRange, Head, LetterboxRule, ModelSpec, RawHead, RawLevel, TensorSpec
from yolotrt.model_spec_infer import METADATA_KEY, infer_spec, load_onnx, read_onnx_spec

ULTRALYTICS = {"task": "detect", "stride": "32", "imgsz": "[640, 640]", "batch": "1", "end2end": "False"}
EIGHTY = str({i: f"class {i}" for i in range(80)})


def infer(
    output: tuple[int | None, ...],
    metadata: dict[str, str] | None = None,
    shape: tuple[int | None, ...] = (1, 3, 640, 640),
) -> ModelSpec:
    return infer_spec(
        inputs=[TensorSpec(name="images", dtype="float32", shape=shape)],
        outputs=[TensorSpec(name="output0", dtype="float32", shape=output)],
        metadata=metadata or {},
        where="m.onnx",
    )


@pytest.mark.parametrize(
    ("output", "metadata", "head", "nc"),
    [
        ((1, 84, 8400), {**ULTRALYTICS, "names": EIGHTY}, "anchor_free", 80),
        ((1, 84, 8400), {}, "anchor_free", 80),
        ((1, 84, None), {"names": EIGHTY}, "anchor_free", 80),
        ((1, 5, 8400), {"names": "{0: 'face'}"}, "anchor_free", 1),
        ((1, 25200, 85), {"names": EIGHTY, "stride": "32"}, "objectness", 80),
        ((1, 25200, 85), {}, "objectness", 80),
        ((1, 300, 6), {**ULTRALYTICS, "end2end": "True", "names": EIGHTY}, "end_to_end", 80),
        ((1, 300, 6), {"names": EIGHTY}, "end_to_end", 80),
        ((None, None, 6), {"head": "RTDETRDecoder", "names": EIGHTY}, "detr", 80),
        ((1, 6, 8400), {"names": "['cat', 'dog']"}, "anchor_free", 2),
    ],
)
def test_heads(output: tuple[int | None, ...], metadata: dict[str, str], head: Head, nc: int) -> None:
    spec = infer(output, metadata)
    assert spec.head == head
    assert len(spec.names) == nc
    assert spec.letterbox.resize == ("stretch" if head == "detr" else "fit")


def test_ultralytics_metadata() -> None:
    spec = infer((1, 6, 3024), {**ULTRALYTICS, "stride": "16", "names": "['cat', 'dog']"})
    assert spec.names == ("cat", "dog")
    assert spec.stride == 16
    assert spec.imgsz == (640, 640)
    assert infer((1, 7, 9), {"names": "{0: 'a', 2: 'c'}"}).names == ("a", "1", "c")


def test_the_stride_of_each_level() -> None:
    assert infer((1, 84, 8400), {"stride": "[8, 16, 32]"}).stride == 32


def test_dynamic_axes() -> None:
    spec = infer((None, 84, None), {"names": EIGHTY, "imgsz": "[384, 640]"}, shape=(None, 3, None, None))
    assert spec.imgsz == (384, 640)
    assert spec.is_dynamic_size
    assert spec.letterbox.resize == "minimal"
    assert spec.batch.min == 1
    assert spec.batch.max > 1
    assert infer((8, 84, 8400), shape=(8, 3, 640, 640)).batch == BatchRange(min=8, opt=8, max=8)


@pytest.mark.parametrize(
    ("output", "metadata", "shape", "message"),
    [
        ((1, 1000), {}, (1, 3, 224, 224), "not a YOLO detection model"),
        ((1, 84, 8400), {}, (1, 80), "one picture input"),
        ((1, 84, 8400), {}, (1, 1, 640, 640), "one picture input"),
        ((1, 300, 7), {"end2end": "True"}, (1, 3, 640, 640), "not a YOLO"),
        ((1, 50, 50), {"names": EIGHTY}, (1, 3, 640, 640), "not a YOLO"),
        ((1, 56, 8400), {"task": "pose"}, (1, 3, 640, 640), "got task pose, expected detect"),
        ((1, 84, 8400), {"names": "{0: "}, (1, 3, 640, 640), "unreadable metadata names"),
        ((1, 84, 8400), {"names": "5"}, (1, 3, 640, 640), "unreadable metadata names"),
        ((1, 84, 8400), {"names": "{'a': 'b'}"}, (1, 3, 640, 640), "unreadable metadata names"),
        ((1, 84, 8400), {"stride": "None"}, (1, 3, 640, 640), "unreadable metadata stride"),
        ((1, 84, 8400), {"stride": "0"}, (1, 3, 640, 640), "unreadable metadata stride"),
        ((1, 84, 8400), {"imgsz": "640.0"}, (1, 3, 640, 640), "unreadable metadata imgsz"),
    ],
)
def test_other_models_are_refused(
    output: tuple[int | None, ...], metadata: dict[str, str], shape: tuple[int | None, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as e:
        infer(output, metadata, shape)
    assert "m.onnx" in str(e.value)
    assert "\n" not in str(e.value)


@given(
    st.sampled_from(["anchor_free", "objectness", "end_to_end", "detr"]),
    st.lists(st.text(), max_size=5),
    st.builds(LetterboxRule, resize=st.sampled_from(["fit", "minimal", "stretch"]), center=st.booleans()),
)
def test_own_entry_round_trips(head: Head, names: list[str], rule: LetterboxRule) -> None:
    spec = dataclasses.replace(make_spec(head=head, letterbox=rule), names=tuple(names))
    text = json.dumps(spec.to_dict())
    assert ModelSpec.from_dict(json.loads(text)) == spec
    assert infer_spec(inputs=[], outputs=[], metadata={METADATA_KEY: text}, where="x") == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec_version": 99}, "another version of yolotrt"),
        ({"head": "mystery"}, "not a valid"),
        ({"imgsz": [640]}, "not a valid"),
        ({"batch": {"min": 5, "opt": 1, "max": 1}}, "not a valid"),
        ({"letterbox": {"colour": "red"}}, "not a valid"),
        ({"names": None}, "not a valid"),
    ],
)
def test_damaged_own_entry(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelSpec.from_dict({**make_spec().to_dict(), **change})
    with pytest.raises(ModelError, match="damaged"):
        infer_spec(inputs=[], outputs=[], metadata={METADATA_KEY: "{"}, where="x")


def test_onnx_file(tmp_path: Path) -> None:
    spec = read_onnx_spec(tiny_yolo(tmp_path / "m.onnx", imgsz=(64, 96)))
    assert spec.head == "anchor_free"
    assert spec.names == ("red", "green", "blue")
    assert spec.imgsz == (64, 96)
    assert spec.input == TensorSpec(name="images", dtype="float32", shape=(1, 3, 64, 96))
    assert read_onnx_spec(tiny_yolo(tmp_path / "d.onnx", batch=None, dynamic_size=True)).is_dynamic_size


def test_sides_that_only_look_open(tmp_path: Path) -> None:
    """Ultralytics' `dynamic=True` gives the number of channels a name, as if it could change."""
    path = tiny_yolo(tmp_path / "m.onnx", batch=None, dynamic_size=True)
    wanted = read_onnx_spec(path)
    model = onnx.load(path)
    for i, dim in enumerate(model.graph.output[0].type.tensor_type.shape.dim):
        dim.dim_param = f"side_{i}"
    found = read_onnx_spec(model)
    assert found == wanted
    assert found.outputs[0].shape == (None, 7, None)


def test_onnx_of_something_else(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "other",
        [value("x", TensorProto.FLOAT, [1, 10])],
        [value("y", TensorProto.FLOAT, [1, 10])],
    )
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph), path)
    with pytest.raises(ModelError, match=r"other\.onnx: not a YOLO detection model, got inputs x \(1, 10\)"):
        read_onnx_spec(path)


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x07" * 50])
def test_files_that_are_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx: not "):
        load_onnx(path)
    with pytest.raises(ModelError, match="no such file"):
        load_onnx(tmp_path / "absent.onnx")


def test_weights_in_another_file_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.load(tiny_yolo(tmp_path / "whole.onnx"))
    onnx.save(model, path, save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    assert load_onnx(path).graph.node
    (tmp_path / "m.onnx.data").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"m\.onnx: its weights are in .*m\.onnx\.data, which is missing"):
        load_onnx(path)


def test_batch_range_order() -> None:
    with pytest.raises(ValueError, match="1 <= MIN <= OPT <= MAX"):
        BatchRange(min=2, opt=1, max=4)


@pytest.mark.parametrize("constant_nodes", [False, True], ids=["initializers", "constant nodes"])
@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_what_another_tool_quantized_says_so_whatever_its_metadata_say(
    tmp_path: Path, kind: Kind, constant_nodes: bool
) -> None:
    full = read_onnx_spec(tiny_yolo(tmp_path / "full.onnx"))
    assert full.precision == "fp32"
    model = onnx.load(tiny_quantized(tmp_path / "quantized.onnx", kind))
    if constant_nodes:  # as PyTorch's exporter writes them
        for tensor in reversed(model.graph.initializer):
            model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
        del model.graph.initializer[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(full.to_dict())})
    assert read_onnx_spec(model) == dataclasses.replace(full, precision=kind)


RAW = RawHead(reg_max=4, levels=(RawLevel(stride=8, boxes="b8", scores="s8"),))


def raw_spec(**changes: Any) -> ModelSpec:
    outputs = tuple(TensorSpec(name=n, dtype="float32", shape=(1, c, 8, 8)) for n, c in (("b8", 16), ("s8", 3)))
    return dataclasses.replace(make_spec(), **{"head": "raw", "raw": RAW, "outputs": outputs, **changes})


def test_a_raw_head_goes_through_json() -> None:
    spec = raw_spec()
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert "raw" not in make_spec().to_dict()
    open_sizes = tuple(dataclasses.replace(t, shape=(None, t.shape[1], None, None)) for t in spec.outputs)
    assert raw_spec(outputs=open_sizes).outputs == open_sizes


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("raw", None, "head raw without levels"),
        ("head", "anchor_free", "head anchor_free with levels"),
        ("reg_max", 0, "reg_max: got 0"),
        ("reg_max", 8, "expected .N, 32, 8, 8"),
        ("level stride", 16, "output b8: got shape"),
        ("level stride", 0, "strides"),
        ("level scores", "s9", "levels of b8, s9, outputs b8, s8"),
        ("levels", [], "strides"),
        ("levels", None, "TypeError"),
    ],
)
def test_a_raw_head_that_is_none(key: str, value: Any, why: str) -> None:
    data = json.loads(json.dumps(raw_spec().to_dict()))
    if key in data:
        data[key] = value
    elif key in data["raw"]:
        data["raw"][key] = value
    else:
        data["raw"]["levels"][0][key.removeprefix("level ")] = value
    with pytest.raises(ModelError, match=f"not a valid yolotrt model description .*{why}"):
        ModelSpec.from_dict(data)


def test_outputs_of_other_sizes() -> None:
    outputs = raw_spec().outputs
    for shape in ((1, 16, 8), (1, 16, 8, 4), (1, 15, 8, 8), ()):
        with pytest.raises(ValueError, match="output b8"):
            raw_spec(outputs=(dataclasses.replace(outputs[0], shape=shape), outputs[1]))
    with pytest.raises(ValueError, match="s8"):
        raw_spec(outputs=(outputs[0], dataclasses.replace(outputs[1], shape=(1, None, 8, 8))))
