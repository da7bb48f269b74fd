"""What an annotated video takes over from its source besides the pictures: sound, and where its time begins."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotrt.sources.video import demuxed, lenient

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer

_logger = logging.getLogger(__name__)

# What players take in MP4. PCM and Vorbis would fit into the file, yet hardly anything plays them from there.
_KEPT = frozenset(("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"))
_CONTAINER_OPTIONS = {
    "format_whitelist": "mov,matroska,avi,mpegts,mpeg,asf,flv,ogg",
    "protocol_whitelist": "file",
}
_GAP_S = Fraction(1, 10)
# Their time begins at 0, so a late start means something; that of a transport stream begins anywhere.
_FROM_ZERO = ("mov", "matroska")


class SourceMedia:
    """The sound of a video file, to be written beside its annotated pictures.

    Attributes:
        offset_s: seconds at which the first picture of the source is shown.
    """

    def __init__(self, path: Path) -> None:
        """Open a video file. One that cannot be opened, or that has no sound, gives none; the pictures are more."""
        self.offset_s = 0.0
        self._path = path
        self._tracks: dict[int, _Track] = {}
        self._held: av.Packet[Any] | None = None
        self._is_damaged = False
        self._container, self._origin = _opened(path)
        if self._container is not None:
            self.offset_s = max(_first_picture_s(path) - self._origin, 0.0)
            self._packets = self._demux(self._container)

    def add_to(self, target: OutputContainer) -> None:
        """Add a stream to `target` for each sound track: as it is where MP4 can hold it, else as AAC."""
        for source in self._container.streams.audio if self._container is not None else ():
            track = self._track(source, target)
            if track is not None:
                self._tracks[source.index] = track

    def mux_until(self, target: OutputContainer, seconds: float) -> None:
        """Write the sound up to this time of the source."""
        while self._tracks:
            packet = self._held or next(self._packets, None)
            self._held = None
            if packet is None:
                break
            if packet.time_base is not None and packet.dts is not None:
                if float(packet.dts * packet.time_base) - self._origin > seconds:
                    self._held = packet
                    break
                self._mux(packet, target)

    def _mux(self, packet: av.Packet[Any], target: OutputContainer) -> None:
        """Write a packet; a damaged one is left out, since the pictures are more. A disk that fails still raises."""
        import av

        try:
            self._tracks[packet.stream.index].mux(packet, target)
        except (av.FFmpegError, ValueError) as e:
            if isinstance(e, OSError):
                raise
            if not self._is_damaged:
                why = getattr(e, "strerror", None) or e
                _logger.warning("%s: some of its sound is damaged and left out (%s)", self._path, why)
            self._is_damaged = True

    def finish(self, target: OutputContainer, seconds: float) -> None:
        """Write the sound up to this time of the source, and what the encoders still hold."""
        self.mux_until(target, seconds)
        for track in self._tracks.values():
            track.flush(target)

    def close(self) -> None:
        """Let go of the file. Calling it again does nothing."""
        self._tracks = {}
        if self._container is not None:
            self._container.close()
            self._container = None

    def _track(self, source: AudioStream, target: OutputContainer) -> _Track | None:
        import av

        try:
            return _Track(source, target, self._origin)
        except (av.FFmpegError, ValueError) as e:
            _logger.warning("%s: sound track %d cannot be kept (%s)", self._path, source.index, e)
            return None

    def _demux(self, container: InputContainer) -> Iterator[av.Packet[Any]]:
        import av

        # Damage ends the sound; that the file is damaged is told by whoever reads the pictures.
        with contextlib.suppress(av.FFmpegError):
            for packet in demuxed(container, *(s for s in container.streams.audio if s.index in self._tracks)):
                if packet.size:
                    yield packet


class _Track:
    """One sound track on its way from file to file."""

    def __init__(self, source: AudioStream, target: OutputContainer, origin: float) -> None:
        self._origin = origin
        self._last_dts: int | None = None
        self._next: Fraction | None = None
        if source.codec_context is None:  # whatever PyAV's types say: a codec of a newer phone, for instance
            raise ValueError("FFmpeg does not know its codec")
        if not source.codec_context.sample_rate or not source.codec_context.channels:  # MP4 must say so at its begin
            raise ValueError("it begins too late")
        # The codec, not the decoder, of which there are several.
        self._copied = source.codec_context.codec.canonical_name in _KEPT
        if self._copied:
            self._stream = target.add_stream_from_template(source)
        else:
            self._stream = target.add_stream("aac", rate=_aac_rate(source.rate))
            self._stream.codec_context.layout = "stereo" if source.channels > 1 else "mono"
            self._stream.codec_context.open()
        language = source.metadata.get("language")
        if language:
            self._stream.metadata["language"] = language

    def mux(self, packet: av.Packet[Any], target: OutputContainer) -> None:
        if self._copied:
            assert packet.time_base is not None
            shift = round(Fraction(self._origin) / packet.time_base)
            packet.pts, packet.dts = (None if t is None else t - shift for t in (packet.pts, packet.dts))
            if self._last_dts is not None and packet.dts is not None and packet.dts <= self._last_dts:
                # They would end the whole file.
                raise ValueError("its times run back, as behind the first of several parts")
            self._last_dts = packet.dts
            packet.stream = self._stream
            target.mux(packet)
            return
        for frame in _decoded(packet):
            self._set_time(frame)
            target.mux(self._stream.encode(frame))

    def _set_time(self, frame: av.AudioFrame) -> None:
        """Give a decoded frame its place: right behind the one before, unless there is a gap.

        The times that containers store are rounded, which an encoder would take for frames that overlap.
        """
        start = self._next
        if frame.pts is not None and frame.time_base is not None:
            stored = frame.pts * frame.time_base - Fraction(self._origin)
            if start is None or stored > start + _GAP_S:
                start = stored
        start = start or Fraction(0)
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = round(start / frame.time_base)
        self._next = start + frame.samples * frame.time_base

    def flush(self, target: OutputContainer) -> None:
        if not self._copied:
            target.mux(self._stream.encode(None))


def _decoded(packet: av.Packet[Any]) -> list[Any]:
    import av

    try:
        return list(packet.decode())
    except av.FFmpegError:
        return []  # a damaged piece is a gap


def _opened(path: Path) -> tuple[InputContainer | None, float]:
    """The container, and the second of its time that is second 0 of the copy. None for what has neither."""
    import av

    try:
        container = av.open(str(path), container_options=_CONTAINER_OPTIONS, **lenient(av.__version__))
    except (av.FFmpegError, OSError):
        return None, 0.0
    if container.format.name.startswith(_FROM_ZERO) or container.start_time is None:
        return container, 0.0
    return container, container.start_time / 1_000_000  # FFmpeg's AV_TIME_BASE


def _first_picture_s(path: Path) -> float:
    """The time of the first picture that can be decoded, which may be later than the first packet."""
    import av

    options = lenient(av.__version__)
    with (
        contextlib.suppress(av.FFmpegError),
        av.open(str(path), container_options=_CONTAINER_OPTIONS, **options) as container,
    ):
        if container.format.name == "avi":  # it stores no times, and those that FFmpeg makes up lag behind
            return 0.0
        for packet in demuxed(container, container.streams.video[0]):
            for frame in packet.decode():
                return float(frame.time or 0.0)
    return 0.0


def _aac_rate(rate: int) -> int:
    """The nearest sampling rate that AAC has."""
    rates = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
    return min(rates, key=lambda r: abs(r - rate))
