"""The endpoint, scraped over HTTP and read by Prometheus' own parser."""

from __future__ import annotations

import socket
import sys
import types
import urllib.request
from collections.abc import Callable

import pytest

from tests.support.blocked import run_blocked
from yolotrt.counting import Counts, LineCount, ZoneCount
from yolotrt.errors import SinkError, UsageError
from yolotrt.metrics import MetricsServer, parse_address
from yolotrt.metrics.gpu import GpuMonitor
from yolotrt.pipeline.stream_state import StreamRecord, StreamState, StreamStatus

pytest.importorskip("prometheus_client")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def _scrape(url: str) -> Samples:
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _value(samples: Samples, name: str, /, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def _streams() -> tuple[StreamRecord, StreamRecord, Callable[[], list[StreamStatus]]]:
    gate, yard = StreamRecord("gate"), StreamRecord('yard "2"\n')
    return gate, yard, lambda: [gate.snapshot(), yard.snapshot()]


def test_streams_as_they_are_when_asked() -> None:
    gate, yard, streams = _streams()
    with MetricsServer(("127.0.0.1", 0), streams) as server:
        assert _value(_scrape(server.url), "yolotrt_frames_read_total", stream="gate") == 0
        gate.become(StreamState.LIVE)
        gate.count(read=7, waiting=2, running=3, dropped=2, corrupt=1)
        for latency_s in (0.02, 0.3):
            gate.processed(latency_s=latency_s)
        yard.become(StreamState.LIVE)
        yard.become(StreamState.RECONNECTING, "gone")
        yard.become(StreamState.LIVE)
        found = _scrape(server.url)
    counted = {"read": 7, "processed": 2, "dropped": 2, "failed": 0, "skipped": 0}
    assert {n: _value(found, f"yolotrt_frames_{n}_total", stream="gate") for n in counted} == counted
    assert _value(found, "yolotrt_corrupt_packets_total", stream="gate") == 1
    assert _value(found, "yolotrt_reconnects_total", stream='yard "2"\n') == 1
    assert _value(found, "yolotrt_queue_frames", stream="gate", queue="waiting") == 2
    assert _value(found, "yolotrt_queue_frames", stream="gate", queue="running") == 1
    states = {s.value: _value(found, "yolotrt_stream_state", stream="gate", state=s.value) for s in StreamState}
    assert states == {"connecting": 0, "live": 1, "stalled": 0, "reconnecting": 0, "ended": 0}
    buckets = {
        b: _value(found, "yolotrt_latency_seconds_bucket", stream="gate", le=b) for b in ("0.01", "0.025", "0.5")
    }
    assert buckets == {"0.01": 0, "0.025": 1, "0.5": 2}
    assert _value(found, "yolotrt_latency_seconds_count", stream="gate") == 2
    assert _value(found, "yolotrt_latency_seconds_sum", stream="gate") == pytest.approx(0.32)


def test_counts() -> None:
    counts = Counts(
        lines=(LineCount(name="door", start=(0, 0), end=(1, 1), entered={"car": 3}, left={"bus": 1}),),
        zones=(ZoneCount(name="yard", corners=(), inside={"car": 2}, entered={"car": 5}, left={}),),
    )
    with MetricsServer(("127.0.0.1", 0), list, counts=lambda: {"gate": counts}) as server:
        found = _scrape(server.url)
    crossing = {"stream": "gate", "line": "door"}
    assert _value(found, "yolotrt_line_crossings_total", **crossing, **{"class": "car", "direction": "in"}) == 3
    assert _value(found, "yolotrt_line_crossings_total", **crossing, **{"class": "bus", "direction": "out"}) == 1
    visit = {"stream": "gate", "zone": "yard", "class": "car"}
    assert _value(found, "yolotrt_zone_visits_total", **visit, direction="in") == 5
    assert _value(found, "yolotrt_zone_objects", **visit) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_process_itself() -> None:
    with MetricsServer(("127.0.0.1", 0), list) as server:
        found = _scrape(server.url)
    assert _value(found, "process_resident_memory_bytes") > 1 << 20
    assert _value(found, "process_open_fds") > 3


def _nvml(*, encoder: bool) -> types.ModuleType:
    """Two GPUs; the second one cannot be asked."""

    class NVMLError(Exception): ...

    def by_index(index: int) -> int:
        if index == 1:
            raise NVMLError("lost")
        return index

    def encoding(_: int) -> list[int]:
        if not encoder:
            raise NVMLError("not supported")
        return [25, 0]

    module = types.ModuleType("pynvml")
    vars(module).update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetName=lambda _: "GPU of the test",
        nvmlDeviceGetMemoryInfo=lambda _: types.SimpleNamespace(used=3, total=8),
        nvmlDeviceGetUtilizationRates=lambda _: types.SimpleNamespace(gpu=60),
        nvmlDeviceGetDecoderUtilization=lambda _: [10, 0],
        nvmlDeviceGetEncoderUtilization=encoding,
    )
    return module


