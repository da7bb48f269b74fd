"""Webcams, through OpenCV: V4L2, AVFoundation, Media Foundation, whichever this platform has."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import cv2
import numpy as np

from yolotrt.sources.base import SourceInfo
from yolotrt.sources.images import quiet_opencv
from yolotrt.sources.live import LiveOptions, LiveSource, LostError, Shot
from yolotrt.types import ImageU8

if TYPE_CHECKING:
    from collections.abc import Callable


class WebcamSource(LiveSource):
    """A webcam by its number, or by its device file (`/dev/video0`).

    One that is not there when the iteration starts ends it by SourceError; one that is pulled out is awaited.
    """

    def __init__(self, device: int | str, *, name: str | None = None, options: LiveOptions | None = None) -> None:
        super().__init__(
            SourceInfo(kind="webcam", name=name or f"webcam-{device}", live=True), options or LiveOptions()
        )
        self._device = device

    def _shots(self) -> Iterator[Shot]:
        with _opened(self._device, self.info.name) as capture:
            size = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
            rate = capture.get(cv2.CAP_PROP_FPS)
            self._connected(size, Fraction(rate).limit_denominator(1001) if 0 < rate <= 1000 else None)
            while not self._stopped.is_set():
                if not capture.grab():
                    raise LostError(f"{self.info.name}: the webcam gives no more pictures")
                pixels = _retrieving(capture, self.info.name)
                yield Shot(received_s=time.monotonic(), camera_s=None, picture=pixels)


def _retrieving(capture: cv2.VideoCapture, name: str) -> Callable[[], ImageU8]:
    def retrieve() -> ImageU8:
        ok, pixels = capture.retrieve()
        if not ok:
            raise LostError(f"{name}: the webcam gives no more pictures")
        return np.ascontiguousarray(pixels, np.uint8)

    return retrieve


@contextlib.contextmanager
def _opened(device: int | str, name: str) -> Iterator[cv2.VideoCapture]:
    is_device_file = isinstance(device, str) and device.startswith("/dev/")
    with quiet_opencv():  # it has several lines to say about a device that it cannot open
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2 if is_device_file else cv2.CAP_ANY)
    try:
        if not capture.isOpened():
            raise LostError(
                f"{name}: there is no such webcam, or another program uses it",
                remedy="Check its number and your right to read it.",
                hopeless=True,
            )
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # where the platform takes it: no old pictures
        yield capture
    finally:
        capture.release()
