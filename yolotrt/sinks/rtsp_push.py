"""Annotated streams to an RTSP server, which hands them on to its own clients."""

from __future__ import annotations

import logging
import threading
from urllib.parse import quote

from yolotrt.errors import MissingExtraError, YolotrtError
from yolotrt.plotting import draw_result
from yolotrt.sinks import h264
from yolotrt.sinks.base import Sink
from yolotrt.sinks.child import Child
from yolotrt.sinks.h264 import Encoder
from yolotrt.sinks.newest import Held, Newest, StreamOf, own_stream
from yolotrt.sinks.pictures import Names, safe_name
from yolotrt.sinks.rtsp_publisher import RESIZED
from yolotrt.sources.address import without_credentials
from yolotrt.types import FrameResult

_logger = logging.getLogger(__name__)

_WAITS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # before it is tried again
_END_S = 0.5  # that the end of a run waits for the server


class RtspPushSink(Sink):
    """Publishes every stream of the run as H.264, by RTSP over TCP (ANNOUNCE and RECORD, as MediaMTX takes them).

    One stream goes to `url` itself, several to `url/NAME`. The server is no part of the run: while it is away, slow or
    silent, pictures are left out, and it is tried again and again. What happens is logged, without the password.
    """

    def __init__(
        self, url: str, *, several: bool = False, encoder: Encoder = "auto", stream_of: StreamOf = own_stream
    ) -> None:
        """Args: several: whether streams come side by side; if not, whatever comes goes to the one address.

        Raises:
            MissingExtraError: PyAV is not installed.
            UsageError: there is no such encoder.
        """
        super().__init__()
        try:
            import av  # noqa: F401
        except ImportError as e:
            raise MissingExtraError("av", "video", needed_for="publishing streams") from e
        h264.check_encoder(encoder)
        self._url, self._several, self._encoder = url, several, encoder
        self._newest = Newest(stream_of)
        self._pushes: dict[str, _Push] = {}
        self._names = Names()

    def write(self, result: FrameResult) -> None:
        name = self._newest.put(result)
        if not self._several and not self._pushes:
            self._pushes[name] = _Push(self._url, self._encoder, None, self._newest)
        elif self._several and name not in self._pushes:
            url = f"{self._url.rstrip('/')}/{quote(self._names.free(safe_name(name)), safe='')}"
            self._pushes[name] = _Push(url, self._encoder, name, self._newest)

    def close(self) -> None:
        self._newest.close()
        for push in self._pushes.values():
            push.close(_END_S / len(self._pushes))


class _Push:
    """One stream on its way to the server, through a process of its own."""

    def __init__(self, url: str, encoder: Encoder, stream: str | None, newest: Newest) -> None:
        self._config = {"url": url, "encoder": encoder}
        self._shown = without_credentials(url)
        self._stream, self._newest = stream, newest
        self._stopped = threading.Event()
        self._child: Child | None = None
        self._trouble, self._troubles = "", 0
        self._is_published = False
        self._sent = 0  # number of the last one
        self._thread = threading.Thread(target=self._run, name="yolotrt-push", daemon=True)
        self._thread.start()

    def close(self, patience_s: float) -> None:
        """End it; the newest results must be closed."""
        self._stopped.set()
        self._thread.join(patience_s)
        while self._thread.is_alive():  # it may just be starting the next process
            if self._child is not None:
                self._child.kill()
            self._thread.join(0.1)

    def _run(self) -> None:
        self._publish()
        if not self._is_published:
            why = self._trouble or "the run was over before the server took it"
            _logger.warning("%s was not published (%s)", self._shown, why)

    def _publish(self) -> None:
        while (found := self._newest.get(self._stream, after=self._sent)) is not None:
            code: int | None = None
            try:
                code = self._send(found)
            except (OSError, YolotrtError) as e:  # no more processes or files; a picture that is lost with its GPU
                self._trouble = " ".join(str(e).split())
            if self._newest.closed or self._stopped.is_set():
                return
            if code == RESIZED:
                continue
            self._failed(self._trouble or f"the server does not answer, exit code {code}")
            self._stopped.wait(_WAITS_S[min(self._troubles, len(_WAITS_S)) - 1])

    def _send(self, found: Held | None) -> int:
        """Send results, from one on, through a process until it ends; its exit code."""
        self._child = child = Child("yolotrt.sinks.rtsp_publisher", self._config, self._heard)
        try:
            while found is not None:
                self._sent = found.number
                picture = draw_result(found.result)
                try:
                    child.send(found.stream, picture)
                except OSError:
                    break  # its exit code says why
                found = self._newest.get(self._stream, after=self._sent)
        except BaseException:
            child.kill()
            child.end()
            raise
        return child.end()

    def _heard(self, line: str) -> None:
        """A line of the process: `published`, or what is wrong."""
        if line != "published":
            self._trouble = line or self._trouble
            return
        self._is_published = True
        if self._troubles:
            _logger.warning("%s is published", self._shown)
            self._trouble, self._troubles = "", 0

    def _failed(self, trouble: str) -> None:
        if not self._troubles:
            _logger.warning("%s cannot be published (%s); it is tried again", self._shown, trouble)
        self._trouble, self._troubles = "", self._troubles + 1
