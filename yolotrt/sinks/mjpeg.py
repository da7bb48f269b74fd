"""Annotated streams over HTTP, as pictures that follow one another: any browser shows them."""

from __future__ import annotations

import contextlib
import html
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

import cv2

from yolotrt.errors import SinkError
from yolotrt.plotting import draw_result
from yolotrt.sinks.base import Sink
from yolotrt.sinks.newest import Held, Newest, StreamOf, own_stream
from yolotrt.types import FrameResult

_QUALITY = 80
_STYLE = "body{margin:0;background:#181412;color:#fff;font-family:sans-serif}img{max-width:100%}figure{margin:8px}"
_HEAD = (
    f'<!doctype html><title>yolotrt</title><meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
)
_EMPTY = '<meta http-equiv="refresh" content="2">no stream yet'
_POLL_S = 0.1  # for the end of the run
_AGAIN_S = 2.0  # after which a client gets a picture once more
_PATIENCE_S = 10.0  # with a client that takes nothing more


class MjpegSink(Sink):
    """Serves every stream of the run until it is closed.

    `/` is a page with all of them, `/NAME` one as `multipart/x-mixed-replace`, `/NAME.jpg` its newest picture; NAME is
    the stream's name, percent-encoded. A client gets the newest picture whenever it is done with the one before.
    Pictures are drawn and encoded only while somebody looks, once for all.

    Attributes:
        url: of the page.
    """

    def __init__(self, address: tuple[str, int], *, stream_of: StreamOf = own_stream) -> None:
        """Start to serve at (host, port); port 0 takes one that is free. Raises SinkError where that is refused."""
        super().__init__()
        host, port = address
        self._newest = Newest(stream_of)
        try:
            self._server = _Server(address, self._newest)
        except OSError as e:
            raise SinkError(
                f"cannot serve pictures at {host}:{port}: {e.strerror or e}", remedy="Choose another port or host."
            ) from e
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="yolotrt-mjpeg", daemon=True
        )
        self._thread.start()

    def write(self, result: FrameResult) -> None:
        self._newest.put(result)

    def close(self) -> None:
        if self._newest.closed:
            return
        self._newest.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that hangs must not hold up the end of a run

    def __init__(self, address: tuple[str, int], newest: Newest) -> None:
        import socket

        self.newest = newest
        self._encoded: dict[str, tuple[int, bytes]] = {}
        self._encoding = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing to say of a client that goes away before it has asked."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def jpeg(self, held: Held) -> bytes:
        """The drawn result as JPEG; made once for all clients."""
        with self._encoding:
            done, data = self._encoded.get(held.stream, (0, b""))
            if done != held.number:
                _, buffer = cv2.imencode(".jpg", draw_result(held.result), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                data = buffer.tobytes()
                self._encoded[held.stream] = (held.number, data)
            return data


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        """Answer one client, for a stream as long as it stays."""
        path = unquote(self.path.partition("?")[0].removeprefix("/"), errors="surrogateescape")
        streams = self.server.newest.streams()
        with contextlib.suppress(OSError):  # the client went away
            if not path:
                self._page(streams)
            elif path in streams:
                self._stream(path)
            elif path.removesuffix(".jpg") in streams:
                self._picture(path.removesuffix(".jpg"))
            else:
                self.send_error(404, "no such stream, or it has not given a picture yet")

    def do_HEAD(self) -> None:
        """Answer without the body: who watches over servers asks so."""
        self.do_GET()

    def _page(self, streams: list[str]) -> None:
        figures = "".join(
            f'<figure><img src="/{quote(name, safe="", errors="surrogateescape")}">'
            f"<figcaption>{html.escape(name)}</figcaption></figure>"
            for name in streams
        )
        self._send("text/html; charset=utf-8", (_HEAD + (figures or _EMPTY)).encode("utf-8", "replace"))

    def _picture(self, name: str) -> None:
        found = self.server.newest.get(name, timeout_s=0)
        if found is None:
            self.send_error(404, "the stream is over")
            return
        self._send("image/jpeg", self.server.jpeg(found))

    def _send(self, kind: str, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _stream(self, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command == "HEAD":
            return
        for found in self._held(name):
            data = self.server.jpeg(found)
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
            self.wfile.write(data + b"\r\n")

    def _held(self, name: str) -> Iterator[Held]:
        """The results of a stream; the last one again where nothing comes, which shows whether the client has left."""
        newest, last = self.server.newest, None
        while not newest.closed:
            found = newest.get(name, after=last.number if last else 0, timeout_s=_AGAIN_S) or last
            if found is not None and not newest.closed:
                yield found
            last = found

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        """Nothing: a line per request on standard error would bury what matters."""
