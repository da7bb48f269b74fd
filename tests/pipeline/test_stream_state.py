from __future__ import annotations

import json
import threading
import time

import pytest

from yolotrt.pipeline.stream_state import LATENCY_BOUNDS_S, StreamRecord, StreamState, StreamStatus


def test_states_are_told_once_and_the_end_is_final() -> None:
    told: list[StreamStatus] = []
    errors: list[str] = []

    def on_change(status: StreamStatus, error: str) -> None:
        told.append(status)
        errors.append(error)

    record = StreamRecord("gate", on_change=on_change)
    record.become(StreamState.LIVE)
    record.become(StreamState.LIVE)
    record.become(StreamState.RECONNECTING, "the connection is lost")
    record.become(StreamState.LIVE)
    record.become(StreamState.ENDED)
    record.become(StreamState.CONNECTING)
    assert [s.state.value for s in told] == ["live", "reconnecting", "live", "ended"]
    assert errors == ["", "the connection is lost", "", ""]
    assert [s.reconnects for s in told] == [0, 0, 1, 1]
    assert record.snapshot().state is StreamState.ENDED
    assert record.snapshot().last_error == "the connection is lost"


def test_a_new_error_is_told_without_a_change_of_state() -> None:
    errors: list[str] = []
    record = StreamRecord("gate", on_change=lambda _, error: errors.append(error))
    for error in ("refused", "refused", "unknown", "refused"):
        record.become(StreamState.CONNECTING, error)
    assert errors == ["refused", "unknown", "refused"]


def test_a_live_stream_that_is_silent_is_stalled() -> None:
    record = StreamRecord("gate", stall_s=0.05)
    assert record.snapshot().state is StreamState.CONNECTING
    record.become(StreamState.LIVE)
    assert record.snapshot().state is StreamState.LIVE
    time.sleep(0.1)
    assert record.snapshot().state is StreamState.STALLED
    record.count(read=1, waiting=1)
    assert record.snapshot().state is StreamState.LIVE


def test_every_frame_is_accounted_for() -> None:
    record = StreamRecord("gate")
    record.count(read=5, waiting=5)
    record.count(waiting=-2, running=2)
    record.count(waiting=-1, dropped=1)
    record.processed(latency_s=0.03)
    status = record.snapshot()
    assert (status.waiting, status.running, status.dropped, status.processed) == (2, 1, 1, 1)
    assert status.accounted
    record.count(read=1)
    assert not record.snapshot().accounted


def test_latencies() -> None:
    record = StreamRecord("gate")
    assert record.snapshot().latency_p95_s == 0
    for latency in (0.005, 0.01, 0.02, 99.0):
        record.count(running=1)
        record.processed(latency_s=latency)
    status = record.snapshot()
    assert status.latency_counts == (2, 1, *[0] * (len(LATENCY_BOUNDS_S) - 2), 1)
    assert status.latency_sum_s == pytest.approx(99.035)
    assert (status.latency_p50_s, status.latency_p95_s) == (0.02, 99.0)
    assert json.loads(json.dumps(status.to_dict()))["latency_ms"]["p50"] == 20.0


def test_threads_count_side_by_side() -> None:
    record = StreamRecord("gate")

    def work() -> None:
        for _ in range(2000):
            record.count(read=1, running=1)
            record.processed()
            assert record.snapshot().accounted

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert record.snapshot().processed == 8000


def test_decoders_are_told_once_and_not_without_end() -> None:
    record = StreamRecord("a")
    for name in ("nvdec", "pyav (it is old)", "nvdec"):
        record.decodes(name)
    assert record.snapshot().decoders == ("nvdec", "pyav (it is old)")
    assert record.snapshot().to_dict()["decoders"] == ["nvdec", "pyav (it is old)"]
    for i in range(100):
        record.decodes(f"pyav ({i})")
    assert len(record.snapshot().decoders) == 16
