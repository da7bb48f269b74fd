"""Pictures that are in the memory of a GPU already."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from yolotrt.cuda.machine import DeviceArray
from yolotrt.errors import SourceError

PixelFormat = Literal["bgr", "rgb", "nv12"]
Matrix = Literal["bt601", "bt709", "bt2020", "fcc", "smpte240m"]


@dataclass(frozen=True, kw_only=True)
class DevicePicture:
    """An array of another library, and what its numbers are.

    Attributes:
        array: with `__dlpack__` or `__cuda_array_interface__`, in the memory of the GPU that runs the model: uint8
            `[H, W, 3]`, or for NV12 `[H * 3 / 2, W]`, luma above chroma. Rows may lie apart; what is in a row may not.
        format: `bgr`, `rgb`, or `nv12`.
        matrix: of NV12: what the stream says its colours are.
        full_range: of NV12: luma 0..255 instead of 16..235.
    """

    array: object = field(repr=False)
    format: PixelFormat = "bgr"
    matrix: Matrix = "bt709"
    full_range: bool = False


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A picture in the memory of the GPU, by its address. Whatever writes to it must be done already.

    Attributes:
        address: of the first row: BGR or RGB of 3 bytes, or the luma of NV12.
        size: (height, width) in pixels.
        pitch: bytes from one row to the next, of chroma as well.
        format: `bgr`, `rgb`, or `nv12`.
        chroma: address of the first row of U, V pairs of NV12; 0 where they follow the luma's last row.
        matrix: of NV12: what the stream says its colours are.
        full_range: of NV12: luma 0..255 instead of 16..235.
        owner: whatever must live as long as the surface is used.
    """

    address: int
    size: tuple[int, int]
    pitch: int
    format: PixelFormat = "bgr"
    chroma: int = 0
    matrix: Matrix = "bt709"
    full_range: bool = False
    owner: object = field(default=None, repr=False)

    def __post_init__(self) -> None:
        height, width = self.size
        if height < 1 or width < 1:
            raise SourceError("a surface without pixels", got=f"{width}x{height}")
        row = width if self.format == "nv12" else 3 * width
        if self.pitch < row:
            raise SourceError(
                "a surface's rows overlap", got=f"a pitch of {self.pitch} bytes", expected=f"at least {row}"
            )
        if self.format == "nv12" and (height % 2 or width % 2):
            raise SourceError("an NV12 surface of odd size", got=f"{width}x{height}", expected="even sides")

    @property
    def kind(self) -> tuple[object, ...]:
        """All that is to be known of it but where it lies: the same for all frames of a video."""
        return self.size, self.pitch, self.format, self.matrix, self.full_range

    @property
    def chroma_address(self) -> int:
        """Of the U, V pairs; 0 for what is not NV12."""
        return (self.chroma or self.address + self.pitch * self.size[0]) if self.format == "nv12" else 0

    @classmethod
    def of(cls, array: DeviceArray, picture: DevicePicture) -> Surface:
        """The surface that an array holds.

        Raises SourceError for another dtype, shape or order of bytes than `DevicePicture` says.
        """
        # A decoder may give its planes a last dimension of one.
        is_nv12 = picture.format == "nv12"
        shape, strides = array.shape, array.strides
        if is_nv12 and len(shape) == 3 and shape[2] == 1:
            shape, strides = shape[:2], strides[:2]
        expected = "uint8 (H * 3 / 2, W)" if is_nv12 else "uint8 (H, W, 3)"
        fits = len(shape) == 2 and shape[0] % 3 == 0 if is_nv12 else len(shape) == 3 and shape[2] == 3
        if array.dtype != np.uint8 or not fits:
            raise SourceError(
                f"not a {picture.format} picture",
                got=f"an array of {array.dtype} {shape}",
                expected=expected,
                remedy="Planes of colours go last: tensor.permute(1, 2, 0).contiguous()."
                if shape[:1] == (3,)
                else None,
            )
        inner = (1,) if is_nv12 else (3, 1)
        if strides[1:] != inner or strides[0] < 0:
            raise SourceError(
                "a picture whose rows are not contiguous",
                got=f"strides of {strides} bytes",
                expected=f"(pitch, {', '.join(map(str, inner))})",
                remedy="Make it contiguous first: tensor.contiguous().",
            )
        return cls(
            address=array.address,
            size=(shape[0] * 2 // 3 if is_nv12 else shape[0], shape[1]),
            # The pitch of a single row is whatever its library says, and is never used.
            pitch=max(strides[0], shape[1] * (1 if is_nv12 else 3)) if shape[0] == 1 else strides[0],
            format=picture.format,
            matrix=picture.matrix,
            full_range=picture.full_range,
            owner=array,
        )
