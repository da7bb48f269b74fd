"""A camera that there is not: a file whose packets come at their time. In a module of its own, since other processes
read it as well.
"""

from __future__ import annotations

import contextlib
import itertools
import random
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
        loses what a network would lose. No camera takes its pictures when another one does, whatever has held all of
        them up.
        """
        assert stream.duration is not None
        assert stream.average_rate is not None
        period = float(1 / stream.average_rate)
        phase = random.Random(self.info.name).uniform(0, period)  # noqa: S311 - of this camera, in every run
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
                is_lost = behind > self.max_latency_s
                if is_lost:
                    due += behind
                    for _ in range(round(behind * stream.average_rate)):
                        self.watcher.late()
                yield due, packet
                if begin is None or is_lost:  # the decoder is made with the first picture, which takes a while
                    begin = time.monotonic() - at
                    begin += (phase - begin) % period
            container.seek(0)


def _on_cpu(stream: VideoStream) -> AvDecoder:
    return AvDecoder(decoder_of(stream, "SLICE"), Converter(mirrored=False))
