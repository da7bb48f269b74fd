"""A camera that there is not: a file whose packets come at their time. In a module of its own, since other processes
read it as well.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from yolotrt.sources import LiveOptions, Source, SourceInfo
from yolotrt.sources.decoders import AvDecoder, DecodeRequest, decoder_of
from yolotrt.sources.live import LiveSource, Shot
from yolotrt.sources.pixels import Converter


class Camera(LiveSource):
    """A file over and over without an end, each packet at its time, as a camera sends it."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(SourceInfo(kind="stream", name=name, live=True), LiveOptions())
        self._path = path

    @property
    def recipe(self) -> Callable[[], Source]:
        return partial(Camera, self._path, self.info.name)

    def _shots(self) -> Iterator[Shot]:
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
                for due, packet in self._sent(container, stream):
                    started = time.perf_counter()
                    for frame in decoder.decode(packet):
                        spent = time.perf_counter() - started
                        yield Shot(received_s=due, camera_s=frame.time, decode_s=spent, picture=frame.picture)

    def _sent(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[float, Packet[Any]]]:
        """The packets, each when it is due, which is when a network would have brought it, whenever this thread wakes.

        The file's end is no end of the stream: a camera has none, and its decoder stays. Whoever is too far behind
        loses what a network would lose.
        """
        assert stream.duration is not None
        assert stream.average_rate is not None
        begin: float | None = None
        for turn in itertools.count():
            for packet in container.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue  # behind the last one
                packet.pts, packet.dts = packet.pts + turn * stream.duration, packet.dts + turn * stream.duration
                at = float(packet.dts * packet.time_base)
                due = time.monotonic() if begin is None else begin + at
                self._stopped.wait(max(due - time.monotonic(), 0.0))
                if self._stopped.is_set():
                    return
                behind = time.monotonic() - due
                if behind > self.max_latency_s:
                    due += behind
                    for _ in range(round(behind * stream.average_rate)):
                        self.watcher.late()
                    begin = due - at
                yield due, packet
                if begin is None:
                    begin = time.monotonic() - at  # its decoder is made with its first picture, which takes a while
            container.seek(0)


def _on_cpu(stream: VideoStream) -> AvDecoder:
    return AvDecoder(decoder_of(stream, "SLICE"), Converter(mirrored=False))
