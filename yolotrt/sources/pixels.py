"""From a decoded frame to the picture that is shown, whichever container or network it came through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from yolotrt.sources.decoders import DamagedPacketError
from yolotrt.types import ImageU8

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class Orientation:
    """How decoded pixels become what is shown: transpose first, then mirror."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """From the display matrix, rounded to quarter turns. Its first two rows map x, y to (ax + cy, bx + dy)."""
        from av.sidedata.sidedata import SideDataContainer

        # `frame.rotation` would not tell mirrored pictures, which front cameras make. `frame.side_data` ties the frame
        # and its side data to each other, so that the picture would stay until Python's garbage collector comes by.
        data: Any = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
        if data is None:
            return cls()
        a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(data), np.int32)[:5])
        if abs(a) >= abs(b):
            return cls(flip_x=a < 0, flip_y=d < 0)
        return cls(transpose=True, flip_x=c < 0, flip_y=b < 0)

    def apply(self, pixels: ImageU8) -> ImageU8:
        if self.transpose:
            pixels = cv2.transpose(pixels)  # type: ignore[assignment]
        if self.flip_x or self.flip_y:
            pixels = cv2.flip(pixels, -1 if self.flip_x and self.flip_y else int(self.flip_x))  # type: ignore[assignment]
        return pixels


class Converter:
    """Turns the decoded frames of one stream into pictures as they are shown.

    Args:
        mirrored: look for a display matrix that mirrors without a rotation, too, as files of front cameras have it.
    """

    def __init__(self, *, mirrored: bool = True) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._rotation = None if mirrored else 0
        self._orientation = Orientation()

    def __call__(self, frame: av.VideoFrame) -> ImageU8:
        """BGR `uint8 [H, W, 3]`, C-contiguous. Raises DamagedPacketError for one of a kind that cannot be converted."""
        import av

        # The matrix is looked at only where the rotation has changed, which costs less.
        if frame.rotation != self._rotation:
            self._rotation, self._orientation = frame.rotation, Orientation.of(frame)
        # One thread: the reader runs beside the model and the encoder, which need the other cores more.
        try:
            bgr = self._reformatter.reformat(frame, format="bgr24", threads=1)
        except (av.FFmpegError, ValueError) as e:  # damage may change what a picture says of itself
            raise DamagedPacketError(str(e)) from None
        return np.ascontiguousarray(self._orientation.apply(_view(bgr)))


def _view(bgr: av.VideoFrame) -> ImageU8:
    """The pixels without a copy, which would cost 1 ms at 1080p; the view keeps the frame's memory alive."""
    plane = bgr.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * bgr.height]
    return rows.reshape(bgr.height, plane.line_size)[:, : bgr.width * 3].reshape(bgr.height, bgr.width, 3)
