"""Back-ends that take pictures as they are and give boxes, with preprocessing and decoding of their own."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TypeAlias

from yolotrt.backends.base import Backend
from yolotrt.cuda.machine import Machine
from yolotrt.detections import Detections
from yolotrt.errors import BackendError
from yolotrt.options import DetectOptions
from yolotrt.preprocess.surface import Surface
from yolotrt.types import Batch, ImageU8, RawOutputs

ReadyPicture: TypeAlias = "ImageU8 | Surface"
"""BGR `uint8 [H, W, 3]` on the host, or in the memory of the GPU that runs the model."""


class PictureBackend(Backend):
    """A model from pictures to boxes. Threads may share it.

    Attributes:
        machine: the GPU whose surfaces it takes; None for host pictures only.
    """

    machine: Machine | None = None

    def detect(self, images: Sequence[ReadyPicture], options: Sequence[DetectOptions]) -> list[Detections]:
        """Boxes of any number of pictures.

        Args:
            images: of any sizes; surfaces only where there is a `machine`.
            options: thresholds and filters, one per picture.

        Raises BackendError: a failure of the library, or a model that is closed.
        """
        self._require_open()
        return self._detect(images, options)

    @abc.abstractmethod
    def _detect(self, images: Sequence[ReadyPicture], options: Sequence[DetectOptions]) -> list[Detections]:
        """`detect` of an open back-end."""

    def _infer(self, batch: Batch) -> RawOutputs:  # noqa: ARG002
        raise BackendError(
            "a model that runs as CUDA graphs gives boxes, not the outputs of its network",
            remedy="Open it without graphs.",
        )
