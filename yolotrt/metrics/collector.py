"""Snapshots of streams as Prometheus' metrics, made when they are asked for: a run that nobody watches pays nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from yolotrt._version import __version__
from yolotrt.counting import Counts
from yolotrt.metrics.gpu import GpuMonitor
from yolotrt.pipeline.stream_state import LATENCY_BOUNDS_S, StreamState, StreamStatus

Streams: TypeAlias = Callable[[], Sequence[StreamStatus]]
"""Gives a snapshot of each stream; called in the server's threads."""

CountsByStream: TypeAlias = Callable[[], Mapping[str, Counts]]
"""Gives the counts of each stream that counts; called in the server's threads."""

# field of StreamStatus -> metric, help
_COUNTERS = {
    "read": ("yolotrt_frames_read", "Frames that the source gave."),
    "processed": ("yolotrt_frames_processed", "Frames whose results were written."),
    "dropped": ("yolotrt_frames_dropped", "Frames passed over because a newer one was there or they were too old."),
    "skipped": ("yolotrt_frames_skipped", "Frames left out by --fps or --stride."),
    "failed": ("yolotrt_frames_failed", "Frames lost to an error of the model or of an output."),
    "reconnects": ("yolotrt_reconnects", "Connections that were made again."),
    "corrupt": ("yolotrt_corrupt_packets", "Packets or frames that could not be decoded whole."),
}


class RunCollector(Collector):
    """The metrics of one run.

    Args:
        streams: see `Streams`.
        counts: see `CountsByStream`.
        gpus: None leaves GPUs out.
    """

    def __init__(
        self, streams: Streams, *, counts: CountsByStream | None = None, gpus: GpuMonitor | None = None
    ) -> None:
        self._streams, self._counts, self._gpus = streams, counts, gpus

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' client calls for each scrape."""
        build = GaugeMetricFamily("yolotrt_build_info", "The version that runs; always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from _of_streams([replace(status, name=_label(status.name)) for status in self._streams()])
        if self._counts is not None:
            yield from _of_counts({_label(name): counts for name, counts in self._counts().items()})
        if self._gpus is not None:
            yield from _of_gpus(self._gpus)


def _label(name: str) -> str:
    """A name as UTF-8 can have it: those of files may be no valid Unicode."""
    return name.encode("utf-8", "backslashreplace").decode()


def _of_streams(streams: Sequence[StreamStatus]) -> Iterator[Metric]:
    for field, (name, text) in _COUNTERS.items():
        counter = CounterMetricFamily(name, text, labels=["stream"])
        for status in streams:
            counter.add_metric([status.name], getattr(status, field))
        yield counter
    state = GaugeMetricFamily("yolotrt_stream_state", "1 for the state it is in.", labels=["stream", "state"])
    queue = GaugeMetricFamily("yolotrt_queue_frames", "Frames under way, by where.", labels=["stream", "queue"])
    rate = GaugeMetricFamily("yolotrt_frames_per_second", "Processed over the last seconds.", labels=["stream"])
    latency = HistogramMetricFamily(
        "yolotrt_latency_seconds", "From arrival to written result, of live streams.", labels=["stream"]
    )
    for status in streams:
        for possible in StreamState:
            state.add_metric([status.name, possible.value], float(status.state is possible))
        queue.add_metric([status.name, "waiting"], status.waiting)
        queue.add_metric([status.name, "running"], status.running)
        rate.add_metric([status.name], status.frames_per_s)
        bounds = [*map(str, LATENCY_BOUNDS_S), "+Inf"]
        summed = itertools.accumulate(status.latency_counts)
        buckets = [(bound, float(count)) for bound, count in zip(bounds, summed, strict=True)]
        latency.add_metric([status.name], buckets=buckets, sum_value=status.latency_sum_s)
    yield from (state, queue, rate, latency)


def _of_counts(counts: Mapping[str, Counts]) -> Iterator[Metric]:
    lines = CounterMetricFamily(
        "yolotrt_line_crossings", "Objects that crossed a line.", labels=["stream", "line", "class", "direction"]
    )
    visits = CounterMetricFamily(
        "yolotrt_zone_visits", "Objects that entered or left.", labels=["stream", "zone", "class", "direction"]
    )
    inside = GaugeMetricFamily("yolotrt_zone_objects", "Objects inside.", labels=["stream", "zone", "class"])
    for stream, found in counts.items():
        for line in found.lines:
            for direction, by_class in (("in", line.entered), ("out", line.left)):
                for name, count in by_class.items():
                    lines.add_metric([stream, line.name, name, direction], count)
        for zone in found.zones:
            for direction, by_class in (("in", zone.entered), ("out", zone.left)):
                for name, count in by_class.items():
                    visits.add_metric([stream, zone.name, name, direction], count)
            for name, count in zone.inside.items():
                inside.add_metric([stream, zone.name, name], count)
    yield from (lines, visits, inside)


def _of_gpus(monitor: GpuMonitor) -> Iterator[Metric]:
    labels = ["gpu", "name"]
    busy = GaugeMetricFamily("yolotrt_gpu_utilization_ratio", "Share of time in which it computed.", labels=labels)
    used = GaugeMetricFamily("yolotrt_gpu_memory_used_bytes", "Memory in use, by all programs.", labels=labels)
    total = GaugeMetricFamily("yolotrt_gpu_memory_total_bytes", "Memory in all.", labels=labels)
    decoder = GaugeMetricFamily("yolotrt_gpu_decoder_ratio", "Share of time in which it decoded.", labels=labels)
    encoder = GaugeMetricFamily("yolotrt_gpu_encoder_ratio", "Share of time in which it encoded.", labels=labels)
    for load in monitor.read():
        values = [str(load.index), load.name]
        busy.add_metric(values, load.busy)
        used.add_metric(values, load.memory_used)
        total.add_metric(values, load.memory_total)
        if load.decoder is not None:
            decoder.add_metric(values, load.decoder)
        if load.encoder is not None:
            encoder.add_metric(values, load.encoder)
    yield from (busy, used, total, decoder, encoder)
