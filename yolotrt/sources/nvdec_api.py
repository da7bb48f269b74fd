"""The part of PyNvVideoCodec's API that yolotrt uses, as typed protocols.

mypy refuses a name that is not written down here; `tests/conformance` checks every name and argument written down here
against the real module. Names and argument names are PyNvVideoCodec's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

CAPS = ("width_min", "height_min", "width_max", "height_max", "mb_num_max")
"""What `GetDecoderCaps` tells: sides in pixels, and 16 x 16 blocks; zeros for what is not decoded at all."""


class EnumMember(Protocol):
    """A member of a pybind11 enum."""

    @property
    def name(self) -> str: ...

    def __int__(self) -> int: ...


class cudaVideoCodec(Protocol):  # noqa: N801
    H264: EnumMember
    HEVC: EnumMember
    AV1: EnumMember


class Pixel_Format(Protocol):  # noqa: N801
    NV12: EnumMember


class DisplayDecodeLatencyType(Protocol):
    """`NATIVE` waits for frames that are shown earlier; `LOW` hands out each at once, which B-frames do not allow."""

    NATIVE: EnumMember
    LOW: EnumMember


class VideoPacketFlag(Protocol):
    ENDOFPICTURE: EnumMember


class PacketData(Protocol):
    """A packet; one of no bytes ends the stream."""

    bsl_data: int
    bsl: int
    pts: int
    decode_flag: int

    def __init__(self) -> None: ...


class CAIMemoryView(Protocol):
    """A plane: luma `[H, W, 1]`, chroma `[H / 2, W / 2, 2]`; strides in bytes."""

    @property
    def dataptr(self) -> int: ...

    @property
    def shape(self) -> Sequence[int]: ...

    @property
    def stride(self) -> Sequence[int]: ...


class DecodedFrame(Protocol):
    """Its memory belongs to the decoder, which writes the next frames there."""

    @property
    def format(self) -> EnumMember: ...

    def getPTS(self) -> int: ...  # noqa: N802

    def cuda(self) -> Sequence[CAIMemoryView]: ...


class PyNvDecoder(Protocol):
    def Decode(self, arg0: PacketData, /) -> Sequence[DecodedFrame]: ...  # noqa: N802


class NvVideoCodec(Protocol):
    """The module."""

    cudaVideoCodec: type[cudaVideoCodec]  # noqa: N815
    Pixel_Format: type[Pixel_Format]
    DisplayDecodeLatencyType: type[DisplayDecodeLatencyType]
    VideoPacketFlag: type[VideoPacketFlag]
    PacketData: type[PacketData]

    def CreateDecoder(  # noqa: N802
        self,
        *,
        gpuid: int,
        codec: EnumMember,
        cudacontext: int,
        cudastream: int,
        usedevicememory: bool,
        latency: EnumMember,
    ) -> PyNvDecoder: ...

    def GetDecoderCaps(self, *, gpuid: int, codec: EnumMember) -> Mapping[str, int]: ...  # noqa: N802
