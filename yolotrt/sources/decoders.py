"""What turns the packets of a video into pictures: PyAV on the CPU, NVDEC on a GPU.

Demuxing is PyAV's for files and streams alike; a decoder is the one part that is exchanged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast, get_args

from yolotrt.errors import UsageError
from yolotrt.sources.bitstream import jpeg_is_truncated
from yolotrt.types import DeviceImage, ImageU8

if TYPE_CHECKING:
    import av
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

    from yolotrt.sources.pixels import Converter

DecoderChoice = Literal["auto", "nvdec", "pyav"]
Told = Callable[[str, str], None]
"""Called with what decodes, `nvdec` or `pyav`, and why nothing better does; empty where that is no question."""


def check_choice(choice: str) -> None:
    """Raise UsageError for an unknown name."""
    if choice not in get_args(DecoderChoice):
        raise UsageError("option decoder is unknown", got=choice, expected=" | ".join(get_args(DecoderChoice)))


def check_processes(processes: int | None) -> None:
    """Raise UsageError for less than none."""
    if processes is not None and processes < 0:
        raise UsageError("option decode-processes is out of range", got=processes, expected="a whole number from 0")


class DamagedPacketError(Exception):
    """A packet that cannot be decoded, or gave what is no picture; those after it may be."""


class Decoded(NamedTuple):
    """One frame as it leaves a decoder, not yet converted.

    Attributes:
        pts: presentation time in units of its stream; None where the stream has none.
        time: `pts` in seconds.
        damaged: the decoder could not read all of it.
        picture: makes the picture. To be called before the next packet is decoded, or not at all.
    """

    pts: int | None
    time: float | None
    damaged: bool
    picture: Callable[[], ImageU8 | DeviceImage]


class PictureDecoder(Protocol):
    """Decodes one stream, in one thread."""

    def decode(self, packet: av.Packet[Any]) -> list[Decoded]:
        """The frames that a packet completes, in the order they are shown; an empty packet ends the stream.

        Raises DamagedPacketError.
        """

    def close(self) -> None:
        """Let go of it. Pictures that were made stay."""


class AvDecoder:
    """PyAV, on the CPU.

    Args:
        context: what decodes.
        to_bgr: turns its frames into pictures.
    """

    def __init__(self, context: VideoCodecContext, to_bgr: Converter) -> None:
        self._context, self._to_bgr = context, to_bgr

    def decode(self, packet: av.Packet[Any]) -> list[Decoded]:
        import av

        if self._context.name == "mjpeg" and packet.size:
            _refuse_cut_jpeg(bytes(packet))
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError as e:
            raise DamagedPacketError(str(e)) from e
        return [
            Decoded(
                pts=frame.pts,
                time=frame.time,
                damaged=frame.is_corrupt,
                picture=partial(self._to_bgr, frame),
            )
            for frame in frames
        ]

    def close(self) -> None:
        pass  # it goes with its last reference


def _refuse_cut_jpeg(data: bytes) -> None:
    """Raise DamagedPacketError for a picture of Motion JPEG whose end is missing.

    FFmpeg calls one whole, and fills what is missing with green, or with the picture before.
    """
    import av

    if not jpeg_is_truncated(data):
        return
    # Some cameras leave out nothing but the end marker, always: only a decoder that forgives nothing tells these.
    strict = av.CodecContext.create("mjpeg", "r")
    strict.options = {"err_detect": "explode"}
    try:
        frames = strict.decode(av.Packet(data))
    except av.FFmpegError as e:
        raise DamagedPacketError(str(e)) from e
    if not frames:
        raise DamagedPacketError("the picture is cut short")


@dataclass(frozen=True, kw_only=True)
class DecodeRequest:
    """A stream that is to be decoded from its first packet on.

    Attributes:
        stream: of an open container.
        on_cpu: makes the decoder that takes over where a GPU cannot decode it.
        told: called with what decodes it, once that is known, and each time it changes.
        name: of the source, for messages.
        container: FFmpeg's name of its format.
        turned: its pictures are shown otherwise than they are stored.
        at_once: pictures are wanted as soon as they are there.
    """

    stream: VideoStream
    on_cpu: Callable[[], AvDecoder]
    told: Told
    name: str
    container: str
    turned: bool = False
    at_once: bool = False


class GpuDecoding(Protocol):
    """Makes decoders whose pictures stay in the memory of a GPU."""

    def open(self, request: DecodeRequest, *, forced: bool) -> PictureDecoder:
        """A decoder. If `forced`, its first packet raises SourceError where a GPU cannot decode it."""

    def held(self) -> contextlib.AbstractContextManager[None]:
        """See `Decoders.held`."""


@dataclass(frozen=True, kw_only=True)
class Decoders:
    """What the videos of a run are decoded by. `Detector.decoders` gives the best for it.

    Attributes:
        nvdec: decodes on the GPU what it can; None leaves all to PyAV.
        why: there is no `nvdec`; empty where nobody would look for one.
        forced: what NVDEC cannot decode is refused.
        processes: that decode by NVDEC when several sources are read at a time; None takes as many as pay, 0 none.
    """

    nvdec: GpuDecoding | None = None
    why: str = ""
    forced: bool = False
    processes: int | None = None

    def __post_init__(self) -> None:
        check_processes(self.processes)

    def __str__(self) -> str:
        """For people: what decodes, and why nothing better does; empty where that is no question."""
        if self.nvdec is not None:
            return "NVDEC" if self.forced else "NVDEC, and PyAV for what it cannot decode"
        return f"PyAV ({self.why})" if self.why else ""

    def held(self) -> contextlib.AbstractContextManager[None]:
        """For a thread that does nothing but read: its GPU is made the current one once, not for each packet.

        Raises CudaError.
        """
        return contextlib.nullcontext() if self.nvdec is None else self.nvdec.held()

    def open(self, request: DecodeRequest) -> PictureDecoder:
        """A decoder for a stream. What NVDEC cannot decode raises SourceError with the first packet, if `forced`."""
        if self.nvdec is None:
            request.told("pyav", self.why)
            return request.on_cpu()
        return self.nvdec.open(request, forced=self.forced)


def decoder_of(stream: VideoStream, threads: str) -> VideoCodecContext:
    """A decoder of PyAV's own for a stream.

    PyAV ties a container and its streams to each other, so that with each lost connection a decoder and all its
    pictures would stay in memory until Python's garbage collector comes by. With frame threads, FFmpeg would hold back
    a picture for each.
    """
    import av

    known = stream.codec_context
    decoder = cast("VideoCodecContext", av.CodecContext.create(known.name, "r"))
    decoder.extradata = known.extradata
    if stream.width:
        decoder.width, decoder.height = stream.width, stream.height
    decoder.thread_type = threads
    return decoder
