"""What live sources have in common, and webcams."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from tests.support.media import moving_box, picture, write_video
from tests.support.rtsp import wait_until
from tests.support.watched import watched
from yolotrt.errors import UsageError
from yolotrt.sources import LiveOptions, SourceInfo, StreamState, WebcamSource
from yolotrt.sources.live import LiveSource, LostError, Shot, _Outage
from yolotrt.sources.network import _Backlog, _Pace


class _Camera(LiveSource):
    """Connections that are given beforehand: the camera's times of their pictures, and the error at their end."""

    def __init__(self, *connections: tuple[list[float | None], LostError | None], **options: Any) -> None:
        super().__init__(SourceInfo(kind="stream", name="camera", live=True), LiveOptions(**options))
        self.connections = list(connections)
        self.began: list[float] = []

    def _shots(self) -> Iterator[Shot]:
        self.began.append(time.monotonic())
        times, error = self.connections.pop(0) if self.connections else ([], LostError("gone", hopeless=True))
        for seconds in times:
            yield Shot(received_s=time.monotonic(), camera_s=seconds, picture=picture)
        if error is not None:
            raise error


def test_times_go_on_over_connections() -> None:
    camera = iter(_Camera(([5.0, 5.01, 5.02], None), ([900.0, 900.01], None)))
    frames = [next(camera) for _ in range(5)]
    times = [frame.timestamp_s for frame in frames]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert times[:3] == pytest.approx([0.0, 0.01, 0.02])
    assert times[4] - times[3] == pytest.approx(0.01)
    assert 0.02 < times[3] < 2, "by our own clock"


@pytest.mark.parametrize("times", [[0.0, 100.0, 200.0], [50.0, 0.0, 3.0], [None, None, None]])
def test_clocks_that_cannot_be_right_are_not_used(times: list[float | None]) -> None:
    camera = iter(_Camera((times, None)))
    stamps = [next(camera).timestamp_s for _ in range(3)]
    assert stamps == sorted(stamps)
    assert stamps[-1] < 4


def test_a_clock_that_was_ahead_goes_on_until_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the pictures that some servers keep for whoever connects."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    kept: list[float | None] = [number / 10 for number in range(30)]
    camera = iter(_Camera(([*kept, *(2.9 + number / 10 for number in range(1, 61))], None)))
    stamps = []
    for number in range(90):
        now[0] += 0.0 if number < 30 else 0.1
        stamps.append(next(camera).timestamp_s)
    steps = np.diff(stamps)
    assert steps[:19] == pytest.approx(0.1)
    assert np.sum(steps[30:] < 0.04) <= 1, "it does not stand"
    assert 6.0 <= stamps[-1] < 7.0, "and is right in the end, within what clocks may differ by"


def test_a_pause_of_the_machine_is_no_backlog() -> None:
    """What came meanwhile is decoded, not left out until the next key frame, which may be far."""
    backlog, now = _Backlog(1.0), time.monotonic()
    backlog.waited(0.03, now)
    assert backlog.keeps_up(now, is_key=False)
    for number in range(40):
        assert backlog.keeps_up(now + 1.5 + number / 100, is_key=False), "decoding takes a third of the time"
    backlog.waited(0.03, now + 1.95)
    assert backlog.keeps_up(now + 2.0, is_key=False)


def test_a_decoder_that_is_too_slow_jumps_to_a_key_frame() -> None:
    backlog, now = _Backlog(1.0), time.monotonic()
    assert all(backlog.keeps_up(now + number / 10, is_key=False) for number in range(10))
    assert not any(backlog.keeps_up(now + number / 10, is_key=False) for number in range(11, 20))
    backlog.waited(0.03, now + 2)
    assert not backlog.keeps_up(now + 2, is_key=False)
    assert backlog.keeps_up(now + 2.1, is_key=True)


def test_a_decoder_that_is_far_too_slow_jumps_as_well() -> None:
    """Not each picture that takes long is a pause of the machine."""
    backlog, now = _Backlog(1.0), time.monotonic()
    kept = [backlog.keeps_up(now + 0.6 * number, is_key=False) for number in range(20)]
    assert sum(kept) <= 4


