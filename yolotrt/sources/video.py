"""Video files, through PyAV (FFmpeg); decoded on the CPU or the GPU, see `yolotrt.sources.decoders`."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolotrt.errors import MissingExtraError, SourceError
from yolotrt.sources.base import Source, SourceInfo, Watcher
from yolotrt.sources.decoders import AvDecoder, DamagedPacketError, Decoded, DecodeRequest, PictureDecoder
from yolotrt.sources.pixels import Converter, Orientation
from yolotrt.sources.recorded import RecordedClock
from yolotrt.types import Frame

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .ts .mts .m2ts .mpg .mpeg .wmv .flv .ogv .3gp .gif .h264 .h265 .hevc".split()  # noqa: SIM905
)
"""What a video's name ends in, in lower case."""

# FFmpeg would also take a text file for a video (of a terminal), and a playlist, which makes it open other files.
_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,gif,h264,hevc,m4v,obu,ivf,mxf,nut,dv,wtv,yuv4mpegpipe"

_DEFAULT_TIME_BASE = Fraction(1, 90_000)
_LATE = 2  # FFmpeg's parsers give a packet when the next one begins, and mark it for a gap in that one


class VideoSource(Source):
    """The frames of a video file, each once, in the order and at the times they are shown.

    Where times begin anew, as in files of `cat a.ts b.ts`, they go on from the last one.

    Rotation and mirroring of the file's display matrix are applied; the colour matrix and range that the file names
    are used (BT.601, limited range, where it names none, as FFmpeg does). A file that ends before its time, or with
    packets that cannot be decoded, gives what can be read; then that is reported as a problem.

    Raises:
        SourceError: missing, not a video, or (while iterating) without a single frame.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _opened(path) as (container, stream):
            rotated = _probe_orientation(container, stream)
            self._is_turned = rotated != Orientation()
            height, width = stream.height, stream.width
            frames, rate = _frames_and_rate(container, stream)
            super().__init__(
                SourceInfo(
                    kind="video",
                    name=str(path),
                    size=(width, height) if rotated.transpose else (height, width),
                    fps=rate,
                    frames=frames,
                    time_base=stream.time_base,
                )
            )

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self._path,)

    @property
    def recipe(self) -> Callable[[], Source] | None:
        # What another class makes of it, this one does not know.
        return partial(VideoSource, self._path) if type(self) is VideoSource else None

    def __iter__(self) -> Iterator[Frame]:
        return self.chosen(lambda _: True)

    def chosen(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        """The frames whose index is wanted. The others are only decoded, since those that follow rest on them."""
        with (
            _opened(self._path) as (container, stream),
            contextlib.closing(self._decoder(container, stream)) as decoder,
        ):
            health = _Health(container, stream)
            clock = RecordedClock()
            first: int | None = None
            count = 0
            decoded = _decode(container, stream, decoder, health, self.watcher)
            while True:
                started = time.perf_counter()
                frame = next(decoded, None)
                if frame is None:
                    break
                ticks = health.slots.popleft() if health.slots else frame.pts
                if first is None:
                    first = ticks
                seconds = self._seconds(ticks, first, count, clock)
                if wanted(count) and self.watcher.wants(count, seconds):
                    try:
                        shown = self._frame(frame, count, seconds, started)
                    except DamagedPacketError:
                        health.spoilt += 1
                        self.watcher.corrupt()
                    else:
                        yield shown
                count += 1
            self._judge(count - health.spoilt, health)

    def _frame(self, decoded: Decoded, index: int, seconds: float, started: float) -> Frame:
        return Frame(
            picture=decoded.picture(),
            source_id=str(self._path),
            index=index,
            timestamp_s=seconds,
            decode_s=time.perf_counter() - started,  # last: it counts making the picture, too
        )

    def _decoder(self, container: InputContainer, stream: VideoStream) -> PictureDecoder:
        return self.decoders.open(
            DecodeRequest(
                stream=stream,
                on_cpu=lambda: AvDecoder(stream.codec_context, Converter()),
                told=self.watcher.decoder,
                name=str(self._path),
                container=container.format.name,
                turned=self._is_turned,
            )
        )

    def _seconds(self, ticks: int | None, first: int | None, index: int, clock: RecordedClock) -> float:
        if ticks is None or first is None:  # raw H.264 carries no times at all
            return float(index / (self.info.fps or 25))
        base = self.info.time_base or _DEFAULT_TIME_BASE
        # What a Fraction gives, at a tenth of the cost.
        return clock.place((ticks - first) * base.numerator / base.denominator)

    def _judge(self, count: int, health: _Health) -> None:
        if count == 0:
            raise SourceError(f"{self._path}: the video has no frames", remedy="Copy or download it again.")
        what = health.verdict()
        if what:
            self.on_problem(
                SourceError(
                    f"{self._path}: the video {what}; the {count} frames that could be read are kept",
                    remedy="Copy or download it again.",
                )
            )


class _Health:
    """Watches the packets of a video for signs that its end, or something in between, is missing."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        self._is_avi = _is_avi(container)
        self.packets = self._damaged = self._gaps = 0
        self.spoilt = 0
        """Frames that are no pictures."""
        self._gap_at = -_LATE  # the number of a packet
        self.cut = _index_passes_end(container, stream)
        self._end = 0  # of the last packet, in units of the stream
        self.slots: deque[int] = deque()
        """AVI: the times of the packets whose frames are still to come. It stores no presentation times (FFmpeg passes
        the order of decoding off as one), but as many packets, in step, as frames are shown."""
        self._last_slot, self._longest = -1, 1

    def saw(self, packet: av.Packet[Any]) -> None:
        if self._is_avi and packet.dts is not None:
            self.slots.append(packet.dts)
            self._longest = max(self._longest, packet.dts - self._last_slot)
            self._last_slot = packet.dts
        self.packets += 1
        if packet.is_corrupt:
            self._gap_at = self.packets
        if packet.pts is not None:
            self._end = max(self._end, packet.pts + (packet.duration or 0))

    def gap(self) -> None:
        """A packet of which FFmpeg says that something is missing, in it or beside it; it was decoded nevertheless."""
        self._gaps += 1

    def lost(self) -> None:
        """A packet that cannot be decoded."""
        self._damaged += 1
        if self.slots:
            self.slots.popleft()

    def verdict(self) -> str:
        """What is wrong, as the end of a sentence; empty if nothing is."""
        if self.cut or self.packets - self._gap_at < _LATE or self._falls_short():
            return "is cut short"
        found = []
        if self._damaged or self.spoilt:
            found.append(f"{self._damaged + self.spoilt} packets cannot be decoded")
        if self._gaps:
            found.append(f"{self._gaps} packets are not whole")
        return f"is damaged ({', '.join(found)})" if found else ""

    def _falls_short(self) -> bool:
        if self._is_avi:
            # It counts empty packets as well, which repeat a frame and are passed over, maybe behind the last one, too.
            # FFmpeg shortens the duration of a file that ends before its first part does.
            frames = self._stream.frames
            return (self._stream.duration or frames) < frames or self._last_slot + self._longest < frames
        # MP4 counts frames that an edit list hides, so only its index (checked above) tells.
        if "mp4" not in self._container.format.name and self.packets < self._stream.frames:
            return True
        stated = _seconds(self._stream.metadata.get("DURATION", ""))  # Matroska
        frame_s = float(1 / (self._stream.average_rate or 25))
        end_s = float(self._end * (self._stream.time_base or 0))
        return stated is not None and end_s < stated - max(2 * frame_s, 0.1)


