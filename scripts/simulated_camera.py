"""A camera that there is not: a file whose packets come at their time. In a module of its own, since other processes
read it as well.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
from av.video.stream import VideoStream

from yolotrt.sources import LiveOptions, Source, SourceInfo
from yolotrt.sources.decoders import AvDecoder, DecodeRequest, decoder_of
from yolotrt.sources.live import LiveSource, Shot
from yolotrt.sources.pixels import Converter


class Camera(LiveSource):
    """A file over and over, each packet at its time, as a camera sends it."""

    def __init__(self, path: Path, name: str, *, start_s: float = 0.0) -> None:
        super().__init__(SourceInfo(kind="stream", name=name, live=True), LiveOptions())
        self._path, self._start_s = path, start_s

    @property
    def recipe(self) -> Callable[[], Source]:
        return partial(Camera, self._path, self.info.name, start_s=self._start_s)

    def _shots(self) -> Iterator[Shot]:
        offset, begin = 0.0, time.monotonic() + self._start_s
        while not self._stopped.is_set():
            with av.open(str(self._path)) as container:
                stream = container.streams.video[0]
                self._connected((stream.height, stream.width), stream.average_rate)
                decoder = self.decoders.open(
                    DecodeRequest(
                        stream=stream,
                        on_cpu=partial(_on_cpu, stream),
                        told=self.watcher.decoder,
                        name=self.info.name,
                        container=container.format.name,
                        at_once=True,
                    )
                )
                with contextlib.closing(decoder):
                    for packet in container.demux(stream):
                        if packet.dts is not None:
                            due = begin + offset + float(packet.dts * packet.time_base)
                            self._stopped.wait(max(due - time.monotonic(), 0.0))
                        if self._stopped.is_set():
                            return
                        received, started = time.monotonic(), time.perf_counter()
                        for frame in decoder.decode(packet):
                            spent = time.perf_counter() - started
                            seconds = None if frame.time is None else frame.time + offset
                            yield Shot(received_s=received, camera_s=seconds, decode_s=spent, picture=frame.picture)
                offset += float((stream.duration or 0) * (stream.time_base or 0))


def _on_cpu(stream: VideoStream) -> AvDecoder:
    return AvDecoder(decoder_of(stream, "SLICE"), Converter(mirrored=False))
