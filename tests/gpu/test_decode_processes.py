"""Sources that other processes decode: the same frames, boxes and counts as in one process, whatever befalls them."""

from __future__ import annotations

import contextlib
import gc
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.gpu.plans import make_plan
from tests.support.media import cut, moving_box, write_video
from tests.support.tiny_models import tiny_yolo
from yolotrt import Detector
from yolotrt.backends.pictures import PictureBackend
from yolotrt.cuda.device import Device
from yolotrt.errors import SourceError
from yolotrt.model_spec import BatchRange
from yolotrt.pipeline import Pipeline, Stream, StreamOptions
from yolotrt.sources import LiveOptions, NetworkSource, VideoSource
from yolotrt.sources.device_images import PooledImage
from yolotrt.sources.processes.process import Process
from yolotrt.sources.processes.slots import Slots
from yolotrt.types import FrameResult

SIZE = (96, 128)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plan(gpu: Device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    return make_plan(tiny_yolo(folder / "m.onnx", batch=None), batch=BatchRange(min=1, opt=4, max=4))


@pytest.fixture
def detector(plan: Path) -> Iterator[Detector]:
    with Detector(plan, graphs=True) as opened:
        yield opened


def run(
    detector: Detector, paths: list[Path], *, processes: int, options: StreamOptions | None = None
) -> tuple[Pipeline, dict[str, list[FrameResult]]]:
    """All frames of each of the files, read at the same time."""
    decoders = detector.decoders("nvdec", processes=processes)
    found: dict[str, list[FrameResult]] = {}
    streams = []
    for number, path in enumerate(paths):
        source = VideoSource(path)
        source.decoders = decoders
        streams.append(Stream(source, name=f"{number}", options=options))
    pipeline = Pipeline(detector, streams, on_result=lambda r: found.setdefault(str(r.stream), []).append(r))
    pipeline.run()
    return pipeline, found


def address_of(result: FrameResult, detector: Detector) -> int:
    """Where a picture lies on the GPU."""
    assert isinstance(detector.backend, PictureBackend)
    assert isinstance(result.frame.picture, PooledImage)
    assert detector.backend.machine is not None
    surface = result.frame.picture.surface(detector.backend.machine)
    assert surface is not None
    return surface.address


def children() -> set[int]:
    """The processes that any thread of this one has started."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended
            found |= set(map(int, file.read_text().split()))
    return found


def test_boxes_and_pictures_are_the_same(detector: Detector, tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{n}.mp4", moving_box(30 + n, SIZE)) for n in range(3)]
    before = children()
    here, wanted = run(detector, paths, processes=0)
    there, got = run(detector, paths, processes=2)
    assert children() <= before, "a process was left behind"
    assert sorted(got) == sorted(wanted) == ["0", "1", "2"]
    for name in wanted:
        assert len(got[name]) == len(wanted[name]) == 30 + int(name)
        for a, b in zip(got[name], wanted[name], strict=True):
            assert isinstance(a.frame.picture, PooledImage)
            assert (a.frame.source_id, a.frame.index, a.frame.timestamp_s) == (
                b.frame.source_id,
                b.frame.index,
                b.frame.timestamp_s,
            )
            np.testing.assert_array_equal(a.detections.xyxy, b.detections.xyxy)
            np.testing.assert_array_equal(a.detections.confidence, b.detections.confidence)
        # Who holds a result still has its picture, though the process that decoded it is gone.
        np.testing.assert_array_equal(got[name][-1].frame.pixels, wanted[name][-1].frame.pixels)
        np.testing.assert_array_equal(got[name][0].frame.pixels, wanted[name][0].frame.pixels)
    for s, t in zip(there.status(), here.status(), strict=True):
        assert (s.read, s.processed, s.decoders, s.accounted) == (t.read, t.processed, t.decoders, True)


def test_slots_come_back(detector: Detector, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(200, SIZE))
    _, found = run(detector, [path, path], processes=2)
    on_gpu = [r for r in found["0"] if isinstance(r.frame.picture, PooledImage)]
    assert 60 < len(on_gpu) < len(found["0"]), "what nobody lets go of goes through the host from some point on"
    assert len({address_of(r, detector) for r in on_gpu}) == len(on_gpu), "pictures that are held share no memory"
    del on_gpu
    del found
    gc.collect()
    seen: set[int] = set()
    counts: dict[str, int] = {}

    def note(result: FrameResult) -> None:
        counts[str(result.stream)] = counts.get(str(result.stream), 0) + 1
        seen.add(address_of(result, detector))

    source = VideoSource(path)
    source.decoders = detector.decoders("nvdec", processes=1)
    Pipeline(detector, [Stream(source)], on_result=note).run()
    assert counts == {str(path): 200}
    assert len(seen) < 100, "memory is used again"


def test_a_part_of_the_frames(detector: Detector, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(50, SIZE))
    for options in (StreamOptions(stride=7), StreamOptions(fps=4.0)):
        here, wanted = run(detector, [path] * 2, processes=0, options=options)
        there, got = run(detector, [path] * 2, processes=2, options=options)
        assert [r.frame.index for r in got["1"]] == [r.frame.index for r in wanted["1"]] != []
        for a, b in zip(there.status(), here.status(), strict=True):
            assert (a.read, a.processed, a.skipped, a.accounted) == (b.read, b.processed, b.skipped, True)


def test_a_damaged_file_among_others(detector: Detector, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mkv", moving_box(60, SIZE))
    short = cut(write_video(tmp_path / "b.mkv", moving_box(60, SIZE)), 0.6)
    here, wanted = run(detector, [whole, short], processes=0)
    there, got = run(detector, [whole, short], processes=2)
    assert [len(got[n]) for n in "01"] == [len(wanted[n]) for n in "01"]
    assert there.statistics.problems == here.statistics.problems
    assert len(here.statistics.problems) == 1


def test_what_nvdec_refuses_is_read_here(detector: Detector, tmp_path: Path) -> None:
    plain = write_video(tmp_path / "a.mp4", moving_box(20, SIZE))
    other = write_video(tmp_path / "b.mp4", moving_box(20, SIZE), codec="mpeg4")
    decoders = detector.decoders(processes=2)
    sources = [VideoSource(plain), VideoSource(other)]
    for source in sources:
        source.decoders = decoders
    pipeline = Pipeline(detector, [Stream(source) for source in sources])
    assert pipeline.run().frames == 40
    first, second = (status.decoders for status in pipeline.status())
    assert first == ("nvdec",)
    assert second == ("pyav (the codec is mpeg4)",)


def test_forced_nvdec_says_no_there_as_well(detector: Detector, tmp_path: Path) -> None:
    other = write_video(tmp_path / "b.mp4", moving_box(20, SIZE), codec="mpeg4")
    with pytest.raises(SourceError, match=r"NVDEC cannot decode it: the codec is mpeg4.*--decoder auto"):
        run(detector, [other], processes=1)


def test_a_process_that_dies(detector: Detector, tmp_path: Path) -> None:
    """Its file ends there, with what is known of it; the other files and the run go on."""
    path = write_video(tmp_path / "a.mp4", moving_box(2000, SIZE))
    decoders = detector.decoders("nvdec", processes=2)
    before, killed = children(), threading.Event()
    sources = [VideoSource(path), VideoSource(path)]
    for source in sources:
        source.decoders = decoders

    def on_result(_: FrameResult) -> None:
        if not killed.is_set():
            killed.set()
            os.kill(min(children() - before), signal.SIGKILL)

    pipeline = Pipeline(detector, [Stream(s, name=f"{n}") for n, s in enumerate(sources)], on_result=on_result)
    statistics = pipeline.run()
    (problem,) = statistics.problems
    assert "the process that decodes it has ended (SIGKILL)" in problem
    assert sorted(status.processed == 2000 for status in pipeline.status()) == [False, True]
    assert all(status.accounted for status in pipeline.status())


def stop_them(processes: set[int]) -> None:
    """As a debugger does, or a driver that does not return: they live, and do nothing."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)


def test_processes_that_hang_do_not_hold_up_the_end(detector: Detector, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(2000, SIZE))
    decoders, before, stopped = detector.decoders("nvdec", processes=3), children(), threading.Event()
    sources = [VideoSource(path) for _ in range(3)]
    for source in sources:
        source.decoders = decoders

    def on_result(_: FrameResult) -> None:
        if not stopped.is_set():
            stop_them(children() - before)
            stopped.set()

    pipeline = Pipeline(detector, [Stream(s, name=f"{n}") for n, s in enumerate(sources)], on_result=on_result)
    with running(pipeline) as thread:
        assert stopped.wait(30)
        time.sleep(0.5)  # until what had come is used
        asked = time.monotonic()
        pipeline.stop()
        thread.join()
        assert time.monotonic() - asked < 2
    assert children() <= before
    assert all(status.accounted for status in pipeline.status())


def test_a_process_that_hangs(detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, its file with it, and this process goes on with its camera."""
    monkeypatch.setattr("yolotrt.sources.processes.process._SILENT", 3)
    files = [write_video(tmp_path / f"{n}.ts", moving_box(60, SIZE), encoder={"g": "5", "bf": "0"}) for n in range(9)]
    path = write_video(tmp_path / "a.mp4", moving_box(2000, SIZE))
    found: list[FrameResult] = []
    before, stopped = children(), threading.Event()

    def on_result(result: FrameResult) -> None:
        if result.stream == "camera":
            found.append(result)
        if len(found) > 10 and not stopped.is_set():
            stopped.set()
            stop_them(children() - before)
        time.sleep(0.05 if result.stream == "file" else 0.0)  # it is not over before

    with serving(files) as address:
        sources = {
            "camera": NetworkSource(f"http://{address}", options=LiveOptions(retries=9, read_timeout_s=2)),
            "file": VideoSource(path),
        }
        decoders = detector.decoders("nvdec", processes=1)
        for source in sources.values():
            source.decoders = decoders
        pipeline = Pipeline(detector, [Stream(s, name=n) for n, s in sources.items()], on_result=on_result)
        with running(pipeline):
            until = time.monotonic() + 40
            while len(found) < 60:
                assert time.monotonic() < until, pipeline.status()
                time.sleep(0.05)
            assert children() <= before
    assert stopped.is_set()
    camera, file = pipeline.status()
    assert "the process that decodes it has ended (no sign of life for 3 s)" in camera.last_error
    assert "the process that decodes it has ended (no sign of life for 3 s)" in file.last_error
    assert camera.accounted
    assert file.accounted


def test_a_process_that_has_nothing_to_do_does_not_hang(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolotrt.sources.processes.process._SILENT", 2)
    path = write_video(tmp_path / "a.mp4", moving_box(300, SIZE))
    source, pauses = VideoSource(path), iter([4.0])
    source.decoders = detector.decoders("nvdec", processes=1)
    pipeline = Pipeline(detector, [Stream(source)], on_result=lambda _: time.sleep(next(pauses, 0.0)))
    assert pipeline.run().frames == 300


def test_a_process_that_cannot_be_ended(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the driver does not return; the run ends without it, and its memory is not given to others."""
    path = write_video(tmp_path / "a.mp4", moving_box(2000, SIZE))
    source, before, stopped = VideoSource(path), children(), threading.Event()
    source.decoders = detector.decoders("nvdec", processes=1)
    made: list[Process] = []
    kill = Process.kill
    monkeypatch.setattr(Process, "kill", lambda process: made.append(process))  # noqa: PLW0108 (a list.append is not bound)
    monkeypatch.setattr("yolotrt.sources.processes.spread._KILL_S", 0.2)

    def on_result(_: FrameResult) -> None:
        if not stopped.is_set():
            stop_them(children() - before)
            stopped.set()

    pipeline = Pipeline(detector, [Stream(source)], on_result=on_result)
    try:
        with running(pipeline) as thread:
            assert stopped.wait(30)
            asked = time.monotonic()
            pipeline.stop()
            thread.join()
            assert time.monotonic() - asked < 3
        assert "cannot be ended; its GPU memory stays taken" in caplog.text
        assert [bool(line._slots._slabs) for line in made[0].lines] == [True]
    finally:
        for process in made:
            kill(process)
            process.close(time.monotonic() + 10)
    assert children() <= before


@pytest.mark.parametrize("refused", ["export", "adopt"])
def test_gpu_memory_that_is_not_shared(
    refused: str, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As between some containers: this process decodes. Only the driver of the rehearsal refuses on demand."""
    monkeypatch.setenv("HOST_CUDA_REFUSES", refused)
    path = write_video(tmp_path / "a.mp4", moving_box(20, SIZE))
    pipeline, found = run(detector, [path, path], processes=2)
    assert [len(found[n]) for n in "01"] == [20, 20]
    assert all(isinstance(r.frame.picture, PooledImage) for r in found["0"])
    assert pipeline.statistics.problems == []
    assert all(status.decoders[-1:] == ("nvdec",) and status.accounted for status in pipeline.status())


class _Camera(http.server.BaseHTTPRequestHandler):
    """Sends one file per connection, 25 pictures a second, and hangs up."""

    files: ClassVar[list[Path]] = []

    def do_GET(self) -> None:
        if not self.files:
            self.send_error(404)
            return
        data = self.files.pop(0).read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        with contextlib.suppress(OSError):
            for start in range(0, len(data), len(data) // 60 + 1):
                self.wfile.write(data[start : start + len(data) // 60 + 1])
                self.wfile.flush()
                time.sleep(0.04)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the base class's)
        pass


@contextlib.contextmanager
def serving(files: list[Path]) -> Iterator[str]:
    """A camera, as the address without the scheme."""
    _Camera.files = files
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}/live"
        server.shutdown()


@contextlib.contextmanager
def running(pipeline: Pipeline) -> Iterator[threading.Thread]:
    """Ends with the test, also with one that fails: a detector is not closed while it is used."""
    thread = threading.Thread(target=pipeline.run)
    thread.start()
    try:
        yield thread
    finally:
        pipeline.stop()
        thread.join(20)
    assert not thread.is_alive()


def test_a_camera_that_comes_back_with_other_pictures(detector: Detector, tmp_path: Path) -> None:
    sizes = [SIZE, (64, 96), SIZE]
    files = [
        write_video(tmp_path / f"{n}.ts", moving_box(60, size), encoder={"g": "5", "bf": "0"})
        for n, size in enumerate(sizes)
    ]
    found: list[FrameResult] = []
    with serving(files) as address:
        source = NetworkSource(f"http://user:secret@{address}", options=LiveOptions(retries=9))
        source.decoders = detector.decoders("nvdec", processes=1)
        pipeline = Pipeline(detector, [Stream(source)], on_result=found.append)
        with running(pipeline) as thread:
            until = time.monotonic() + 40
            while {r.frame.size for r in found[-20:]} != {SIZE} or len({r.frame.size for r in found}) < 2:
                assert time.monotonic() < until, pipeline.status()
                time.sleep(0.05)
            asked = time.monotonic()
            pipeline.stop()
            thread.join()
            assert time.monotonic() - asked < 2.5
    (status,) = pipeline.status()
    assert status.accounted
    assert status.decoders == ("nvdec",)
    assert status.reconnects == 2
    assert "secret" not in status.last_error
    assert source.info.size == SIZE
    assert all(r.frame.received_s is not None for r in found)
    ages = [time.monotonic() - (r.frame.received_s or 0) for r in found[-1:]]
    assert 0 < ages[0] < 60
    assert all(r.frame.pixels.shape[:2] == r.frame.size for r in found[:3] + found[-3:])


def test_a_process_of_a_camera_dies(detector: Detector, tmp_path: Path) -> None:
    """This process goes on with it, and numbers and times its frames as before."""
    files = [write_video(tmp_path / f"{n}.ts", moving_box(60, SIZE), encoder={"g": "5", "bf": "0"}) for n in range(9)]
    found: list[FrameResult] = []
    before, killed = children(), threading.Event()

    def on_result(result: FrameResult) -> None:
        found.append(result)
        if len(found) > 10 and not killed.is_set():
            killed.set()
            os.kill(min(children() - before), signal.SIGKILL)

    with serving(files) as address:
        source = NetworkSource(f"http://{address}", options=LiveOptions(retries=9))
        source.decoders = detector.decoders("nvdec", processes=1)
        pipeline = Pipeline(detector, [Stream(source)], on_result=on_result)
        with running(pipeline) as thread:
            until = time.monotonic() + 40
            while len(found) < 60:
                assert time.monotonic() < until, pipeline.status()
                time.sleep(0.05)
            source.stop()  # by whoever made it
            thread.join(20)
            assert not thread.is_alive()
    assert killed.is_set()
    (status,) = pipeline.status()
    assert status.accounted
    assert "the process that decodes it has ended (SIGKILL)" in status.last_error
    indices, times = [r.frame.index for r in found], [r.frame.timestamp_s for r in found]
    assert indices == sorted(set(indices))
    assert times == sorted(times)


def test_memory_comes_back_with_each_source(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short file leaves its share of the memory to the others while they go on."""
    short = write_video(tmp_path / "a.mp4", moving_box(10, SIZE))
    long = write_video(tmp_path / "b.mp4", moving_box(600, SIZE))
    decoders = detector.decoders("nvdec", processes=1)
    sources = [VideoSource(short), VideoSource(long)]
    for source in sources:
        source.decoders = decoders
    made: list[Slots] = []
    keep = Slots.__init__

    def noted(slots: Slots, *args: Any) -> None:
        made.append(slots)
        keep(slots, *args)

    monkeypatch.setattr(Slots, "__init__", noted)
    sizes: list[int] = []
    names = iter(range(10_000))

    def on_result(_: FrameResult) -> None:
        if next(names) == 500:
            gc.collect()
            sizes.extend(len(slots._slabs) for slots in made)

    pipeline = Pipeline(detector, [Stream(s, name=f"{n}") for n, s in enumerate(sources)], on_result=on_result)
    assert pipeline.run().frames == 610
    assert sizes[0] == 0 < sizes[1]


def test_left_early(detector: Detector, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(3000, SIZE))
    before, started = children(), time.monotonic()
    decoders = detector.decoders("nvdec", processes=2)
    sources = [VideoSource(path), VideoSource(path)]
    for source in sources:
        source.decoders = decoders
    pipeline: list[Pipeline] = []
    pipeline.append(Pipeline(detector, [Stream(s) for s in sources], on_result=lambda _: pipeline[0].stop()))
    pipeline[0].run()
    assert children() <= before
    assert all(status.accounted for status in pipeline[0].status())
    assert time.monotonic() - started < 30


def test_as_many_as_pay_by_themselves(plan: Path, tmp_path: Path) -> None:
    """A program without `if __name__ == "__main__"`, whose module no other process may import again."""
    path = write_video(tmp_path / "a.mp4", moving_box(40, SIZE))
    program = f"""
import sys
from pathlib import Path
from yolotrt import Detector
from yolotrt.pipeline import Pipeline, Stream
from yolotrt.sources import LiveOptions, NetworkSource, VideoSource
from yolotrt.sources.processes import spread
spread._cores = lambda: 8
counts = []
start = spread.Spread._start
def counted(self, *args):
    counts.append(1)
    start(self, *args)
spread.Spread._start = counted
with Detector({str(plan)!r}, graphs=True) as detector:
    decoders = detector.decoders()
    sources = [VideoSource(Path({str(path)!r})) for _ in range(int(sys.argv[1]))]
    for source in sources:
        source.decoders = decoders
    print(Pipeline(detector, [Stream(s, name=str(n)) for n, s in enumerate(sources)]).run().frames, len(counts))
"""
    for files, processes in ((2, 0), (4, 2)):
        done = subprocess.run(
            [sys.executable, "-c", program, str(files)], capture_output=True, text=True, cwd=ROOT, timeout=100
        )
        assert done.stdout.split() == [str(40 * files), str(processes)], done.stdout + done.stderr[-3000:]
