"""NVDEC through PyNvVideoCodec: whether it can decode here, and one session of it.

Packets come from PyAV. Frames are copied out of the decoder's memory, which it writes the next ones to, into surfaces
of their own; that copy takes microseconds and stays on the GPU.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from yolotrt.cuda.machine import Machine, Queue
from yolotrt.errors import CudaError, MissingExtraError
from yolotrt.preprocess.surface import Surface
from yolotrt.sources.device_images import Budget, Colours, Downloads, Pool, PooledImage
from yolotrt.sources.nvdec_api import CAPS, CAIMemoryView, DecodedFrame, EnumMember, NvVideoCodec, PyNvDecoder
from yolotrt.types import DeviceImage, ImageU8

PACKAGE = "PyNvVideoCodec"
CODECS = {"h264": "H264", "hevc": "HEVC", "av1": "AV1"}
"""What is decoded: FFmpeg's name, and PyNvVideoCodec's."""


class NvdecError(Exception):
    """NVDEC cannot do it; the text says why, in one line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Nvdec:
    """NVDEC of one GPU, for all streams of a run.

    Attributes:
        api: PyNvVideoCodec.
        machine: the GPU.
        limit: pictures of one stream that may be in its memory at a time; more go through the host.
        budget: bytes for the pictures of all streams.
    """

    api: NvVideoCodec
    machine: Machine
    limit: int
    budget: Budget
    _caps: dict[str, Mapping[str, int]] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def codec(self, name: str) -> EnumMember:
        """PyNvVideoCodec's member for FFmpeg's name of a codec."""
        found: EnumMember = getattr(self.api.cudaVideoCodec, CODECS[name])
        return found

    def _capabilities(self, codec: str) -> Mapping[str, int]:
        # Asked once: PyNvVideoCodec makes a context of its own for it, which takes a while.
        with self._lock:
            if codec not in self._caps:
                with self.machine.active():
                    self._caps[codec] = self.api.GetDecoderCaps(
                        gpuid=self.machine.handle.index, codec=self.codec(codec)
                    )
            return self._caps[codec]

    def refusal(self, codec: str, size: tuple[int, int]) -> str:
        """Why 8-bit 4:2:0 pictures of (height, width) are not decoded; empty if they are."""
        if codec not in CODECS:
            return f"the codec is {codec}"
        try:
            caps = self._capabilities(codec)
        except Exception as e:  # noqa: BLE001 - exceptions of C++ that share no base class
            return one_line(e)
        least_w, least_h, most_w, most_h, blocks = (caps.get(name, 0) for name in CAPS)
        height, width = size
        if not most_w or not most_h:
            return f"this GPU does not decode {codec}"
        if not (least_w <= width <= most_w and least_h <= height <= most_h):
            return f"this GPU decodes {codec} from {least_w}x{least_h} to {most_w}x{most_h}, not {width}x{height}"
        if blocks and -(-width // 16) * -(-height // 16) > blocks:
            return f"{width}x{height} is more than this GPU decodes of {codec}"
        return ""


def load_api() -> NvVideoCodec:
    """PyNvVideoCodec, which needs the NVIDIA driver's video libraries as soon as it is imported.

    Raises:
        MissingExtraError: it is not installed.
        NvdecError: it cannot start.
    """
    try:
        module: NvVideoCodec = importlib.import_module(PACKAGE)
    except ModuleNotFoundError as e:
        raise MissingExtraError(PACKAGE, "gpu", needed_for="decoding on the GPU") from e
    except Exception as e:
        raise NvdecError(f"{PACKAGE} cannot start: {one_line(e)}") from e
    return module


class NvdecSession:
    """One decoder. All its work is queued in one stream of CUDA; its pool says when pictures are waited for."""

    def __init__(
        self,
        nvdec: Nvdec,
        codec: str,
        colours: Colours,
        pool: Pool,
        downloads: Downloads,
        *,
        at_once: bool,
    ) -> None:
        """Args:
        nvdec: makes it.
        codec: FFmpeg's name.
        colours: of the stream.
        pool, downloads: for its pictures.
        at_once: the stream has no B-frames, and each frame is wanted with its packet.

        Raises NvdecError where there can be no further decoder.
        """
        self._nvdec, self._colours, self._pool, self._downloads = nvdec, colours, pool, downloads
        api, machine = nvdec.api, nvdec.machine
        latency = api.DisplayDecodeLatencyType
        self._flags = int(api.VideoPacketFlag.ENDOFPICTURE) if at_once else 0
        self._nv12 = int(api.Pixel_Format.NV12)
        self.frames = 0
        with _TRANSLATED, machine.active():
            self._queue = machine.queue()
            try:
                self._decoder: PyNvDecoder | None = api.CreateDecoder(
                    gpuid=machine.handle.index,
                    codec=nvdec.codec(codec),
                    cudacontext=machine.handle.context,
                    cudastream=self._queue.handle,
                    usedevicememory=True,
                    latency=latency.LOW if at_once else latency.NATIVE,
                )
            except BaseException:
                self._queue.close()
                raise

    def decode(self, address: int, size: int, pts: int) -> Sequence[DecodedFrame]:
        """The frames that a packet completes. No bytes end the stream.

        Args:
            address: of its bytes on the host, in Annex B for H.264 and HEVC.
            size: of them.
            pts: comes back with its frame.

        Raises NvdecError; the session is of no use then.
        """
        assert self._decoder is not None
        packet = self._nvdec.api.PacketData()
        packet.bsl_data, packet.bsl, packet.pts, packet.decode_flag = address, size, pts, self._flags
        with _TRANSLATED, self._nvdec.machine.active():
            frames = self._decoder.Decode(packet)
            for frame in frames:
                if int(frame.format) != self._nv12:
                    raise NvdecError(f"the pictures have become {frame.format.name}")
        self.frames += len(frames)
        return frames

    def image(self, frame: DecodedFrame) -> ImageU8 | DeviceImage:
        """A picture that stays as it is; on the host where there is no more room on the GPU.

        To be called before the next `decode`. Raises CudaError.
        """
        luma, chroma = _planes(frame)
        height, width, *_ = luma.shape
        with self._nvdec.machine.active():
            held = self._pool.take((height, width))
            if held is None:
                self._queue.wait()
                return self._downloads.fetch(_surface(luma, chroma, owner=frame), self._colours)
            # The decoder queues its own work here as well, so that it writes the next picture after this copy.
            queue_copy(self._queue, held.address, luma, chroma, (height, width))
            self._pool.written(self._queue)
        return PooledImage(held, (height, width), self._colours, self._nvdec.machine, self._downloads)

    def close(self) -> None:
        """End the session. Its pictures stay."""
        if self._decoder is None:
            return
        with contextlib.suppress(CudaError), self._nvdec.machine.active():
            try:
                self._pool.settle()
            finally:
                self._decoder = None
                self._queue.close()


def _planes(frame: DecodedFrame) -> Sequence[CAIMemoryView]:
    """Luma and chroma. Raises CudaError."""
    try:
        return frame.cuda()
    except Exception as e:
        raise CudaError(f"a picture of NVDEC cannot be reached: {one_line(e)}") from e


def _surface(luma: CAIMemoryView, chroma: CAIMemoryView, *, owner: object) -> Surface:
    assert luma.stride[0] == chroma.stride[0]
    return Surface(
        address=luma.dataptr,
        size=(luma.shape[0], luma.shape[1]),
        pitch=luma.stride[0],
        format="nv12",
        chroma=chroma.dataptr,
        owner=owner,
    )


def queue_copy(queue: Queue, to: int, luma: CAIMemoryView, chroma: CAIMemoryView, size: tuple[int, int]) -> None:
    """Queue a copy of a picture of (height, width) to NV12 without gaps: in one piece where it lies in one."""
    (height, width), source, pitch, below = size, luma.dataptr, luma.stride[0], chroma.stride[0]
    if chroma.dataptr != source + pitch * height or below != pitch:
        queue.copy_blocks(to, source, width, height, pitch)
        queue.copy_blocks(to + height * width, chroma.dataptr, width, height // 2, below)
    elif pitch != width:
        queue.copy_blocks(to, source, width, height * 3 // 2, pitch)
    else:
        queue.copy(to, source, width * height * 3 // 2)


class _Translated:
    """What is raised inside becomes NvdecError. Not a generator: each packet passes here."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # Exceptions of C++, some of PyNvVideoCodec's own types and some of Python's, share no base class.
        if isinstance(error, Exception) and not isinstance(error, NvdecError):
            raise NvdecError(f"NVDEC failed: {one_line(error)}") from error


_TRANSLATED = _Translated()


def one_line(error: Exception) -> str:
    """The first sentence or so of an error: some go on for pages."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (first or type(error).__name__)[:200]
