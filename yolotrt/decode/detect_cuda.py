"""Decoding on the GPU: `candidates.cu` and `nms.cu`, in two launches for any batch, and what comes back.

The boxes are those of `yolotrt.decode.decode`, to the last bit: both do the same single-precision steps, and of equal
confidences both take the first in the model's output.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolotrt.cuda.kernel_source import KernelSource
from yolotrt.cuda.machine import Machine, Memory, Queue
from yolotrt.decode.detect import non_finite
from yolotrt.detections import Detections
from yolotrt.errors import ModelError
from yolotrt.model_spec import MAX_LEVELS, ModelSpec, RawHead
from yolotrt.options import DetectOptions
from yolotrt.preprocess.geometry import LetterboxGeometry

_HEADERS = (Path(__file__).with_name("detect.cuh"), Path(__file__).with_name("raw.cuh"))
CANDIDATES = KernelSource(Path(__file__).with_name("candidates.cu"), _HEADERS)
NMS = KernelSource(Path(__file__).with_name("nms.cu"), _HEADERS)

_HEADS = {"anchor_free": 0, "objectness": 1, "end_to_end": 2, "detr": 3, "raw": 4}
_ACTIVE, _AGNOSTIC, _CLIP, _SOME_CLASSES, _EVERY_CLASS = 1, 2, 4, 8, 16
_ANCHORS, _PARTS, _NMS_THREADS = 32, 8, 512
_KEPT_BYTES = 20
_MOST_CANDIDATES = 30_000  # as in the kernel, and on the CPU
_CLASS_IDS = 1024  # classes that a filter can name where the model names none

THRESHOLDS = np.dtype(
    [
        ("flags", np.int32),
        ("conf", np.float32),
        ("iou", np.float32),
        ("max_det", np.int32),
        ("left", np.float32),
        ("top", np.float32),
        ("scale_x", np.float32),
        ("scale_y", np.float32),
        ("width", np.float32),
        ("height", np.float32),
        ("input_width", np.float32),
        ("input_height", np.float32),
    ],
    align=True,
)
"""`Thresholds` of `detect.cuh`. All zeros is padding of the batch: no boxes."""

_LEVEL = np.dtype(
    [
        *((name, np.uint64) for name in ("boxes", "scores")),
        *((name, np.int32) for name in ("stride", "width", "cells", "first")),
    ],
    align=True,
)

_DECODE = np.dtype(
    [
        *((name, np.uint64) for name in ("output", "thresholds", "classes", "candidates", "counts", "kept", "results")),
        *((name, np.int32) for name in ("head", "anchors", "num_classes", "class_words")),
        *((name, np.int32) for name in ("capacity", "max_det", "batch", "reg_max", "levels", "unused")),
        ("level", _LEVEL, (MAX_LEVELS,)),
    ],
    align=True,
)


@dataclass(frozen=True, kw_only=True)
class DecodeLayout:
    """Sizes that stay the same for all batches of a model.

    Attributes:
        head: of the model.
        first: name of its first output.
        dtype: of the outputs that are read, `float32` or `float16`.
        anchors: boxes it gives per picture.
        num_classes: scores of each; 0 for heads that name one class.
        class_words: 32-bit words of a class filter.
        capacity: candidates per picture, enough for all that there can be.
        max_det: boxes per picture that fit.
        raw: of a `raw` head.
        sizes: rows and columns of each of its levels.
    """

    head: str
    first: str
    dtype: str
    anchors: int
    num_classes: int
    class_words: int
    capacity: int
    max_det: int
    raw: RawHead | None = None
    sizes: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(
        cls, spec: ModelSpec, shapes: Mapping[str, Sequence[int]], *, max_det: int, every_class: bool = False
    ) -> DecodeLayout:
        """Of a model whose outputs have these shapes (with any batch).

        Args:
            spec: of the model.
            shapes: by name, `[N, ...]`, as `ModelSpec.head` says.
            max_det: the most boxes per picture that will be asked for.
            every_class: make room for `DetectOptions.multi_label`.

        Raises ModelError for a task or output that is not decoded on the GPU.
        """
        shape = tuple(shapes[spec.outputs[0].name])
        if spec.task != "detect" or len(shape) != (3 if spec.raw is None else 4):
            raise ModelError("an output that is not decoded on the GPU", got=f"{spec.task} {shape}")
        dtypes = {tensor.dtype for tensor in (spec.outputs[:1] if spec.raw is None else spec.outputs)}
        if len(dtypes) > 1 or not dtypes <= {"float32", "float16"}:
            raise ModelError(
                "boxes of a dtype that is not decoded on the GPU",
                got=" and ".join(sorted(dtypes)),
                expected="float32 or float16",
            )
        sizes: tuple[tuple[int, int], ...] = ()
        if spec.raw is not None:
            sizes = tuple((shapes[level.boxes][2], shapes[level.boxes][3]) for level in spec.raw.levels)
            anchors, num_classes = sum(h * w for h, w in sizes), shapes[spec.raw.levels[0].scores][1]
        else:
            anchors, num_classes = _anchors_and_classes(spec.head, shape)
        capacity = anchors * (max(num_classes, 1) if every_class else 1)
        return cls(
            head=spec.head,
            first=spec.outputs[0].name,
            dtype=dtypes.pop(),
            anchors=anchors,
            num_classes=num_classes,
            class_words=-(-max(num_classes or _CLASS_IDS, len(spec.names)) // 32),
            capacity=capacity,
            max_det=min(max_det, capacity, _MOST_CANDIDATES),
            raw=spec.raw,
            sizes=sizes,
        )

    def thresholds(self, geometry: LetterboxGeometry, options: DetectOptions) -> npt.NDArray[Any]:
        """The `THRESHOLDS` of one picture; not to be changed."""
        return _thresholds(geometry, options, self.max_det)

    def classes(self, options: DetectOptions) -> npt.NDArray[np.uint32]:
        """The class filter of one picture: `[class_words]`, a bit for each class to keep."""
        words = np.zeros(self.class_words, np.uint32)
        for class_id in options.classes or ():
            if class_id < 32 * self.class_words:
                words[class_id // 32] |= np.uint32(1 << class_id % 32)
        return words

    def results_size(self, batch: int) -> int:
        """Bytes of the results of `batch` pictures."""
        return batch * (8 + 24 * self.max_det)

    def unpack(
        self,
        results: npt.NDArray[np.uint8],
        batch: int,
        geometries: Sequence[LetterboxGeometry],
        names: tuple[str, ...],
    ) -> list[Detections]:
        """What the kernels left for a batch, as `Detections` of its first pictures.

        Args:
            results: `[results_size(batch)]`.
            batch: that the kernels worked on.
            geometries: one per picture.
            names: class names.

        Raises NonFiniteOutputError where the model gave NaN or infinity for one of these pictures.
        """
        header = results[: 8 * batch].view(np.uint32).reshape(batch, 2)
        boxes = results[8 * batch : self.results_size(batch)].view(np.float32).reshape(batch, self.max_det, 6)
        if header[: len(geometries), 1].any():
            raise non_finite()
        found = []
        for geometry, count, rows in zip(geometries, header[:, 0].tolist(), boxes, strict=False):
            own = rows[:count].copy()
            own.flags.writeable = False  # as `Detections` wants it, which then has no views to make
            found.append(
                Detections(
                    xyxy=own[:, :4],
                    confidence=own[:, 4],
                    class_id=own[:, 5].astype(np.int64),
                    names=names,
                    size=geometry.source_size,
                )
            )
        return found


class DecodeKernels:
    """The two kernels for one layout, and the memory they work in.

    Batches that use the same memory must run one after the other.
    """

    def __init__(self, machine: Machine, layout: DecodeLayout, batch: int) -> None:
        """Args:
        machine: which compiles them and gives the memory.
        layout: of the model's output.
        batch: the largest.

        Raises CudaError where there is not enough memory.
        """
        self._layout = layout
        raw = layout.raw is not None
        rows = "raw" if raw else "anchors" if layout.num_classes else "rows"
        self._candidates = machine.kernel(CANDIDATES, f"candidates_{rows}_{layout.dtype}")
        self._nms = machine.kernel(NMS, f"nms_{'raw_' if raw else ''}{layout.dtype}")
        self._keys = 8 * batch * layout.capacity
        self._kept = batch * layout.max_det * _KEPT_BYTES
        # Counts come first and are all zeros in new memory; the kernels leave them so.
        self._memory: Memory = machine.allocate(_aligned(8 * batch) + _aligned(self._keys) + self._kept)
        self._batch = batch

    def launch(
        self, queue: Queue, *, outputs: Mapping[str, int], thresholds: int, classes: int, results: int, batch: int
    ) -> None:
        """Queue the decoding of a batch.

        Args:
            queue: to launch in.
            outputs: addresses of the model's outputs, by name.
            thresholds: address of `THRESHOLDS[batch]`.
            classes: address of uint32 `[batch, class_words]`.
            results: address of `DecodeLayout.results_size(batch)` bytes.
            batch: how many pictures.
        """
        layout = self._layout
        arguments = np.zeros((), _DECODE)
        counts = self._memory.address
        candidates = counts + _aligned(8 * self._batch)
        arguments["output"], arguments["results"] = outputs[layout.first], results
        arguments["thresholds"], arguments["classes"] = thresholds, classes
        arguments["counts"], arguments["candidates"] = counts, candidates
        arguments["kept"] = candidates + _aligned(self._keys)
        arguments["head"], arguments["batch"] = _HEADS[layout.head], batch
        for name in ("anchors", "num_classes", "class_words", "capacity", "max_det"):
            arguments[name] = getattr(layout, name)
        if layout.raw is not None:
            _describe_levels(arguments, layout.raw, layout.sizes, outputs)
        per_block = _ANCHORS if layout.num_classes else _ANCHORS * _PARTS
        blocks = -(-layout.anchors // per_block)
        queue.launch(self._candidates, (blocks, batch, 1), (_ANCHORS * _PARTS, 1, 1), arguments)
        queue.launch(self._nms, (batch, 1, 1), (_NMS_THREADS, 1, 1), arguments)

    def close(self) -> None:
        self._memory.close()


def _anchors_and_classes(head: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Boxes per picture and scores of each, by the shape of the first output. Raises ModelError."""
    anchors, num_classes, fits = {
        "anchor_free": (shape[2], shape[1] - 4, shape[1] > 4),
        "objectness": (shape[1], shape[2] - 5, shape[2] > 5),
    }.get(head, (shape[1], 0, shape[2] == 6))
    if not fits:
        raise ModelError(f"an output that no {head} head has", got=f"shape {shape}")
    return anchors, num_classes