@pytest.mark.parametrize("encoder", [True, False])
def test_gpus(monkeypatch: pytest.MonkeyPatch, encoder: bool) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(encoder=encoder))
    with MetricsServer(("127.0.0.1", 0), list) as server:
        found = _scrape(server.url)
    labels = {"gpu": "0", "name": "GPU of the test"}
    assert _value(found, "yolotrt_gpu_utilization_ratio", **labels) == 0.6
    assert _value(found, "yolotrt_gpu_memory_used_bytes", **labels) == 3
    assert _value(found, "yolotrt_gpu_decoder_ratio", **labels) == 0.1
    assert [v for (name, _), v in found.items() if name == "yolotrt_gpu_encoder_ratio"] == [0.25] * encoder
    assert len([1 for name, _ in found if name == "yolotrt_gpu_memory_total_bytes"]) == 1


def test_a_driver_that_gives_no_answer_ends_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _nvml(encoder=True)

    def count() -> int:
        raise module.NVMLError("lost")

    vars(module)["nvmlDeviceGetCount"] = count
    monkeypatch.setitem(sys.modules, "pynvml", module)
    with MetricsServer(("127.0.0.1", 0), list) as server:
        assert not [name for name, _ in _scrape(server.url) if name.startswith("yolotrt_gpu")]


def test_without_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monitor = GpuMonitor()
    assert monitor.read() == []
    monitor.close()


def test_this_machine_alone_unless_told() -> None:
    assert parse_address("9100", option="metrics") == ("127.0.0.1", 9100)
    assert parse_address("0.0.0.0:9100", option="metrics") == ("0.0.0.0", 9100)
    assert parse_address("[::1]:9100", option="metrics") == ("::1", 9100)
    for wrong in ("", "host", "99999", "host:", "-1", "[::1:5", "1:port", ":", "::1:5"):
        with pytest.raises(UsageError, match="option metrics is no port"):
            parse_address(wrong, option="metrics")


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_host_that_cannot_be(host: str) -> None:
    with pytest.raises(SinkError, match=f"cannot serve metrics at {host}:9"):
        MetricsServer((host, 9), list)


def test_a_name_that_is_no_unicode() -> None:
    stream = StreamRecord("caf\udce9.mp4")
    with MetricsServer(("127.0.0.1", 0), lambda: [stream.snapshot()], counts=lambda: {"caf\udce9.mp4": Counts()}) as s:
        assert _value(_scrape(s.url), "yolotrt_frames_read_total", stream="caf\\udce9.mp4") == 0


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SinkError, match=f"cannot serve metrics at 127.0.0.1:{port}: Address already in use"):
            MetricsServer(("127.0.0.1", port), list)


def test_the_port_is_free_again() -> None:
    server = MetricsServer(("127.0.0.1", 0), list)
    port = int(server.url.split(":")[2].split("/")[0])
    server.close()
    MetricsServer(("127.0.0.1", port), list).close()


def test_without_the_package() -> None:
    code = "from yolotrt.metrics import MetricsServer\nMetricsServer(('127.0.0.1', 0), list)"
    result = run_blocked(["prometheus_client"], code)
    assert '"yolotrt[metrics]"' in result.stderr.splitlines()[-1]
