"""Back-ends that take pictures as they are and give boxes, with preprocessing and decoding of their own."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from yolotrt.backends.base import Backend
from yolotrt.detections import Detections
from yolotrt.errors import BackendError
from yolotrt.options import DetectOptions
from yolotrt.types import Batch, ImageU8, RawOutputs


class PictureBackend(Backend):
    """A model from pictures to boxes. Threads may share it."""

    def detect(self, images: Sequence[ImageU8], options: Sequence[DetectOptions]) -> list[Detections]:
        """Boxes of any number of pictures.

        Args:
            images: BGR `uint8 [H, W, 3]`, of any sizes.
            options: thresholds and filters, one per picture.

        Raises BackendError: a failure of the library, or a model that is closed.
        """
        self._require_open()
        return self._detect(images, options)

    @abc.abstractmethod
    def _detect(self, images: Sequence[ImageU8], options: Sequence[DetectOptions]) -> list[Detections]:
        """`detect` of an open back-end."""

    def _infer(self, batch: Batch) -> RawOutputs:  # noqa: ARG002
        raise BackendError(
            "a model that runs as CUDA graphs gives boxes, not the outputs of its network",
            remedy="Open it without graphs.",
        )
