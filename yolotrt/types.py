"""The types that cross the data flow: Source -> Frame -> Batch -> RawOutputs -> Detections -> Sink.

`Detections` lives in `yolotrt.detections`; the letterbox arithmetic that a `Batch` carries in
`yolotrt.preprocess.geometry`; what the outputs mean in `yolotrt.model_spec`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from yolotrt.counting.counts import Counts
    from yolotrt.cuda.machine import Machine
    from yolotrt.detections import Detections
    from yolotrt.model_spec import ModelSpec
    from yolotrt.options import DetectOptions
    from yolotrt.preprocess.geometry import LetterboxGeometry
    from yolotrt.preprocess.surface import Surface

ImageU8 = npt.NDArray[np.uint8]
"""A host picture: BGR `uint8 [H, W, 3]`, the channel order OpenCV reads."""


class DeviceImage(Protocol):
    """A picture in the memory of a GPU, until somebody wants it on the host. May be shared by threads."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    def surface(self, machine: Machine) -> Surface | None:
        """Where it lies, for who reads it on this GPU; None where it lies elsewhere, or only on the host by now."""

    def on_host(self) -> ImageU8:
        """BGR `uint8 [H, W, 3]`, C-contiguous; fetched at the first call. Raises CudaError where that fails."""

    def cropped(self, box: tuple[int, int, int, int]) -> DeviceImage:
        """The part from x1, y1 to x2, y2, all even: the same pixels, not a copy."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture of a source. Produced by sources, consumed by the detector and by sinks.

    Attributes:
        picture: on the host, BGR `uint8 [H, W, 3]`, C-contiguous; or in the memory of a GPU.
        source_id: which source it came from: a path or URL, without credentials.
        index: 0-based position in that source.
        timestamp_s: seconds from the start of the source (presentation time for video; 0.0 for a picture).
        decode_s: seconds spent to read and decode it.
        received_s: `time.monotonic()` when it arrived from a camera; None for files.
        options: thresholds for this frame in place of the detector's own.
    """

    picture: ImageU8 | DeviceImage = field(repr=False)
    source_id: str
    index: int
    timestamp_s: float = 0.0
    decode_s: float = 0.0
    received_s: float | None = None
    options: DetectOptions | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        found = self.picture
        if isinstance(found, np.ndarray) and (found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3):
            raise ValueError(f"picture: got {found.dtype} {found.shape}, expected uint8 (H, W, 3) in BGR")

    @property
    def pixels(self) -> ImageU8:
        """BGR `uint8 [H, W, 3]` on the host, C-contiguous. Of a picture on a GPU they are fetched once, when asked for.

        Raises CudaError where that fails.
        """
        return self.picture if isinstance(self.picture, np.ndarray) else self.picture.on_host()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        if isinstance(self.picture, np.ndarray):
            return self.picture.shape[0], self.picture.shape[1]
        return self.picture.size


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The model's input. Produced by preprocess, consumed by back-ends.

    Attributes:
        images: `[N, 3, H, W]`, RGB in 0..1, in the model's input dtype. In memory the planes or the channels come last.
        geometries: one per image, in order: maps boxes back to its source picture.
        above: 0..1; nobody looks at the boxes of anchors whose best class score is not above this. A back-end may spare
            itself the work, and leave zeros in their place. By default all are wanted.
    """

    images: npt.NDArray[Any] = field(repr=False)
    geometries: tuple[LetterboxGeometry, ...]
    above: float = -math.inf

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"images: got shape {self.images.shape}, expected (N, 3, H, W)")
        if len(self.geometries) != len(self.images):
            raise ValueError(f"geometries: got {len(self.geometries)}, expected one per image ({len(self.images)})")


@dataclass(frozen=True, kw_only=True)
class RawOutputs:
    """The model's outputs. Produced by back-ends, consumed by decode.

    Attributes:
        arrays: by output name, each `[N, ...]` on the host, in the dtype the model gives.
        spec: what they mean.
    """

    arrays: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    spec: ModelSpec

    @property
    def first(self) -> npt.NDArray[Any]:
        """The first output: for every detection head the one with the boxes."""
        return self.arrays[self.spec.outputs[0].name]


@dataclass(frozen=True, kw_only=True)
class StageSeconds:
    """Seconds that one picture spent per stage. Of a batch, each picture carries its share."""

    decode: float = 0.0
    preprocess: float = 0.0
    inference: float = 0.0
    postprocess: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FrameResult:
    """What `Detector.stream` yields: the frame, its detections and what they cost.

    Attributes:
        stream: the name of its stream where there may be several, which may read the same source; None elsewhere.
        counts: crossings of lines and visits to zones so far; None where nothing counts.
    """

    frame: Frame
    detections: Detections
    seconds: StageSeconds
    stream: str | None = None
    counts: Counts | None = None
