"""PyNvVideoCodec's interface over FFmpeg: its "device" memory is the host's, as that of `HostMachine`.

It keeps what makes the real one awkward: packets are bytes with start codes and nothing else, rows lie apart, frames
are overwritten by the next packet, pictures that shrink are scaled, and errors are exceptions of no known class.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from typing import Any

import av
import numpy as np
import numpy.typing as npt


class Codec(enum.IntEnum):
    H264 = 4
    HEVC = 8
    AV1 = 11


class PixelFormat(enum.IntEnum):
    NV12 = 3
    P016 = 5


class Latency(enum.IntEnum):
    NATIVE = 0
    LOW = 1


class Flag(enum.IntEnum):
    ENDOFPICTURE = 8


class Packet:
    def __init__(self) -> None:
        self.bsl_data = self.bsl = self.pts = self.decode_flag = 0


class Plane:
    def __init__(self, array: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> None:
        self.dataptr = array.ctypes.data
        self.shape: Sequence[int] = shape
        self.stride: Sequence[int] = (array.strides[0], shape[2], 1)


class DecodedPicture:
    def __init__(self, memory: npt.NDArray[np.uint8], size: tuple[int, int], pts: int, format: PixelFormat) -> None:  # noqa: A002
        self.format, self._memory, self._size, self._pts = format, memory, size, pts

    def getPTS(self) -> int:  # noqa: N802
        return self._pts

    def cuda(self) -> Sequence[Plane]:
        height, width = self._size
        return [
            Plane(self._memory, (height, width, 1)),
            Plane(self._memory[height:], (height // 2, width // 2, 2)),
        ]


class HostDecoder:
    """One session."""

    def __init__(self, api: HostNvdec, codec: Codec, latency: Latency) -> None:
        self._api = api
        self._latency = latency
        self._fed: list[int] = []
        self._waiting: dict[int, av.VideoFrame] = {}
        self._context: Any = av.CodecContext.create({4: "h264", 8: "hevc", 11: "libdav1d"}[codec], "r")
        self._largest: tuple[int, int] | None = None
        self._memory: list[npt.NDArray[np.uint8]] = []
        self.packets = 0

    def Decode(self, packet: Packet, /) -> Sequence[DecodedPicture]:  # noqa: N802
        api = self._api
        self.packets += 1
        api.flags.add(packet.decode_flag)
        if api.fails_at.pop(api.packets, False):
            raise RuntimeError("HandlePictureDecode : cuvidDecodePicture returned error 999\nat NvDecoder.cpp:512")
        api.packets += 1
        for memory in self._memory:
            memory[:] = 0x55  # whoever reads what was handed out before sees it
        if packet.bsl:
            given = av.Packet(ctypes.string_at(packet.bsl_data, packet.bsl))
            assert self._context.name == "libdav1d" or bytes(given)[:4] in (b"\0\0\0\1", b"\0\0\1" + bytes(given)[3:4])
            given.pts = packet.pts
            frames = self._context.decode(given)
            self._fed.append(packet.pts)
        else:
            frames = self._context.decode(None)
        if self._latency is Latency.LOW:
            frames = self._in_order_of_decoding(frames)
        return [self._picture(frame, number) for number, frame in enumerate(frames)]

    def _in_order_of_decoding(self, frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
        """As the real one has them where no picture waits for those that are shown before it."""
        self._waiting |= {frame.pts: frame for frame in frames if frame.pts is not None}
        ready = []
        while self._fed and self._fed[0] in self._waiting:
            ready.append(self._waiting.pop(self._fed.pop(0)))
        return ready

    def _picture(self, frame: av.VideoFrame, number: int) -> DecodedPicture:
        height, width = frame.height, frame.width
        self._largest = self._largest or (height, width)
        if height > self._largest[0] or width > self._largest[1]:
            raise RuntimeError("Reconfigure Not supported when width/height > maxwidth/maxheight")
        if (height, width) != self._largest:  # smaller pictures are scaled to the size of the first ones
            height, width = self._largest
            pts, frame = frame.pts, frame.reformat(width=width, height=height)
            frame.pts = pts
        while len(self._memory) <= number:
            self._memory.append(np.zeros((0, 0), np.uint8))
        pitch = -(-width // 64) * 64 + 64
        if self._memory[number].shape != (height * 3 // 2, pitch):
            self._memory[number] = np.zeros((height * 3 // 2, pitch), np.uint8)
        memory = self._memory[number]
        y, u, v = (
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]  # type: ignore[call-overload]
            for plane in frame.planes
        )
        memory[:height, :width] = y
        memory[height:, 0:width:2], memory[height:, 1:width:2] = u, v
        assert frame.pts is not None
        return DecodedPicture(memory, (height, width), frame.pts, self._api.gives)


class HostDemuxer:
    """The packets of a file, H.264 with start codes, and one without bytes at the end."""

    def __init__(self, filename: str) -> None:
        self._filename = filename

    def GetNvCodecId(self) -> Codec:  # noqa: N802
        return Codec.H264

    def __iter__(self) -> Iterator[Packet]:
        with av.open(self._filename) as container:
            stream = container.streams.video[0]
            annex_b = av.BitStreamFilterContext("h264_mp4toannexb", stream)
            for demuxed in container.demux(stream):
                for found in annex_b.filter(demuxed if demuxed.size else None):
                    data = np.frombuffer(bytes(found), np.uint8)
                    packet = Packet()
                    packet.bsl_data, packet.bsl, packet.pts = data.ctypes.data, data.size, found.pts or 0
                    yield packet
        yield Packet()


class HostNvdec:
    """The module.

    Attributes:
        caps: what `GetDecoderCaps` tells.
        sessions: made so far; at `most` of them another one fails.
        packets: decoded so far, and those at which a session `fails_at`.
        flags: those that packets came with.
        places: number of the GPU, context and stream that decoders were made with.
        gives: the format of the frames.
    """

    cudaVideoCodec: Any = Codec  # noqa: N815
    Pixel_Format: Any = PixelFormat
    DisplayDecodeLatencyType: Any = Latency
    VideoPacketFlag: Any = Flag
    PacketData: Any = Packet
    CreateDemuxer: Any = HostDemuxer

    def __init__(self) -> None:
        self.caps: dict[str, int] = {
            "width_min": 16,
            "height_min": 16,
            "width_max": 4096,
            "height_max": 4096,
            "mb_num_max": 65536,
        }
        self.sessions: MutableSequence[HostDecoder] = []
        self.most = 1000
        self.packets = 0
        self.fails_at: dict[int, bool] = {}
        self.flags: set[int] = set()
        self.places: set[tuple[int, int, int]] = set()
        self.gives = PixelFormat.NV12

    def CreateDecoder(  # noqa: N802
        self,
        *,
        gpuid: int,
        codec: Any,
        cudacontext: int,
        cudastream: int,
        usedevicememory: bool,
        latency: Any = Latency.NATIVE,
    ) -> HostDecoder:
        assert usedevicememory
        self.places.add((gpuid, cudacontext, cudastream))
        if len(self.sessions) >= self.most:
            raise RuntimeError("cuvidCreateDecoder returned error 2: CUDA_ERROR_OUT_OF_MEMORY")
        session = HostDecoder(self, Codec(codec), Latency(latency))
        self.sessions.append(session)
        return session

    def GetDecoderCaps(self, *, gpuid: int, codec: Any) -> Mapping[str, int]:  # noqa: N802
        return self.caps