def _decode(
    container: InputContainer, stream: VideoStream, decoder: PictureDecoder, health: _Health, watcher: Watcher
) -> Iterator[Decoded]:
    import av

    packets = demuxed(container, stream)
    packet: av.Packet[Any] | None
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            health.cut = True
            packet = av.Packet()  # without bytes, as at the end of a file: the decoder gives what it still holds
        if packet is None:
            break
        if packet.size:
            health.saw(packet)
        try:
            yield from decoder.decode(packet)
        except DamagedPacketError:
            health.lost()
            watcher.corrupt()
        else:
            if packet.is_corrupt:
                health.gap()
                watcher.corrupt()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        import av
    except ImportError as e:
        raise MissingExtraError("av", "video", needed_for=f"reading the video {path}") from e
    try:
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: the video is empty (zero bytes)", remedy="Copy or download it again.")
        options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
        container = av.open(str(path), container_options=options, **lenient(av.__version__))
    except av.FFmpegError as e:
        raise SourceError(f"{path}: not a video, or a damaged one") from e
    except OSError as e:
        what = "no such file" if isinstance(e, FileNotFoundError) else e.strerror or str(e)
        raise SourceError(f"{path}: cannot read the video: {what}") from e
    with container:
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if streams and streams[0].codec_context is None:  # whatever PyAV's types say
            raise SourceError(f"{path}: FFmpeg does not know the codec of the video")
        if not streams or not streams[0].width:
            raise SourceError(f"{path}: the file has no video stream", got=_kinds(container))
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def demuxed(container: InputContainer, *streams: Stream) -> Iterator[av.Packet[Any]]:
    """`container.demux`, also of a file with a stream that begins late, for which PyAV raises IndexError on the way."""
    ended: set[int] = set()
    while True:
        moves = False
        try:
            for packet in container.demux(*streams):
                if packet.size or packet.dts is not None:
                    yield packet
                elif packet.stream.index not in ended:  # the packet that ends a stream, which would come once more
                    ended.add(packet.stream.index)
                    yield packet
                else:
                    continue
                moves = True
        except IndexError:
            if moves:
                continue
        return


