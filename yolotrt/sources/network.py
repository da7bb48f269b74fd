"""Network streams: RTSP cameras, HTTP, HLS and what else FFmpeg reads, through PyAV."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from yolotrt.errors import MissingExtraError
from yolotrt.sources.address import check_place, has_credentials, host_of, scheme_of, without_credentials
from yolotrt.sources.base import Source, SourceInfo
from yolotrt.sources.decoders import AvDecoder, DamagedPacketError, DecodeRequest, PictureDecoder, decoder_of
from yolotrt.sources.live import LiveOptions, LiveSource, LostError, Shot
from yolotrt.sources.pixels import Converter
from yolotrt.sources.video import demuxed, lenient

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_TRANSPORTS = {"auto": ("tcp", "udp"), "tcp": ("tcp",), "udp": ("udp", "tcp")}
_UDP_PROOF_S = 3.0  # by then a picture has come over UDP, or none will
_BLIND = 6  # read time-outs without a picture in what arrives; key frames may be far apart
# FFmpeg numbers the pictures of these itself, 25 a second, whatever the camera does.
_WITHOUT_TIMES = ("mpjpeg", "mjpeg", "jpeg_pipe", "h264", "hevc")
_JUMP_S = 2.0  # from one picture of a playlist to the next
_LOST_S = 30.0  # a playlist that is so far from its pace has none
_UNKNOWN_PAUSE_S = 30.0  # between questions for a stream that the server does not know, and never gave

# A playlist from the network must not make FFmpeg open files of this machine.
_PROTOCOLS = "http,https,tcp,tls,udp,rtp,srtp,rtsp,rtsps,rtmp,rtmps,rtmpe,srt,crypto,data,httpproxy"


class NetworkSource(LiveSource):
    """A stream by its address, which may hold `user:password@`; no message, name or frame does.

    An address of a finished recording (an MP4 file over HTTP, an HLS playlist with an end) is read like a file: every
    frame, once. Whether it is one is known when the first frame is there.

    Raises:
        UsageError: the address has no host, or an impossible port.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, url: str, *, name: str | None = None, options: LiveOptions | None = None) -> None:
        check_place(url)
        try:
            import av  # noqa: F401
        except ImportError as e:
            raise MissingExtraError("av", "video", needed_for=f"reading {without_credentials(url)}") from e
        super().__init__(
            SourceInfo(kind="stream", name=name or without_credentials(url), live=True), options or LiveOptions()
        )
        self._url = url
        self._last_picture = 0.0
        is_rtsp = scheme_of(url) in ("rtsp", "rtsps")
        self._transports: tuple[str, ...] = _TRANSPORTS[self.options.rtsp_transport] if is_rtsp else ("",)

    @property
    def recipe(self) -> Callable[[], Source] | None:
        if type(self) is not NetworkSource:
            return None
        return partial(NetworkSource, self._url, name=self.info.name, options=self.options)

    def _shots(self) -> Iterator[Shot]:
        first, *others = self._transports
        try:
            yield from self._over(first, self._patience_s(first, has_other=bool(others)))
        except LostError as e:
            if not (e.refused and others):
                raise
        else:
            return
        self._transports = (*others, first)  # the next connection begins with it as well
        self._tell(f"{self.info.name}: no pictures over {first.upper()}, trying {others[0].upper()}")
        yield from self._over(others[0], self.options.connect_timeout_s)

    def _patience_s(self, transport: str, *, has_other: bool) -> float:
        patience = self.options.connect_timeout_s
        return min(patience, _UDP_PROOF_S) if transport == "udp" and has_other else patience

    def _over(self, transport: str, patience_s: float) -> Iterator[Shot]:
        with self._opened(transport, patience_s) as container:
            stream = _best(container)
            if stream is None:
                raise LostError(f"{self.info.name}: no video in the stream that FFmpeg knows", hopeless=True)
            self._connected((stream.height, stream.width) if stream.width else None, stream.average_rate)
            yield from self._read(container, stream)

    def _decoder(self, container: InputContainer, stream: VideoStream) -> PictureDecoder:
        threads = "SLICE" if self.info.live else "AUTO"
        return self.decoders.open(
            DecodeRequest(
                stream=stream,
                on_cpu=lambda: AvDecoder(decoder_of(stream, threads), Converter(mirrored=False)),
                told=self.watcher.decoder,
                name=self.info.name,
                container=container.format.name,
                at_once=self.info.live,
            )
        )

    def _read(self, container: InputContainer, stream: VideoStream) -> Iterator[Shot]:
        with contextlib.closing(self._decoder(container, stream)) as decoder:
            yield from self._shoot(container, stream, decoder)

    def _shoot(self, container: InputContainer, stream: VideoStream, decoder: PictureDecoder) -> Iterator[Shot]:
        pace = _Pace() if self.info.live and container.format.name == "hls" else None
        # An HLS segment is there at once and waits for its time: that is no backlog.
        backlog = _Backlog(self.options.max_latency_s) if self.info.live and pace is None else None
        has_times = container.format.name not in _WITHOUT_TIMES
        for packet in self._packets(container, stream, backlog):
            received, started = time.monotonic(), time.perf_counter()
            try:
                frames = decoder.decode(packet)
                whole = not (packet.is_corrupt or any(frame.damaged for frame in frames))
            except DamagedPacketError:
                frames, whole = [], False
            if not whole:
                self.watcher.corrupt()
            spent = time.perf_counter() - started
            for frame in frames:
                self._last_picture = received
                if pace is not None:
                    self._stopped.wait(pace.wait_s(frame.time))
                    received = time.monotonic()
                yield Shot(
                    received_s=received,
                    camera_s=frame.time if has_times else None,
                    decode_s=spent / len(frames),
                    picture=frame.picture,
                )

    def _packets(
        self, container: InputContainer, stream: VideoStream, backlog: _Backlog | None
    ) -> Iterator[av.Packet[Any]]:
        """Those of the video that are worth decoding, as they come."""
        import av

        limit = self.options.read_timeout_s
        packets = demuxed(container)  # the sound as well, which must not hide that no picture comes
        last_packet = self._last_picture = time.monotonic()
        while not self._stopped.is_set():
            asked = time.monotonic()
            failure = ""
            try:
                packet = next(packets, None)
            except av.FFmpegError as e:
                # Not the error itself, which would keep this function, and with it the container, in a circle.
                failure, packet = e.strerror or type(e).__name__, None
            now = time.monotonic()
            # FFmpeg hands out the rest of its last packet when the time is over, and the error only after another wait.
            if now - (last_packet if self.info.live else asked) > 0.98 * limit:
                raise LostError(f"{self.info.name}: no picture for {limit:g} s")
            if failure:
                raise LostError(f"{self.info.name}: the connection broke ({failure})")
            if packet is None:
                return
            if backlog is not None:
                backlog.waited(now - asked, now)
            if packet.stream.index != stream.index:  # and not stream_index, which is 0 for the end of any stream
                continue
            last_packet = now
            if self.info.live and now - self._last_picture > _BLIND * limit:
                raise LostError(f"{self.info.name}: data arrives, and no picture in it for {_BLIND * limit:g} s")
            if backlog is not None and packet.size and not backlog.keeps_up(now, is_key=packet.is_keyframe):
                self.watcher.late()
                continue
            yield packet
            last_packet = time.monotonic()  # what the reader does with it is not the camera's silence

    @contextlib.contextmanager
    def _opened(self, transport: str, patience_s: float) -> Iterator[InputContainer]:
        import av

        # The frame rate is not worth a wait of twenty pictures.
        options = {"fpsprobesize": "0", "protocol_whitelist": _PROTOCOLS}
        if transport:
            options |= {"rtsp_transport": transport, "allowed_media_types": "video"}
        timeout = (patience_s, self.options.read_timeout_s)
        started = time.monotonic()
        failure = None
        try:
            container = av.open(self._url, timeout=timeout, container_options=options, **lenient(av.__version__))
        except av.FFmpegError as e:
            failure = e.with_traceback(None)
        took = time.monotonic() - started
        if failure is not None:  # raised here, since FFmpeg's own error holds the address with the password
            raise self._judged(failure, transport, took, patience_s)
        with container:
            if transport == "udp" and took > 0.98 * patience_s:  # what the server says of the stream opens it as well
                raise LostError(f"{self.info.name}: nothing arrives over UDP", refused=True)
            if transport == "" and container.duration:
                self.info = dataclasses.replace(self.info, live=False)
            yield container

    def _judged(self, failure: av.FFmpegError, transport: str, took_s: float, patience_s: float) -> LostError:
        import av

        name = self.info.name
        if isinstance(failure, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
            return self._locked_out()
        if isinstance(failure, av.error.HTTPNotFoundError):
            return LostError(f"{name}: the server knows no such stream (404)", pause_s=_UNKNOWN_PAUSE_S)
        if isinstance(failure, av.error.HTTPClientError):
            return LostError(f"{name}: the server refuses ({failure.strerror})", pause_s=_UNKNOWN_PAUSE_S)
        if isinstance(failure, av.error.ProtocolNotFoundError):
            return LostError(f"{name}: this FFmpeg does not read {scheme_of(self._url)}://", hopeless=True)
        if took_s > 0.98 * patience_s:
            return LostError(f"{name}: no answer within {patience_s:g} s", refused=transport == "udp")
        if failure.errno == errno.EIO and (host := host_of(self._url)) and not _is_known(host):
            return LostError(f"{name}: no host of the name {host} is known")
        refused = failure.errno == errno.EPROTONOSUPPORT
        return LostError(f"{name}: cannot connect ({failure.strerror})", refused=refused)

    def _locked_out(self) -> LostError:
        if has_credentials(self._url):
            what = "the server refuses the user or the password"
            remedy = "Those in the address are wrong, or of somebody who may not see this stream."
        else:
            what = "the server gives nothing without a user and a password"
            remedy = f"Give them as {scheme_of(self._url)}://USER:PASSWORD@..."
        return LostError(f"{self.info.name}: {what}", remedy=remedy, pause_s=2 * _UNKNOWN_PAUSE_S, hopeless=True)


def _best(container: InputContainer) -> VideoStream | None:
    """The video with the most pixels, if FFmpeg knows any; others, as HLS offers for slower lines, are not fetched."""
    import av

    videos = [s for s in container.streams.video if s.codec_context and not s.disposition & s.disposition.attached_pic]
    best = max(videos, key=lambda s: (s.width or 0) * (s.height or 0), default=None)
    # With its sound, since a playlist is fetched for either.
    for other in container.streams if len(videos) > 1 else ():
        if other is not best:
            with contextlib.suppress(AttributeError):  # an older PyAV fetches them, too
                other.discard = av.stream.Discard.all
    return best


def _is_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True


class _Backlog:
    """Notices that packets wait for the decoder instead of the reverse, and says which to leave out until that is over.

    It looks at nothing but whether the next packet was there already: clocks of cameras are not to be trusted.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._waited_at = self._asked_at = time.monotonic()
        self._jumping = self._has_stood = False

    def waited(self, seconds: float, now: float) -> None:
        """The reader waited so long for a packet of whatever kind."""
        if seconds > 0.001:
            self._waited_at, self._has_stood = now, False

    def keeps_up(self, now: float, *, is_key: bool) -> bool:
        """Whether to decode this packet of the video."""
        pause = now - self._asked_at
        if pause > self._limit_s / 2 and not self._has_stood:
            # The machine may have stood still: what waits is soon decoded. Or each picture takes so long.
            self._waited_at, self._has_stood = min(self._waited_at + pause, now), True
        self._asked_at = now
        if now - self._waited_at > self._limit_s:
            self._jumping = True
        elif is_key:
            self._jumping = False
        return not self._jumping


class _Pace:
    """Spreads the pictures of an HLS segment, which arrive all at once, over its time."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last_s = self._step_s = 0.0

    def wait_s(self, camera_s: float | None) -> float:
        """Seconds until a picture is due."""
        if camera_s is None:
            return 0.0
        now = time.monotonic()
        # An advertisement or a new encoder has times of its own, which say nothing of when its first picture is due.
        step = camera_s - self._last_s
        jumps = abs(step) > max(_JUMP_S, 2 * self._step_s)  # a picture every few seconds is a pace as well
        self._last_s, self._step_s = camera_s, step
        if self._offset is None or jumps or abs(camera_s + self._offset - now) > _LOST_S:
            self._offset = now - camera_s
        return max(camera_s + self._offset - now, 0.0)