def _describe_levels(
    arguments: npt.NDArray[Any], raw: RawHead, sizes: Sequence[tuple[int, int]], outputs: Mapping[str, int]
) -> None:
    arguments["reg_max"], arguments["levels"] = raw.reg_max, len(raw.levels)
    first = 0
    for row, level, (height, width) in zip(arguments["level"], raw.levels, sizes, strict=False):
        row["boxes"], row["scores"] = outputs[level.boxes], outputs[level.scores]
        row["stride"], row["width"], row["cells"], row["first"] = level.stride, width, height * width, first
        first += height * width


@functools.lru_cache(maxsize=256)  # the frames of a video all have the same ones
def _thresholds(geometry: LetterboxGeometry, options: DetectOptions, max_det: int) -> npt.NDArray[Any]:
    found = np.zeros((), THRESHOLDS)
    found["flags"] = (
        _ACTIVE
        | _AGNOSTIC * options.agnostic
        | _CLIP * options.clip
        | _SOME_CLASSES * (options.classes is not None)
        | _EVERY_CLASS * options.multi_label
    )
    found["conf"], found["iou"], found["max_det"] = options.conf, options.iou, min(options.max_det, max_det)
    found["left"], found["top"] = geometry.pad_left, geometry.pad_top
    found["scale_y"], found["scale_x"] = geometry.gain
    found["height"], found["width"] = geometry.source_size
    found["input_height"], found["input_width"] = geometry.input_size
    return found


def _aligned(size: int) -> int:
    return -(-size // 256) * 256
