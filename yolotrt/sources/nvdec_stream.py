"""A stream of packets through NVDEC, as long as it can, and through PyAV from where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from yolotrt.errors import SourceError
from yolotrt.preprocess.surface import Matrix
from yolotrt.sources.bitstream import brings_headers, length_size, sequence_headers, with_start_codes
from yolotrt.sources.decoders import DamagedPacketError, Decoded, DecodeRequest, PictureDecoder, decoder_of
from yolotrt.sources.device_images import Colours, Downloads, Pool, SurfacePool
from yolotrt.sources.nvdec import Nvdec, NvdecError, NvdecSession
from yolotrt.sources.nvdec_api import DecodedFrame
from yolotrt.sources.pixels import Orientation

if TYPE_CHECKING:
    import av
    from av.bitstream import BitStreamFilterContext
    from av.video.stream import VideoStream

# FFmpeg's numbers of colour matrices; 2 is what no stream names, and BT.601 to FFmpeg.
_MATRICES: dict[int, Matrix] = {
    1: "bt709",
    2: "bt601",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    9: "bt2020",
    10: "bt2020",
}
_FULL_RANGE = 2
_FORMATS = {"yuv420p": False, "yuvj420p": True}  # and whether the name alone says full range
_ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
_START_CODES = (b"\0\0\1", b"\0\0\0\1")

_BLIND = 300  # packets without a key frame; then the stream has none that NVDEC could begin with
_FAILURES = 3  # sessions in a row that fail
_KEPT = 64  # packets whose times are remembered: more than a decoder holds back
_BACK_S = 1.0  # B-frames go back by less; a clock that goes back by more was set anew, or began again at zero


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What the first picture of a stream is like, decoded on the CPU: its packets do not say all of it."""

    size: tuple[int, int]
    colours: Colours | None
    refusal: str = ""

    @classmethod
    def at(cls, stream: VideoStream, packet: av.Packet[Any]) -> _Look:
        """From a key frame's packet. Raises DamagedPacketError."""
        import av

        decoder = decoder_of(stream, "SLICE")
        try:
            # A copy, since an edit list may hide the picture.
            frames = [*decoder.decode(av.Packet(bytes(packet))), *decoder.decode(None)]
        except av.FFmpegError:
            frames = []
        if not frames:
            raise DamagedPacketError("its first picture cannot be looked at")
        frame = frames[0]
        size, matrix = (frame.height, frame.width), _MATRICES.get(int(frame.colorspace))
        refusal = ""
        if frame.format.name not in _FORMATS:
            refusal = f"the pictures are {frame.format.name}, not 4:2:0 with 8 bits"
        elif Orientation.of(frame) != Orientation():
            refusal = "the pictures are to be turned"
        elif frame.interlaced_frame:
            refusal = "the pictures are interlaced"
        elif size[0] % 2 or size[1] % 2:
            refusal = f"{frame.width}x{frame.height} is an odd size"
        elif matrix is None:
            refusal = f"the colour matrix is number {int(frame.colorspace)}"
        if matrix is None or refusal:
            return cls(size=size, colours=None, refusal=refusal)
        colours = Colours(
            pix_fmt=frame.format.name,
            colorspace=int(frame.colorspace),
            color_range=int(frame.color_range),
            matrix=matrix,
            full_range=_FORMATS[frame.format.name] or int(frame.color_range) == _FULL_RANGE,
        )
        return cls(size=size, colours=colours)


