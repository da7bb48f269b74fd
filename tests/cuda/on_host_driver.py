"""What `yolotrt.cuda` asks of the driver, through the real bindings, of a driver in the memory of the host.

`test_gpu.py` runs this file in a process of its own. The real driver is asked by `tests/gpu`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.backends.test_cuda_graph import BATCHES, PICTURES, assert_same
from tests.cuda.test_compile import needs_compiler
from tests.support.cuda_host import launches
from tests.support.cuda_host.driver import HostDriver, host_function
from tests.support.cuda_host.engine import OnnxEngine, OnnxLane
from tests.support.cuda_host.machine import HostMachine, HostQueue
from tests.support.tiny_models import tiny_yolo
from yolotrt import Detector
from yolotrt.backends.cuda_graph import GraphRunner
from yolotrt.backends.cuda_lane import EngineLane, Enqueue
from yolotrt.bench.cuda_events import EventPair
from yolotrt.cuda import compile as compile_module
from yolotrt.cuda import gpu as gpu_module
from yolotrt.cuda.compile import cached_path
from yolotrt.cuda.device import Device, device_count, waits_asleep
from yolotrt.cuda.driver import check, driver, driver_version
from yolotrt.cuda.gpu import Gpu
from yolotrt.cuda.machine import Memory, Queue
from yolotrt.cuda.memory import StagedBuffer
from yolotrt.cuda.stream import Stream
from yolotrt.cuda.uncollected import uncollected
from yolotrt.errors import CudaError, SourceError
from yolotrt.options import DetectOptions
from yolotrt.preprocess.letterbox_cuda import SOURCE as LETTERBOX
from yolotrt.preprocess.surface import DevicePicture


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostDriver]:
    monkeypatch.setenv("YOLOTRT_CACHE", str(tmp_path / "cache"))
    made = HostDriver()
    make_current(made.foreign)
    yield made
    assert not launches.failed
    assert current() == made.foreign, "the caller's context is the current one again"


@pytest.fixture
def machine(api: HostDriver) -> Gpu:
    return Gpu(Device.open(0))


def current() -> int:
    return int(check(driver().cuCtxGetCurrent(), "no context"))


def make_current(context: int) -> None:
    check(driver().cuCtxSetCurrent(driver().CUcontext(context)), "no context")


def test_the_gpu(api: HostDriver) -> None:
    assert driver_version() == (13, 0)
    assert device_count() == 1
    found = Device.open(0)
    assert str(found) == "cuda:0 (NVIDIA Host)"
    assert found.compute_capability == "8.9"
    with pytest.raises(CudaError, match="there is no GPU number 1, got 1 GPU"):
        Device.open(1)


def test_threads_that_sleep_while_they_wait(api: HostDriver) -> None:
    waits_asleep(0)
    assert api.context_flags == 4
    with pytest.raises(CudaError, match="GPU 1 cannot be set up: there is no such GPU"):
        waits_asleep(1)


def test_the_context_of_the_caller_comes_back(api: HostDriver, machine: Gpu) -> None:
    for _ in range(2):
        with machine.active():
            assert current() == api.primary
            with machine.active():
                assert current() == api.primary
            assert current() == api.primary
        assert current() == api.foreign
    with pytest.raises(ZeroDivisionError), machine.active():
        raise ZeroDivisionError
    assert machine.handle.context == api.primary


def within(machine: Gpu) -> int:
    with machine.active():
        return current()


def test_a_thread_that_is_held(api: HostDriver, machine: Gpu) -> None:
    with machine.held():
        assert current() == api.primary
        with machine.active():
            assert current() == api.primary
        make_current(api.foreign)
        with machine.active():
            assert current() == api.foreign, "nobody looks"
        machine.allocate(10).close()
        make_current(api.primary)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(within, machine).result() == api.primary, "another thread is not held"
    assert current() == api.foreign
    with machine.active():
        assert current() == api.primary


def test_memory_is_zeroed_and_freed(api: HostDriver, machine: Gpu) -> None:
    with machine.active():
        before = api.open
        device, pinned = machine.allocate(1000), machine.pin(500)
        assert not any((ctypes.c_ubyte * 1000).from_address(device.address))
        assert not pinned.array.any()
        assert machine.is_pinned(pinned.address)
        assert not machine.is_pinned(device.address + 1)
        assert not machine.is_pinned(np.zeros(9).ctypes.data)
        device.close()
        pinned.close()
        for take in (machine.allocate, machine.pin):
            with pytest.raises(CudaError, match=r"2048\.0 MiB of .* memory cannot be .*: out of GPU memory"):
                take(2**31)
        assert api.open == before


def test_copies(machine: Gpu) -> None:
    with machine.active():
        queue, device, pinned = machine.queue(), machine.allocate(100), machine.pin(100)
        pinned.array[:] = np.arange(100)
        queue.copy_blocks(device.address, pinned.address + 1, 2, 30, 3)
        queue.wait()
        pinned.array[:] = 0
        queue.copy(pinned.address, device.address, 60)
        assert not pinned.array.any(), "done when it is waited for"
        queue.wait()
        assert pinned.array[:60].tolist() == [i for i in range(1, 91) if i % 3]
        for part in (queue, device, pinned):
            part.close()


def test_a_buffer_and_its_pinned_twin(api: HostDriver, machine: Gpu) -> None:
    before = api.open
    with machine.active():
        stream = Stream(0)
        buffer = StagedBuffer(4000, index=0, stream=stream)
        values = buffer.host((1000,), np.float32)
        values[:] = np.arange(1000)
        buffer.upload(4000)
        stream.synchronize()
        values[:] = 0
        buffer.download(2000)
        stream.synchronize()
        assert values[[1, 499, 500]].tolist() == [1, 499, 0]
        with pytest.raises(CudaError, match="MiB of GPU memory cannot be allocated: out of GPU memory"):
            StagedBuffer(2**44, index=0, stream=stream)
        buffer.close()
        events = EventPair(stream)
        events.start()
        events.stop()
        assert events.seconds() == pytest.approx(0.0025)
        del events
        stream.close()
    assert api.open == before


def test_a_recording_runs_when_it_is_replayed(api: HostDriver, machine: Gpu) -> None:
    with machine.active():
        before = api.open
        queue, pinned = machine.queue(), machine.pin(2)
        recording = queue.record(lambda: queue.copy(pinned.address + 1, pinned.address, 1))
        pinned.array[0] = 5
        queue.wait()
        assert pinned.array[1] == 0
        queue.replay(recording)
        queue.wait()
        assert pinned.array[1] == 5
        for part in (recording, pinned, queue):
            part.close()
        assert api.open == before


def test_a_recording_that_fails_ends(api: HostDriver, machine: Gpu) -> None:
    with machine.active():
        before = api.open
        queue = machine.queue()
        with pytest.raises(CudaError, match="CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
            queue.record(queue.wait)
        queue.wait()
        queue.close()
        assert api.open == before


class Picture:
    """Frees its memory when it ends, as decoded pictures do; it is in a cycle, so the garbage collector ends it."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.itself = memory, self

    def __del__(self) -> None:
        with contextlib.suppress(CudaError):
            self.memory.close()


