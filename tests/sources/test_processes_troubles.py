"""A source that another process reads, with both sides in this one: what goes wrong in between."""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from tests.sources.test_processes import Machine
from tests.support.host_nvdec import HostNvdec
from tests.support.media import cut, moving_box, picture, write_video
from yolotrt.cuda.machine import Memory
from yolotrt.errors import CudaError, SourceError
from yolotrt.sources import LiveOptions, Source, SourceInfo, StreamState, VideoSource, Watcher
from yolotrt.sources.device_images import Budget, Downloads, PooledImage
from yolotrt.sources.live import LiveSource, LostError
from yolotrt.sources.live import Shot as LiveShot
from yolotrt.sources.nvdec import Nvdec
from yolotrt.sources.nvdec_api import NvVideoCodec
from yolotrt.sources.processes.child import _Reader
from yolotrt.sources.processes.messages import Begin, Shot, Shots
from yolotrt.sources.processes.remote import Line
from yolotrt.sources.processes.slots import Slots
from yolotrt.sources.selection import Selection
from yolotrt.types import Frame, ImageU8


class Sides:
    """Both ends of a line, each with a GPU of its own that sees the other's memory."""

    def __init__(
        self,
        source: Source,
        *,
        limit: int = 40,
        recipe: bytes | None = None,
        selection: Selection | None = None,
        is_read: bool = True,
    ) -> None:
        ours, theirs = socket.socketpair()
        self.source, self.owner, self.other = source, Machine(), Machine()
        flags = mmap.mmap(-1, 1024)
        self.slots = Slots(self.owner, Budget(2**30), flags, range(1024))
        begin = Begin(
            recipe=pickle.dumps(source.recipe) if recipe is None else recipe,
            selection=selection or Selection(),
            forced=True,
            limit=limit,
            window=32,
        )
        self.line = Line(Connection(ours.detach()), begin, self.slots, Downloads(self.owner), lambda: "exit code 1")
        self.reader = _Reader(Connection(theirs.detach()), flags)
        nvdec = Nvdec(api=cast("NvVideoCodec", HostNvdec()), machine=self.other, limit=0, budget=Budget(0))
        self.worker = threading.Thread(target=self.reader.work, args=(nvdec,), daemon=True)
        self.listener = threading.Thread(target=self._listen, daemon=True)
        if not is_read:
            return
        self.worker.start()
        self.listener.start()

    def _listen(self) -> None:
        try:
            while True:
                self.reader.hear()
        except (EOFError, OSError):
            self.reader.stop()

    def frames(self) -> Iterator[Frame]:
        return self.line.frames(self.source)

    def ended(self) -> bool:
        """Whether both threads of the other side are over, within 10 s."""
        for thread in (self.worker, self.listener):
            thread.join(10)
        return not (self.worker.is_alive() or self.listener.is_alive())


def video(folder: Path, count: int, size: tuple[int, int] = (96, 128)) -> VideoSource:
    return VideoSource(write_video(folder / "a.mp4", moving_box(count, size)))


def test_all_is_given_back_at_the_end(tmp_path: Path) -> None:
    sides = Sides(video(tmp_path, 60))
    wanted = [frame.index for frame in sides.source]
    assert [frame.index for frame in sides.frames()] == wanted
    assert sides.ended()
    assert sides.owner.open == sides.other.open == 0


def test_a_gpu_that_is_lost_to_the_other_side(tmp_path: Path) -> None:
    """Its last frames cannot be waited for; that is told, not waited for as well."""
    sides = Sides(video(tmp_path, 300))
    given: list[int] = []

    def read() -> None:
        for frame in sides.frames():
            given.append(frame.index)
            sides.other.fails = len(given) >= 40

    with pytest.raises(CudaError, match="LAUNCH_FAILED"):
        read()
    assert 40 <= len(given) < 300
    assert sides.ended()