class NvdecStream:
    """A `PictureDecoder` that begins at a key frame and looks at it first, whether NVDEC gives what PyAV would.

    A session ends where the headers of the stream change, since NVDEC would scale pictures of another size to the one
    before. One that fails is counted like a damaged packet, and another one begins at the next key frame; a key frame
    that fails again, in a new session, goes to PyAV with all that follows. So does a stream whose session cannot be
    made, where the driver has no more of them.
    """

    def __init__(self, nvdec: Nvdec, request: DecodeRequest, *, forced: bool, pool: Pool | None = None) -> None:
        """See `GpuDecoding.open`.

        Args:
            pool: of the pictures; one of its own by default.
        """
        stream = request.stream
        self._nvdec, self._request, self._stream, self._forced = nvdec, request, stream, forced
        context = stream.codec_context
        self._codec = context.codec.canonical_name
        self._at_once = request.at_once and not context.has_b_frames
        self._time_base = stream.time_base
        extradata = bytes(context.extradata or b"")
        # MP4 and its like store lengths in place of start codes, and the headers apart; a filter puts these in.
        self._is_packed = self._codec in _ANNEX_B and bool(extradata) and not extradata.startswith(_START_CODES)
        self._has_plain_lengths = self._is_packed and length_size(self._codec, extradata) == 4
        self._extradata = extradata if extradata.startswith(_START_CODES) else b""
        self._filter: BitStreamFilterContext | None = None
        self._pool = pool or SurfacePool(nvdec.machine, limit=nvdec.limit, budget=nvdec.budget)
        self._downloads = Downloads(nvdec.machine)
        self._session: NvdecSession | None = None
        self._cpu: PictureDecoder | None = None
        # One that may still hold pictures that were handed out with the packet before.
        self._ended: NvdecSession | None = None
        # Its last ones, which wait for the next packet where the one that ended it has failed.
        self._owed: list[Decoded] = []
        self._headers: frozenset[bytes] = frozenset()
        self._last_time: float | None = None
        self._is_out_of_order = False
        self._is_told = False
        self._skipped = self._failures = 0
        # By time: whether an edit list hides the frame.
        self._hidden: dict[int, bool] = {}

    def decode(self, packet: av.Packet[Any]) -> list[Decoded]:
        if not self._owed:
            self._forget()
        found = self._decode(packet)
        owed, self._owed = self._owed, []
        return owed + found

    def close(self) -> None:
        self._forget()
        if self._session is not None:
            self._session.close()
            self._session = None
        self._pool.close()
        self._downloads.close()

    def _forget(self) -> None:
        if self._ended is not None:
            self._ended.close()
            self._ended = None

    def _decode(self, packet: av.Packet[Any]) -> list[Decoded]:
        """Through a session, which begins here if it can."""
        cpu = self._cpu
        if cpu is not None:
            return cpu.decode(packet)
        if not packet.size and packet.dts is not None:
            return []  # nothing but a moment; only the packet behind the last one ends the stream
        if self._is_packed and packet.is_keyframe and brings_headers(packet):
            self._end()
            self._leave("its headers change on the way")
            return self._decode(packet)
        data = self._bytes(packet)
        changes = packet.is_keyframe and (
            self._is_out_of_order or not sequence_headers(self._codec, data) <= self._headers
        )
        if changes:
            self._end()
        if self._session is None:
            self._begin(packet, data)
        if self._cpu is not None:
            return self._cpu.decode(packet)
        if self._session is None:
            return []
        try:
            return self._through(self._session, packet, data)
        except NvdecError as e:
            return self._after(e, packet, self._session)

    def _end(self) -> None:
        """End the session, if there is one; what it still holds comes before all else."""
        session = self._session
        if session is None:
            return
        try:
            frames = session.decode(0, 0, 0)
        except NvdecError:
            frames = []
        self._session, self._ended = None, session
        self._owed = self._shown(session, frames)

    def _begin(self, packet: av.Packet[Any], data: bytes) -> None:
        """Make a session at a key frame, or leave all to PyAV."""
        if not packet.size:
            return
        refusal = _refusal(self._request)
        if refusal:
            self._leave(refusal)
            return
        if not packet.is_keyframe:
            self._skipped += 1
            if self._skipped > _BLIND:
                self._leave("it has no key frames")
            return
        try:
            look = _Look.at(self._stream, packet)
        except DamagedPacketError as e:
            self._failures += 1
            if self._request.at_once and self._failures < _FAILURES:
                raise  # a camera sends another one soon
            self._leave(str(e))
            return
        refusal = look.refusal or self._nvdec.refusal(self._codec, look.size)
        if refusal or look.colours is None:
            self._leave(refusal)
            return
        try:
            self._session = NvdecSession(
                self._nvdec, self._codec, look.colours, self._pool, self._downloads, at_once=self._at_once
            )
        except NvdecError as e:
            self._leave(str(e))
            return
        self._skipped, self._hidden = 0, {}
        self._last_time, self._is_out_of_order = None, False
        self._headers = sequence_headers(self._codec, data) or sequence_headers(self._codec, self._extradata)
        if not self._is_told:
            self._is_told = True
            self._request.told("nvdec", "")

    def _leave(self, why: str) -> None:
        """PyAV decodes from here on. Raises SourceError where that is not wanted."""
        if self._forced:
            raise SourceError(f"{self._request.name}: NVDEC cannot decode it: {why}", remedy="Use --decoder auto.")
        self._cpu = self._request.on_cpu()
        self._request.told("pyav", why)

    def _after(self, error: NvdecError, packet: av.Packet[Any], session: NvdecSession) -> list[Decoded]:
        """Go on after a session has failed at a packet."""
        session.close()
        self._session = None
        self._failures += 1
        if packet.is_keyframe and session.frames:
            return self._decode(packet)
        if packet.is_keyframe or self._failures >= _FAILURES:
            self._leave(str(error))
            return self._decode(packet)
        raise DamagedPacketError(str(error)) from error

    def _through(self, session: NvdecSession, packet: av.Packet[Any], data: bytes) -> list[Decoded]:
        if packet.is_keyframe and not self._hidden and not sequence_headers(self._codec, data):
            data = self._extradata + data  # a camera may have told them beforehand alone
        array, pts = np.frombuffer(data, np.uint8), packet.pts
        if packet.size:
            if len(self._hidden) >= _KEPT:
                self._hidden.pop(next(iter(self._hidden)))
            self._hidden[-1 if pts is None else pts] = packet.is_discard
        frames = session.decode(array.ctypes.data if data else 0, len(data), 0 if pts is None else pts)
        if frames:
            self._failures = 0
        return self._shown(session, frames)

    def _shown(self, session: NvdecSession, frames: Sequence[DecodedFrame]) -> list[Decoded]:
        found = [self._decoded(session, frame) for frame in frames]
        for frame in found:
            back = 0.0 if frame.time is None or self._last_time is None else self._last_time - frame.time
            if self._at_once and 0 < back < _BACK_S:
                # It has B-frames, which its headers do not tell: from the next key frame on it waits for them.
                self._at_once, self._is_out_of_order = False, True
            self._last_time = frame.time
        return [frame for frame in found if not (frame.pts is not None and self._hidden.get(frame.pts))]

    def _decoded(self, session: NvdecSession, frame: DecodedFrame) -> Decoded:
        # A time that no packet had is a guess of the decoder's.
        ticks = frame.getPTS()
        pts = ticks if ticks in self._hidden else None
        base = self._time_base
        time = None if pts is None or base is None else pts * base.numerator / base.denominator
        return Decoded(pts=pts, time=time, damaged=False, picture=partial(session.image, frame))

    def _bytes(self, packet: av.Packet[Any]) -> bytes:
        """A packet as NVDEC takes it: H.264 and HEVC with start codes."""
        data = bytes(packet)
        if not data or not self._is_packed:
            return data
        found = None if packet.is_keyframe or not self._has_plain_lengths else with_start_codes(data)
        return self._filtered(packet, data) if found is None else found

    def _filtered(self, packet: av.Packet[Any], data: bytes) -> bytes:
        """By FFmpeg, which also puts the headers in front of a key frame that comes without."""
        import av

        # It remembers whether they came, up to a picture that is no key frame, which it need not have seen.
        if self._filter is None or packet.is_keyframe:
            self._filter = av.BitStreamFilterContext(_ANNEX_B[self._codec], self._stream)
        copy = av.Packet(data)  # the filter takes what it is given, and PyAV may still need it
        copy.pts, copy.dts = packet.pts, packet.dts
        try:
            return b"".join(map(bytes, self._filter.filter(copy)))
        except av.FFmpegError as e:
            raise DamagedPacketError(str(e)) from e


def _refusal(request: DecodeRequest) -> str:
    """Why a stream is none for NVDEC, as far as its container tells; else empty."""
    if request.container == "avi":
        return "AVI does not say when its pictures are shown"
    return "the pictures are to be turned" if request.turned else ""