@pytest.mark.parametrize("jump_s", [20.0, -10.0, 400.0, -400.0])
def test_a_playlist_whose_times_jump_keeps_its_pace(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """As where an advertisement begins: no wait for times that do not come, no pictures in bursts."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace, shown = _Pace(), []
    for number in range(150):  # segments of a second, each there at once
        now[0] = max(now[0], 100.0 + number // 25)
        now[0] += pace.wait_s(50 + number / 25 + (jump_s if number >= 75 else 0))
        shown.append(now[0])
    steps = np.diff(shown)
    assert np.delete(steps, 74) == pytest.approx(0.04)
    assert steps[74] < 0.1
    assert shown[-1] == pytest.approx(106, abs=0.1)


def test_a_playlist_with_a_picture_now_and_then_keeps_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolotrt.sources.network.time", SimpleNamespace(monotonic=lambda: 100.0))
    pace = _Pace()
    assert [pace.wait_s(50 + 3.0 * number) for number in range(4)] == pytest.approx([0, 3, 6, 9])


def test_a_recording_whose_times_begin_anew_goes_on() -> None:
    parts: list[float | None] = [*range(5)] * 2
    camera = _Camera((parts, None))
    camera.info = replace(camera.info, live=False)
    stamps = [frame.timestamp_s for frame in camera]
    assert stamps == pytest.approx(range(10))


def test_waits_grow_with_the_outage() -> None:
    lost = LostError("lost")
    camera = _Camera(([0.0], lost), *[([], lost)] * 7, retries=7)
    with pytest.raises(LostError, match="lost"):
        list(camera)
    waits = [later - earlier for earlier, later in itertools.pairwise(camera.began)]
    assert len(waits) == 7
    assert all(0.19 < wait < 0.6 for wait in waits)


@pytest.mark.parametrize(("outage_s", "least", "most"), [(0, 0.2, 0.4), (10, 0.5, 1), (60, 3, 6), (9999, 7.5, 15)])
def test_a_pause_is_a_tenth_of_the_outage_and_never_the_same(outage_s: float, least: float, most: float) -> None:
    outage = _Outage(retries=None, was_live=False, _since=time.monotonic() - outage_s)
    pauses = [outage.pause_s(LostError("lost")) for _ in range(200)]
    assert least <= min(pauses) < least * 1.1
    assert most * 0.9 < max(pauses) <= most * 1.01


def test_what_is_asked_about_rarely_is_never_asked_about_sooner() -> None:
    outage = _Outage(retries=None, was_live=False)
    pauses = [outage.pause_s(LostError("404", pause_s=30)) for _ in range(100)]
    assert min(pauses) >= 30
    assert 31 < max(pauses) < 40, "not all at the same moment"
    outage.over()
    assert outage.pause_s(LostError("404", pause_s=30)) < 1, "its server is starting"
    assert outage.pause_s(LostError("refused", pause_s=60, hopeless=True)) >= 60, "or the camera locks the account"


def test_an_error_without_hope_ends_only_what_was_never_live() -> None:
    hopeless = LostError("refused", hopeless=True)
    camera = _Camera(([], hopeless), ([0.0], None))
    with pytest.raises(LostError, match="refused"):
        list(camera)
    assert len(camera.began) == 1
    camera = _Camera(([0.0], hopeless), ([0.0], None), retries=1)
    frames = iter(camera)
    assert [next(frames).index for _ in range(2)] == [0, 1]


def test_a_permanent_error_is_asked_about_rarely_and_stopping_does_not_wait_for_it() -> None:
    with watched(_Camera(([], LostError("404", pause_s=30)))) as seen:
        wait_until(lambda: seen.told, 2)
        started = time.monotonic()
    assert time.monotonic() - started < 0.5
    assert seen.told[0][1:] == (StreamState.CONNECTING, "404")
    assert seen.error is None


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"connect_timeout_s": 0},
        {"read_timeout_s": float("inf")},
        {"max_latency_s": -1},
        {"rtsp_transport": "pigeon"},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="option"):
        LiveOptions(**options)


def test_webcams_that_are_opened_side_by_side_leave_opencv_as_loud_as_before() -> None:
    before = cv2.utils.logging.getLogLevel()
    with ThreadPoolExecutor(8) as pool:
        for device in range(70, 110):
            pool.submit(list, WebcamSource(device, name="desk"))
    assert cv2.utils.logging.getLogLevel() == before


def test_a_webcam_that_is_not_there() -> None:
    for device in (73, "/dev/video73"):
        with pytest.raises(LostError, match="there is no such webcam"):
            list(WebcamSource(device, name="desk"))


def test_a_webcam_that_is_pulled_out_is_awaited(tmp_path: Path) -> None:
    # OpenCV reads a file through the same object as a webcam; at its end there are no more pictures.
    path = write_video(tmp_path / "a.mp4", moving_box(5))
    with watched(WebcamSource(str(path), name="desk")) as seen:
        wait_until(lambda: len(seen.frames) >= 12, 5)
        path.unlink()
        wait_until(lambda: any("no such webcam" in error for error in seen.errors), 3)
    assert "desk: the webcam gives no more pictures" in seen.errors[0]
    assert seen.source.info.size == (96, 128)
    assert {f.size for f in seen.frames} == {(96, 128)}
    assert [f.index for f in seen.frames] == list(range(len(seen.frames)))
    assert seen.newest is not None
    assert seen.newest.source_id == "desk"
    assert seen.error is None
