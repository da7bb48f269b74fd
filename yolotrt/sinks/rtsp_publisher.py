"""The process that publishes one stream; see `RtspPushSink`. It ends with the first trouble, which it prints."""

from __future__ import annotations

import signal
import sys
import time
from fractions import Fraction
from typing import TYPE_CHECKING

from yolotrt.errors import SinkError
from yolotrt.sinks import h264
from yolotrt.sinks.child import received
from yolotrt.types import ImageU8

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_TICK = Fraction(1, 90_000)
_FPS = Fraction(25)  # a guess, for the encoder; pictures are sent when they come
RESIZED = 3
"""Exit code: the size of the pictures has changed, which takes another publication."""

_PATIENCE_S = 10  # with a server that takes nothing more


def main() -> int:
    """Publish what comes from standard input until it ends. Exit code 1 where that fails."""
    import av

    parts = received(sys.stdin.buffer)
    config = next(parts)
    publication: _Publication | None = None
    try:
        for _, pixels in parts:
            if publication is None:
                publication = _Publication(config["url"], config["encoder"], pixels)
            elif publication.size != h264.even(pixels.shape[:2]):
                publication.close()
                return RESIZED
            publication.write(pixels)
        if publication is not None:
            publication.close()
    except (av.FFmpegError, SinkError) as e:
        print(getattr(e, "strerror", None) or str(e), flush=True)
        return 1
    return 0


class _Publication:
    def __init__(self, url: str, encoder: h264.Encoder, pixels: ImageU8) -> None:
        self.size = h264.even((pixels.shape[0], pixels.shape[1]))
        self._container, self._stream = _opened(url, encoder, self.size)
        self._started, self._last = time.monotonic(), -1
        self._starts = h264.Starts()

    def write(self, pixels: ImageU8) -> None:
        first = self._last < 0
        self._last = max(round((time.monotonic() - self._started) / _TICK), self._last + 1)
        frame = h264.frame_of(pixels)
        frame.pts, frame.time_base = self._last, _TICK
        self._starts.mark(frame, float(self._last * _TICK))
        _set_alarm(_PATIENCE_S)
        self._container.mux(self._stream.encode(frame))
        _set_alarm(0)
        if first:
            print("published", flush=True)

    def close(self) -> None:
        _set_alarm(1)
        self._container.mux(self._stream.encode(None))
        self._container.close()


def _opened(url: str, encoder: h264.Encoder, size: tuple[int, int]) -> tuple[OutputContainer, VideoStream]:
    import av

    def new() -> OutputContainer:
        return av.open(url, "w", format="rtsp", container_options={"rtsp_transport": "tcp"})

    return h264.open_stream(new, size, fps=_FPS, time_base=_TICK, encoder=encoder, live=True, at_once=True)


def _set_alarm(seconds: int) -> None:
    """End this process, whatever it waits for, unless it is called again in time; 0 calls it off."""
    if hasattr(signal, "alarm"):  # not on Windows
        signal.alarm(seconds)


if __name__ == "__main__":
    sys.exit(main())