def test_garbage_does_not_end_a_recording(api: HostDriver, machine: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA lets no thread that records free memory, and what was recorded so far is lost."""
    with machine.active():
        before, thresholds = api.open, gc.get_threshold()
        queue, pinned = machine.queue(), machine.pin(2)

        def work() -> None:
            held = [[number] for number in range(10_000)]  # the collector would run
            queue.copy(pinned.address + 1, pinned.address, len(held[1]))

        gc.collect()
        Picture(machine.allocate(100))
        queue.record(work).close()
        assert gc.isenabled()
        gc.collect()

        monkeypatch.setattr(gpu_module, "uncollected", contextlib.nullcontext())
        Picture(machine.allocate(100))
        gc.set_threshold(100)
        try:
            with pytest.raises(CudaError, match="a CUDA graph cannot be recorded"):
                queue.record(work)
        finally:
            gc.set_threshold(*thresholds)
        pinned.close()
        queue.close()
        assert api.open == before + 1, "the picture whose end was refused"


def test_threads_that_record_at_the_same_time() -> None:
    with uncollected:
        with uncollected:
            pass
        assert not gc.isenabled(), "the first one still records"
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected:
            pass
        assert not gc.isenabled(), "the caller wants it so"
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (PICTURES[0], "not in the memory of the GPU that runs the model, got host memory, expected cuda:0"),
        ("no array", "cannot be read: .*Hand over an array with DLPack"),
    ],
)
def test_arrays_that_are_not_on_the_gpu(machine: Gpu, array: object, said: str) -> None:
    with machine.active(), pytest.raises(SourceError, match=said):
        machine.view(array, machine.queue())


def test_tensors_of_the_host(machine: Gpu) -> None:
    torch = pytest.importorskip("torch")
    with machine.active(), pytest.raises(SourceError, match="got host memory"):
        machine.view(torch.zeros((4, 4, 3), dtype=torch.uint8), machine.queue())


def test_arrays_on_the_gpu(machine: Gpu) -> None:
    with machine.active():
        queue, memory = machine.queue(), machine.allocate(600)
        found = machine.view(CudaArray(memory.address, (10, 15, 3), (60, 3, 1)), queue)
        assert (found.address, found.shape, found.strides) == (memory.address, (10, 15, 3), (60, 3, 1))
        assert found.dtype == np.uint8
        found = machine.view(CudaArray(memory.address, (10, 15, 3)), queue)
        assert found.strides == (45, 3, 1)
        memory.close()
        queue.close()


@needs_compiler
def test_kernels_are_loaded_once(api: HostDriver, machine: Gpu) -> None:
    before = api.loads
    with machine.active():
        for name in ("letterbox_float32", "letterbox_float16", "letterbox_float32"):
            assert machine.kernel(LETTERBOX, name).name == name
        assert api.loads == before + 1
        with pytest.raises(CudaError, match="the kernel nothing cannot be found"):
            machine.kernel(LETTERBOX, "nothing")


@needs_compiler
def test_code_that_the_driver_does_not_load_is_compiled_again(
    api: HostDriver, machine: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = api.loads
    with monkeypatch.context() as patch:
        patch.setattr(compile_module, "compile_source", lambda *_: b"bad code of another compiler")
        compile_module.compiled(LETTERBOX, "8.9")
    assert b"bad code" in cached_path(LETTERBOX, "8.9").read_bytes()
    with machine.active():
        assert machine.kernel(LETTERBOX, "letterbox_float32")
    assert api.loads == before + 1
    assert b"\x7fELF" in cached_path(LETTERBOX, "8.9").read_bytes()


@needs_compiler
def test_a_driver_that_is_too_old(api: HostDriver, machine: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module, "compile_source", lambda *_: b"bad for this driver")
    api.set_version(12080)
    try:
        said = r"older than the compiler, got CUDA 12\.8, expected CUDA 13"
        with machine.active(), pytest.raises(CudaError, match=said):
            machine.kernel(LETTERBOX, "letterbox_float32")
    finally:
        api.set_version(13000)


@needs_compiler
def test_from_pictures_to_boxes(api: HostDriver, machine: Gpu, tmp_path: Path) -> None:
    """The runner on this machine, with ONNX Runtime where the engine queues its work."""
    path = tiny_yolo(tmp_path / "m.onnx", batch=None)
    before = api.open
    runner = GraphRunner(machine, _Engine(path), None)
    with Detector(path, backend="onnxruntime") as cpu:
        wanted = cpu(PICTURES)
    for _ in range(2):
        assert_same(runner(PICTURES, DetectOptions()), wanted)
    with machine.active():
        picture = PICTURES[4]
        pinned, device, queue = machine.pin(picture.nbytes), machine.allocate(picture.nbytes), machine.queue()
        pinned.array[:] = picture.reshape(-1)
        assert_same(runner([pinned.array.reshape(picture.shape)], DetectOptions()), wanted[4:5])
        queue.copy(device.address, pinned.address, picture.nbytes)
        queue.wait()
        there = DevicePicture(array=CudaArray(device.address, picture.shape))
        assert_same(runner([there], DetectOptions()), wanted[4:5])
        for part in (pinned, device, queue):
            part.close()
    assert runner.info.note == ""
    runner.close()
    assert api.open == before


@needs_compiler
def test_threads_side_by_side(api: HostDriver, machine: Gpu, tmp_path: Path) -> None:
    path = tiny_yolo(tmp_path / "m.onnx", batch=None)
    runner = GraphRunner(machine, _Engine(path), None)
    with Detector(path, backend="onnxruntime") as cpu:
        wanted = cpu(PICTURES)
    with machine.active():
        device = machine.allocate(PICTURES[4].nbytes)
        copied = machine.queue()
        copied.copy(device.address, PICTURES[4].ctypes.data, PICTURES[4].nbytes)
        copied.wait()
    there = DevicePicture(array=CudaArray(device.address, PICTURES[4].shape))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: runner([*PICTURES, there], DetectOptions()), range(12)):
            assert_same(found, [*wanted, wanted[4]])
    runner.close()
    with machine.active():
        device.close()
        copied.close()


class CudaArray:
    """What CuPy's arrays say of themselves."""

    def __init__(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> None:
        self.__cuda_array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": shape,
            "strides": strides,
            "data": (address, False),
            "stream": None,
        }


class _Engine(OnnxEngine):
    """Which queues its work in a stream."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, HostMachine(), batch=BATCHES)

    def lane(self, queue: Queue) -> EngineLane:  # type: ignore[override]
        return _Lane(self, queue)


class _Lane:
    def __init__(self, engine: _Engine, queue: Queue) -> None:
        self._engine, self._queue = engine, queue
        self._kept: list[object] = []

    def prepare(self, batch: int, addresses: Mapping[str, int]) -> Enqueue:
        work = OnnxLane(self._engine, HostQueue(self._engine.machine)).prepare(batch, addresses)
        function = host_function(work)
        self._kept.append(function)
        address = ctypes.cast(function, ctypes.c_void_p).value

        def queued() -> None:
            api = driver()
            check(api.cuLaunchHostFunc(self._queue.handle, api.CUhostFn(address), 0), "the engine cannot be queued")

        return queued

    def close(self) -> None:
        self._kept.clear()
