"""What a runtime must know of a model, whatever file it comes from.

Read from the `yolotrt` entry of an ONNX file's `metadata_props` or of a manifest, from the metadata that Ultralytics
writes, or inferred from the shapes alone (`yolotrt.model_spec_infer`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from yolotrt.errors import ModelError

Task = Literal["detect", "segment", "pose", "obb", "classify"]
Head = Literal["anchor_free", "end_to_end", "detr", "objectness", "raw"]
Resize = Literal["fit", "minimal", "stretch"]
Precision = Literal["fp32", "fp16", "fp8", "int8"]

SPEC_VERSION = 1
MAX_LEVELS, MAX_REG_MAX = 6, 64


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output: its name, NumPy dtype name and shape. A dynamic dimension is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class BatchRange:
    """Batch sizes a model takes: a plan is tuned for `opt`. All three are equal for a static model."""

    min: int = 1
    opt: int = 1
    max: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(f"batch range: got {self.min},{self.opt},{self.max}, expected 1 <= MIN <= OPT <= MAX")

    @property
    def is_static(self) -> bool:
        return self.min == self.max


@dataclass(frozen=True, kw_only=True)
class LetterboxRule:
    """How a picture is brought to the input size. The defaults are Ultralytics' `LetterBox`.

    Attributes:
        resize: `fit` keeps the aspect ratio and pads to the full input; `minimal` pads only to the next multiple of
            the stride (models with dynamic height and width); `stretch` ignores the aspect ratio (DETR).
        pad_value: grey level 0..255 of the padding.
        center: padding on both sides (True) or only right and below.
        scale_up: enlarge pictures smaller than the input.
    """

    resize: Resize = "fit"
    pad_value: int = 114
    center: bool = True
    scale_up: bool = True


@dataclass(frozen=True, kw_only=True)
class RawLevel:
    """One level of a `raw` head.

    Attributes:
        stride: input pixels per cell; a level has H / stride rows of W / stride cells.
        boxes: name of the output `[N, 4 * reg_max, h, w]`: left, top, right and bottom in turn, `reg_max` numbers each.
        scores: name of the output `[N, nc, h, w]`: class scores before the sigmoid.
    """

    stride: int
    boxes: str
    scores: str


@dataclass(frozen=True, kw_only=True)
class RawHead:
    """How boxes follow from the outputs of a `raw` head.

    Attributes:
        reg_max: numbers per side of a box. Its distance from the middle of the cell, in strides, is the mean of
            0, 1, ..., weighted by the softmax of these numbers; a single one is the distance itself.
        levels: by rising stride; the order of the boxes.
    """

    reg_max: int
    levels: tuple[RawLevel, ...]

    def __post_init__(self) -> None:
        strides = [level.stride for level in self.levels]
        if not 1 <= self.reg_max <= MAX_REG_MAX:
            raise ValueError(f"reg_max: got {self.reg_max}, expected 1 to {MAX_REG_MAX}")
        if not 1 <= len(strides) <= MAX_LEVELS or strides != sorted(set(strides)) or strides[0] < 1:
            raise ValueError(f"strides: got {strides}, expected 1 to {MAX_LEVELS} that rise")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model as its file shows it.

    Attributes:
        task: what the model answers.
        head: how its output is laid out:
            `anchor_free` `[N, 4 + nc, A]`: cx, cy, w, h in input pixels and class scores, before NMS (YOLOv8, 11, 12);
            `objectness` `[N, A, 5 + nc]`: cx, cy, w, h, objectness, class scores, before NMS (YOLOv5, YOLOv7);
            `end_to_end` `[N, K, 6]`: x1, y1, x2, y2 in input pixels, confidence, class; no NMS (YOLOv10, YOLO26);
            `detr` `[N, K, 6]`: cx, cy, w, h in 0..1, confidence, class; no NMS (RT-DETR as Ultralytics 8.4 exports it);
            `raw`: that of `anchor_free` before its arithmetic, two outputs per level; see `raw`.
        names: class names; the index is the class id.
        stride: both input sides are multiples of it.
        imgsz: input (height, width) in pixels.
        batch: batch sizes it takes.
        letterbox: the preprocessing it was trained with.
        input: the picture tensor, `[N, 3, H, W]`, RGB in 0..1.
        outputs: in the file's order; the first holds the boxes.
        precision: of the arithmetic in the graph.
        raw: which outputs a `raw` head has; None for all others.
    """

    task: Task = "detect"
    head: Head
    names: tuple[str, ...]
    stride: int = 32
    imgsz: tuple[int, int]
    batch: BatchRange = field(default_factory=BatchRange)
    letterbox: LetterboxRule = field(default_factory=LetterboxRule)
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    precision: Precision = "fp32"
    raw: RawHead | None = None

    def __post_init__(self) -> None:
        if (self.head == "raw") != (self.raw is not None):
            raise ValueError(f"head {self.head} {'without' if self.raw is None else 'with'} levels")
        if self.raw is not None:
            _check_raw(self.raw, self.outputs, self.imgsz)

    @property
    def is_dynamic_size(self) -> bool:
        """Whether height and width may differ from call to call."""
        return None in self.input.shape[2:]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, the inverse of `from_dict`."""
        found = {"spec_version": SPEC_VERSION, **dataclasses.asdict(self)}
        if self.raw is None:
            del found["raw"]  # as versions before it wrote and read it
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "model description") -> ModelSpec:
        """Read back what `to_dict` gave. Raises ModelError for anything else, naming `where`."""
        try:
            if data["spec_version"] != SPEC_VERSION:
                raise ModelError(
                    f"{where}: written by another version of yolotrt",
                    got=f"spec_version {data['spec_version']}",
                    expected=SPEC_VERSION,
                    remedy="Export the model again with this version.",
                )
            return cls(
                task=_one_of(data["task"], Task),
                head=_one_of(data["head"], Head),
                names=tuple(str(n) for n in data["names"]),
                stride=int(data["stride"]),
                imgsz=(int(data["imgsz"][0]), int(data["imgsz"][1])),
                batch=BatchRange(**data["batch"]),
                letterbox=LetterboxRule(**data["letterbox"]),
                input=_tensor(data["input"]),
                outputs=tuple(_tensor(t) for t in data["outputs"]),
                precision=_one_of(data["precision"], Precision),
                raw=_raw(data["raw"]) if data.get("raw") else None,
            )
        except (KeyError, TypeError, ValueError, IndexError) as e:
            raise ModelError(f"{where}: not a valid yolotrt model description ({e!r})") from e


def _tensor(data: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(name=str(data["name"]), dtype=str(data["dtype"]), shape=tuple(data["shape"]))


def _raw(data: Mapping[str, Any]) -> RawHead:
    levels = (RawLevel(stride=int(v["stride"]), boxes=str(v["boxes"]), scores=str(v["scores"])) for v in data["levels"])
    return RawHead(reg_max=int(data["reg_max"]), levels=tuple(levels))


def _check_raw(raw: RawHead, outputs: Sequence[TensorSpec], imgsz: tuple[int, int]) -> None:
    """Raise ValueError where the outputs are not those that the levels name, or not of their sizes."""
    shapes = {tensor.name: tensor.shape for tensor in outputs}
    named = [name for level in raw.levels for name in (level.boxes, level.scores)]
    if sorted(named) != sorted(shapes):
        raise ValueError(f"levels of {', '.join(named)}, outputs {', '.join(shapes)}")
    classes = (*shapes[raw.levels[0].scores], None, None)[1:2]
    for level in raw.levels:
        cells = tuple(side // level.stride for side in imgsz)
        for name, channels in ((level.boxes, (4 * raw.reg_max,)), (level.scores, classes)):
            shape = shapes[name]
            if len(shape) != 4:
                raise ValueError(f"output {name}: got shape {shape}, expected four dimensions")
            sides = tuple(cell if side is not None else None for side, cell in zip(shape[2:], cells, strict=True))
            if shape[1:] != (*channels, *sides) or None in channels:
                expected = ", ".join(map(str, (*channels, *sides)))
                raise ValueError(f"output {name}: got shape {shape}, expected (N, {expected})")


def _one_of(value: Any, kind: Any) -> Any:
    if value not in get_args(kind):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(kind))}")
    return value
