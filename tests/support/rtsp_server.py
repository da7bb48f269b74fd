"""A real RTSP server (GStreamer's rtsp-server), run by the system's Python, which has its bindings.

    python3 rtsp_server.py PORT JSON

JSON is a list of streams, each `RtspStream` of tests/support/rtsp.py as a mapping. Each picture carries the
milliseconds of the monotonic clock as 32 blocks of 8 pixels in its first 16 rows, white for 1, highest bit first; below
them moves a red box, with each picture to the next of 32 places. Prints "ready" when it listens.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gi  # type: ignore[import-not-found,unused-ignore]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # type: ignore[import-not-found,unused-ignore] # noqa: E402

_ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast bitrate=800 key-int-max={gop} threads=1 "
    "! rtph264pay name=pay0 pt=96 config-interval=-1",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast bitrate=800 key-int-max={gop} "
    "option-string=pools=none:frame-threads=1:log-level=none ! rtph265pay name=pay0 pt=96 config-interval=-1",
}
_POSITIONS = 32


class _Camera:
    """Feeds one media with pictures, in real time; on a busy machine with fewer, never with old ones."""

    def __init__(self, appsrc: Any, stream: dict[str, Any]) -> None:
        self._appsrc, self._stream = appsrc, stream
        self._count = 0
        self._resize(*stream["size"])
        self._waiting = appsrc.connect("need-data", self._begin)

    def _begin(self, appsrc: Any, _: int) -> None:
        """When the pipeline asks for pictures it plays; before, it has no time that they could be stamped with."""
        appsrc.disconnect(self._waiting)
        GLib.timeout_add(round(1000 / self._stream["fps"]), self._push)

    def _resize(self, height: int, width: int) -> None:
        caps = f"video/x-raw,format=I420,width={width},height={height},framerate={self._stream['fps']}/1"
        self._appsrc.set_property("caps", Gst.Caps.from_string(caps))
        self._width = width
        self._bodies = [_body(height, width, 2 * (i * (width - 96) // 2 // _POSITIONS)) for i in range(_POSITIONS)]

    def _push(self) -> bool:
        if self._appsrc.get_property("current-level-buffers"):
            return True  # the encoder is late: a queue of pictures would make all that follow late
        if self._count == self._stream["resize_after"]:
            self._resize(*self._stream["small"])
        now = time.monotonic_ns()
        bits = format(now // 1_000_000 % 2**32, "032b")
        row = b"".join((b"\xeb" if bit == "1" else b"\x10") * 8 for bit in bits)[: self._width]
        row += b"\x10" * (self._width - len(row))
        buffer = Gst.Buffer.new_wrapped(row * 16 + self._bodies[self._count % _POSITIONS])
        # Stamped with the clock that is drawn, GStreamer's own: `do-timestamp` would look at it again, who knows when.
        buffer.pts = now - self._appsrc.get_base_time()
        self._count += 1
        return bool(self._appsrc.emit("push-buffer", buffer) == Gst.FlowReturn.OK)


def _body(height: int, width: int, left: int) -> bytes:
    """I420 without the first 16 rows of Y: grey, with a red box of 96 x 96 pixels."""

    def plane(rows: int, columns: int, ground: int, box: int, top: int, left: int, side: int) -> bytes:
        empty = bytes([ground]) * columns
        filled = bytes([ground]) * left + bytes([box]) * side + bytes([ground]) * (columns - left - side)
        return empty * top + filled * side + empty * (rows - top - side)

    luma = plane(height - 16, width, 114, 81, 48, left, 96)
    return luma + b"".join(plane(height // 2, width // 2, 128, box, 32, left // 2, 48) for box in (90, 240))


def _add(server: Any, auth: Any, stream: dict[str, Any]) -> None:
    encoder = _ENCODERS[stream["codec"]].format(gop=stream["fps"])
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( appsrc name=camera is-live=true format=time ! {encoder} )")
    factory.set_shared(True)
    lower = GstRtsp.RTSPLowerTrans
    factory.set_protocols({"both": lower.TCP | lower.UDP, "tcp": lower.TCP, "udp": lower.UDP}[stream["transports"]])
    factory.connect("media-configure", lambda _, media: _Camera(_named(media, "camera"), stream))
    role = stream["user"] or "anyone"
    rights = "media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.from_string(f"{role}, {rights}")[0])
    if stream["user"]:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(stream["user"], stream["password"]), _token(role))
    server.get_mount_points().add_factory(stream["path"], factory)


def _token(role: str) -> Any:
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", role)
    return token


def _named(media: Any, name: str) -> Any:
    return media.get_element().get_by_name(name)


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    auth = GstRtspServer.RTSPAuth()
    server.set_auth(auth)
    streams = json.loads(sys.argv[2])
    if not any(stream["user"] for stream in streams):  # else whoever is nobody is asked who he is, for each of them
        auth.set_default_token(_token("anyone"))
    for stream in streams:
        _add(server, auth, stream)
    server.attach(None)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


main()