def test_memory_that_runs_out_on_the_other_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is no room for goes through the host, as in one process."""
    sides = Sides(video(tmp_path, 60))
    adopt, adopted = sides.other.adopted, []

    def some(name: bytes, size: int) -> Memory:
        adopted.append(name)
        if len(adopted) > 2:
            raise CudaError("another process's GPU memory cannot be used: out of GPU memory")
        return adopt(name, size)

    monkeypatch.setattr(sides.other, "adopted", some)
    frames = list(sides.frames())
    assert len(frames) == 60
    assert [isinstance(frame.picture, PooledImage) for frame in frames] == [True] * 2 + [False] * 58
    assert len(adopted) == 3, "it is not asked for again and again"
    for got, wanted in zip(frames, sides.source, strict=True):
        np.testing.assert_array_equal(got.pixels, wanted.pixels)


def test_given_up_while_the_other_side_sends(tmp_path: Path) -> None:
    sides = Sides(video(tmp_path, 300, (480, 640)), limit=0)  # all through the host, and much of it
    frames = sides.frames()
    next(frames)
    time.sleep(0.5)
    cast("object", frames).close()  # type: ignore[attr-defined]
    assert sides.ended()


def test_an_error_of_who_is_told(tmp_path: Path) -> None:
    """`print` to a closed pipe says nothing of the process that decodes."""

    def fail(_: SourceError) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    sides = Sides(VideoSource(cut(write_video(tmp_path / "a.mkv", moving_box(60)), 0.6)))
    sides.source.on_problem = fail
    with pytest.raises(BrokenPipeError):
        list(sides.frames())
    assert sides.ended()


class SlowCamera(LiveSource):
    """Gives a picture, and then 20 s of such that nobody wants."""

    now = 0.0

    def __init__(self, rate: int, timeout_s: float) -> None:
        super().__init__(SourceInfo(kind="stream", name="slow", live=True), LiveOptions(read_timeout_s=timeout_s))
        self.rate = rate

    @property
    def recipe(self) -> Callable[[], Source]:
        return partial(SlowCamera, self.rate, self.options.read_timeout_s)

    def _shots(self) -> Iterator[LiveShot]:
        for number in range(20 * self.rate + 1):
            SlowCamera.now += 1 / self.rate
            made = unwanted if number else picture
            yield LiveShot(received_s=self.now, camera_s=number / self.rate, picture=made)
        self.stop()


def unwanted() -> ImageU8:
    raise AssertionError("a picture that nobody wants was made")


class Skips(Watcher):
    def __init__(self) -> None:
        self.counts: list[int] = []

    def skipped(self, count: int) -> None:
        self.counts.append(count)


@pytest.mark.parametrize(("rate", "timeout_s"), [(5, 1.0), (2, 5.0), (1, 5.0)])
def test_a_slow_camera_is_not_silent(rate: int, timeout_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though few of its pictures are wanted: that it goes on is told before it seems to have stalled."""
    monkeypatch.setattr("yolotrt.sources.processes.child.time", SimpleNamespace(monotonic=lambda: SlowCamera.now))
    sides = Sides(SlowCamera(rate, timeout_s), selection=Selection(fps=0.001))
    sides.source.watcher = told = Skips()
    assert [frame.index for frame in sides.frames()] == [0]
    assert sum(told.counts) == 20 * rate
    assert sides.source.stall_s is not None
    assert max(told.counts) / rate <= sides.source.stall_s - 1 / rate
    assert sides.ended()


def test_a_source_that_the_other_side_cannot_make(tmp_path: Path) -> None:
    sides = Sides(video(tmp_path, 20), recipe=b"no pickle")
    assert [frame.index for frame in sides.frames()] == list(range(20))
    assert sides.ended()


def test_stopped_by_who_made_the_source(tmp_path: Path) -> None:
    sides = Sides(video(tmp_path, 300))
    for frame in sides.frames():
        if frame.index == 5:
            sides.source.stop()
    assert frame.index < 299
    assert sides.ended()
    sides.source.stop()  # nobody reads it any more


class LockedCamera(LiveSource):
    """Asks for a password that nobody has, for a while."""

    def __init__(self) -> None:
        super().__init__(SourceInfo(kind="stream", name="door", live=True), LiveOptions())
        self.asked = 0

    @property
    def recipe(self) -> Callable[[], Source]:
        return LockedCamera

    def _shots(self) -> Iterator[LiveShot]:
        self.asked += 1
        if self.asked < 3:
            raise LostError("door: the password is wrong", hopeless=True)
        yield LiveShot(received_s=time.monotonic(), camera_s=None, picture=picture)


class States(Watcher):
    def __init__(self) -> None:
        self.told: list[StreamState] = []

    def state(self, state: StreamState, error: str = "") -> None:
        self.told.append(state)


def test_a_camera_that_was_live_is_not_given_up_with_its_process() -> None:
    """A camera that starts anew may refuse everybody for a while; here it does so just after the process has died."""
    sides = Sides(LockedCamera(), is_read=False)
    source, states = cast("LockedCamera", sides.source), States()
    source.watcher = states
    other, now = sides.reader.connection, time.monotonic()
    other.send(Shots([Shot(-1, (96, 128), picture(), "door", 7, 3.0, 0.0, now)], 0, 0, 0))
    with socket.socket(fileno=os.dup(other.fileno())) as line:
        line.shutdown(socket.SHUT_WR)
    frames = sides.frames()
    assert [next(frames).index for _ in range(2)] == [7, 8]
    cast("Generator[Frame]", frames).close()
    assert source.asked == 3
    assert set(states.told) == {StreamState.RECONNECTING}


def test_memory_of_one_that_is_given_up_is_free_for_the_others(tmp_path: Path) -> None:
    sides = Sides(video(tmp_path, 300))
    frames = sides.frames()
    held = [next(frames) for _ in range(40)]
    cast("Generator[Frame]", frames).close()
    assert sides.ended()
    assert sides.other.open == 0
    assert sides.owner.open > 0, "somebody has its pictures"
    held.clear()
    assert sides.owner.open == 0


def test_memory_of_one_whose_process_is_gone_is_free_for_the_others(tmp_path: Path) -> None:
    sides = Sides(video(tmp_path, 300))
    given = 0

    def read() -> None:
        nonlocal given
        for _ in sides.frames():
            given += 1
            if given == 20:
                with socket.socket(fileno=os.dup(sides.reader.connection.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)

    with pytest.raises(SourceError, match="the process that decodes it has ended"):
        read()
    assert given >= 20
    assert sides.owner.open == 0
