"""Options as frozen, keyword-only dataclasses. YAML files and command-line flags map onto them one to one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from yolotrt.errors import ConfigError, UsageError
from yolotrt.model_spec import BatchRange

Target = Literal["auto", "onnx", "tensorrt", "tensorrt-rtx", "openvino"]
PrecisionChoice = Literal["fp32", "fp16", "fp8", "int8", "auto"]
HeadChoice = Literal["whole", "raw"]
T = TypeVar("T")

MAX_SIDE = 16384  # pixels of an input; what is beyond it is a slip of the finger, and would fill any memory


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """Which boxes are kept. The defaults are Ultralytics'.

    Attributes:
        conf: boxes with a confidence of at most this are dropped, 0..1.
        iou: of two boxes of one class that overlap by more than this, the weaker one is dropped, 0..1.
        max_det: at most this many boxes per picture.
        classes: class ids to keep; None keeps all.
        agnostic: let boxes suppress boxes of other classes too.
        multi_label: one box per class whose score is above `conf` instead of one for the best class alone; what
            measuring needs (`yolotrt val`). Heads without NMS name one class per box and take no notice.
        clip: cut boxes off at the edge of the picture.
    """

    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    classes: tuple[int, ...] | None = None
    agnostic: bool = False
    multi_label: bool = False
    clip: bool = True

    def __post_init__(self) -> None:
        for name in ("conf", "iou"):
            value = getattr(self, name)
            if not _is_number(value) or not 0.0 <= value <= 1.0:
                raise UsageError(f"option {name} is out of range", got=repr(value), expected="a number from 0 to 1")
        if not _is_whole(self.max_det) or self.max_det < 1:
            raise UsageError(
                "option max_det is out of range", got=repr(self.max_det), expected="a whole number of at least 1"
            )
        _widen(self, tuples=("classes",))  # what cannot be hashed is no key of a cache
        if self.classes is None:
            return
        if not isinstance(self.classes, tuple) or not all(map(_is_whole, self.classes)):
            raise UsageError(
                "option classes holds something other than class ids",
                got=repr(self.classes),
                expected="a tuple or list of whole numbers",
                remedy="Names are for Detector(classes=...), which knows those of the model.",
            )
        if any(c < 0 for c in self.classes):
            raise UsageError("option classes holds a negative class id", got=self.classes)


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How TensorRT builds the plan. What a flavour or version lacks is refused by name.

    Attributes:
        workspace_mib: limit for scratch memory while building, MiB; None leaves TensorRT's default.
        optimization_level: 0 (fast build) to 5 (fast engine); None leaves TensorRT's default.
        timing_cache: file to read kernel timings from and to write them back to.
        version_compatible: the plan also loads in later TensorRT versions of the same major version.
        hardware_compatible: the plan also runs on other GPU generations (Ampere and later).
        compute_capability: GPUs to build for ("8.6", "8.9"); empty leaves TensorRT's default.
        refittable: weights can be replaced later.
        strip: leave the weights out of the plan (they are refitted from the ONNX file).
    """

    workspace_mib: int | None = None
    optimization_level: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    compute_capability: tuple[str, ...] = ()
    refittable: bool = False
    strip: bool = False

    def __post_init__(self) -> None:
        _widen(self, paths=("timing_cache",), tuples=("compute_capability",))


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `yolotrt export` makes.

    Attributes:
        imgsz: input (height, width) in pixels; None takes the model's own (640 where it names none).
        batch: batch sizes of the input; the same three numbers make it static.
        precision: of the arithmetic; None takes fp16 where a TensorRT plan is built and fp32 elsewhere. `auto` tries
            fp16, fp8 and int8 and takes the fastest, as measured here, that keeps the accuracy.
        target: what to build; `auto` builds a plan with whichever TensorRT is importable, else stops at the ONNX.
        names: class names in place of the model's own.
        output: folder of the bundle; None makes `NAME-PRECISION` in the current folder.
        images: pictures for the numerical comparison and the FP16 calibration (a file, glob or folder); None takes
            the ones that ship with yolotrt.
        opset: ONNX operator set; None takes the newest one every back-end reads.
        data: labelled data set (data.yaml, or COCO annotations): accuracy is measured on its validation split, and
            fp8 and int8 are calibrated on its training split.
        calib: pictures to calibrate on in place of the training split: a folder, glob, list, data.yaml or video.
            Without `data`, boxes are compared with those of FP32 in place of labels.
        calib_pictures: use at most this many of them, spread evenly.
        calib_few: allow fewer than 64.
        max_drop: how much of FP32's accuracy may be lost, relative, 0..1; None takes 0.001 for fp16, 0.002 for fp8 and
            0.005 else.
        head: `whole` ends with boxes and scores, as every program expects them; `raw` ends where the convolutions end,
            and yolotrt decodes the few boxes above the threshold.
        fp16_input: take pictures in FP16, where the graph makes FP16 of them anyway.
        plan: how TensorRT builds.
        trust: allow an unrestricted unpickling of the weights, which can run any code that they hold.
        force: build everything again, even if nothing has changed.
    """

    imgsz: tuple[int, int] | None = None
    batch: BatchRange = field(default_factory=BatchRange)
    precision: PrecisionChoice | None = None
    target: Target = "auto"
    names: tuple[str, ...] | None = None
    output: Path | None = None
    images: Path | None = None
    opset: int | None = None
    data: Path | None = None
    calib: Path | None = None
    calib_pictures: int = 512
    calib_few: bool = False
    max_drop: float | None = None
    head: HeadChoice = "whole"
    fp16_input: bool = False
    plan: PlanOptions = field(default_factory=PlanOptions)
    trust: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        imgsz: Any = self.imgsz
        if _is_whole(imgsz):
            object.__setattr__(self, "imgsz", (int(imgsz), int(imgsz)))
        batch: Any = self.batch
        if not isinstance(batch, BatchRange):
            object.__setattr__(self, "batch", _batch_range(batch))
        _widen(self, paths=("output", "images", "data", "calib"), tuples=("imgsz", "names"))
        if self.target not in get_args(Target):
            raise UsageError("option target is unknown", got=self.target, expected=" | ".join(get_args(Target)))
        if self.precision is not None and self.precision not in get_args(PrecisionChoice):
            raise UsageError(
                "option precision is unknown", got=self.precision, expected=" | ".join(get_args(PrecisionChoice))
            )
        if self.head not in get_args(HeadChoice):
            raise UsageError("option head is unknown", got=self.head, expected=" | ".join(get_args(HeadChoice)))
        if not _is_whole(self.calib_pictures) or self.calib_pictures < 1:
            raise UsageError(
                "option calib_pictures is out of range", got=repr(self.calib_pictures), expected="a whole number"
            )
        drop: Any = self.max_drop
        if drop is not None and not (_is_number(drop) and 0 <= drop < 1):
            raise UsageError(
                "option max_drop is out of range",
                got=repr(drop),
                expected="a share from 0 to 1: 0.005 for half a per cent",
            )
        sides: Any = self.imgsz
        if sides is not None and not (
            isinstance(sides, tuple)
            and len(sides) == 2
            and all(map(_is_whole, sides))
            and 1 <= min(sides) <= max(sides) <= MAX_SIDE
        ):
            raise UsageError(
                "option imgsz is out of range", got=repr(sides), expected=f"(height, width), each 1 to {MAX_SIDE}"
            )
        if self.opset is not None and (not _is_whole(self.opset) or self.opset < 1):
            raise UsageError("option opset is no ONNX operator set", got=repr(self.opset), expected="a whole number")
        for name in ("output", "images", "data", "calib"):
            value: Any = getattr(self, name)
            if not isinstance(value, Path | None):
                raise UsageError(f"option {name} is no path", got=f"an object of type {type(value).__name__}")


def _widen(options: object, *, paths: Sequence[str] = (), tuples: Sequence[str] = ()) -> None:
    """Take what callers write: paths as text, lists."""
    for name in paths:
        if isinstance(value := getattr(options, name), str):
            object.__setattr__(options, name, Path(value))
    for name in tuples:
        if isinstance(value := getattr(options, name), list):
            object.__setattr__(options, name, tuple(value))


def _is_number(value: object) -> bool:
    # True is a number to Python, yet none to anyone else.
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _batch_range(value: Any) -> BatchRange:
    """From `8`, or `(1, 4, 8)`."""
    sizes = [value] * 3 if _is_whole(value) else value
    try:
        if isinstance(sizes, list | tuple) and len(sizes) == 3 and all(map(_is_whole, sizes)):
            return BatchRange(min=int(sizes[0]), opt=int(sizes[1]), max=int(sizes[2]))
    except ValueError:
        pass
    raise UsageError(
        "option batch is no batch size",
        got=repr(value),
        expected="N, or (MIN, OPT, MAX) with 1 <= MIN <= OPT <= MAX",
    )


def check_keys(kind: type[T], data: Mapping[str, Any], *, where: str) -> None:
    """Raise ConfigError for a key in `data` that the dataclass `kind` has no field for, naming the nearest one."""
    import difflib

    from yolotrt.sources.address import without_slips

    known = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise ConfigError(
                f"{where}: unknown key {without_slips(str(key))!r}",  # a camera's address, maybe
                expected="one of " + ", ".join(known),
                remedy=f"Did you mean {near[0]!r}?" if near else None,
            )
