"""What a runtime must know of a model, whatever file it comes from.

Read from the `yolotrt` entry of an ONNX file's `metadata_props` or of a manifest, from the metadata that Ultralytics
writes, or inferred from the shapes alone (`yolotrt.model_spec_infer`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from yolotrt.errors import ModelError

Task = Literal["detect", "segment", "pose", "obb", "classify"]
Head = Literal["anchor_free", "end_to_end", "detr", "objectness"]
Resize = Literal["fit", "minimal", "stretch"]
Precision = Literal["fp32", "fp16", "fp8", "int8"]

SPEC_VERSION = 1


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
class ModelSpec:
    """A model as its file shows it.

    Attributes:
        task: what the model answers.
        head: how its output is laid out:
            `anchor_free` `[N, 4 + nc, A]`: cx, cy, w, h in input pixels and class scores, before NMS (YOLOv8, 11, 12);
            `objectness` `[N, A, 5 + nc]`: cx, cy, w, h, objectness, class scores, before NMS (YOLOv5, YOLOv7);
            `end_to_end` `[N, K, 6]`: x1, y1, x2, y2 in input pixels, confidence, class; no NMS (YOLOv10, YOLO26);
            `detr` `[N, K, 6]`: cx, cy, w, h in 0..1, confidence, class; no NMS (RT-DETR as Ultralytics 8.4 exports it).
        names: class names; the index is the class id.
        stride: both input sides are multiples of it.
        imgsz: input (height, width) in pixels.
        batch: batch sizes it takes.
        letterbox: the preprocessing it was trained with.
        input: the picture tensor, `[N, 3, H, W]`, RGB in 0..1.
        outputs: in the file's order; the first holds the boxes.
        precision: of the arithmetic in the graph.
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

    @property
    def is_dynamic_size(self) -> bool:
        """Whether height and width may differ from call to call."""
        return None in self.input.shape[2:]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, the inverse of `from_dict`."""
        return {"spec_version": SPEC_VERSION, **dataclasses.asdict(self)}

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
            )
        except (KeyError, TypeError, ValueError, IndexError) as e:
            raise ModelError(f"{where}: not a valid yolotrt model description ({e!r})") from e


def _tensor(data: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(name=str(data["name"]), dtype=str(data["dtype"]), shape=tuple(data["shape"]))


def _one_of(value: Any, kind: Any) -> Any:
    if value not in get_args(kind):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(kind))}")
    return value