def lenient(version: str) -> dict[str, Any]:
    """Options for `av.open`: titles that are not UTF-8 must not stop a video. PyAV 19 dropped the option."""
    return {"metadata_errors": "replace"} if int(version.split(".", maxsplit=1)[0]) < 19 else {}


def _kinds(container: InputContainer) -> str:
    return ", ".join(sorted({s.type for s in container.streams})) or "no streams at all"


def _probe_orientation(container: InputContainer, stream: VideoStream) -> Orientation:
    import av

    with contextlib.suppress(av.FFmpegError):
        for packet in demuxed(container, stream):
            with contextlib.suppress(av.FFmpegError):
                for frame in packet.decode():
                    return Orientation.of(frame)
    return Orientation()


def _frames_and_rate(container: InputContainer, stream: VideoStream) -> tuple[int | None, Fraction | None]:
    count, rate = _frame_count(container, stream), stream.average_rate or stream.guessed_rate
    entries = len(getattr(stream, "index_entries", ()))  # PyAV 16 and later
    if _is_avi(container) and count and rate and 0 < entries < count and stream.duration == count:
        return entries, rate * entries / count  # the rest are empty packets, for frames that stay
    return count, rate


def _is_avi(container: InputContainer) -> bool:
    return container.format.name == "avi"


def _frame_count(container: InputContainer, stream: VideoStream) -> int | None:
    if stream.frames:
        return stream.frames
    seconds = _seconds(stream.metadata.get("DURATION", ""))
    if seconds is None and stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    if seconds is None and container.duration:
        seconds = container.duration / 1_000_000  # FFmpeg's AV_TIME_BASE
    return round(seconds * stream.average_rate) if seconds and stream.average_rate else None


def _index_passes_end(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the file's index names packets behind the file's end."""
    entries: Any = getattr(stream, "index_entries", ())  # PyAV 16 and later
    if not len(entries):
        return False
    last = entries[len(entries) - 1]
    return bool(last.pos + last.size > container.size > 0)


def _seconds(text: str) -> float | None:
    """Seconds of "HH:MM:SS.fraction"; None for anything else."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None
