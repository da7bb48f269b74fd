"""What `yolotrt.cuda.gpu` asks of the driver, with a driver on the host: `tests/gpu` has the real one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.backends.test_cuda_graph import BATCHES, PICTURES, assert_same
from tests.cuda.test_compile import needs_compiler
from tests.support.cuda_host.driver import FOREIGN, OWN, FakeDriver
from tests.support.cuda_host.engine import OnnxEngine, OnnxLane
from tests.support.cuda_host.machine import HostMachine, HostQueue
from tests.support.tiny_models import tiny_yolo
from yolotrt import Detector
from yolotrt.backends.cuda_graph import GraphRunner
from yolotrt.backends.cuda_lane import EngineLane, Enqueue
from yolotrt.cuda import compile as compile_module
from yolotrt.cuda import device as device_module
from yolotrt.cuda import gpu as gpu_module
from yolotrt.cuda.compile import cached_path
from yolotrt.cuda.device import Device
from yolotrt.cuda.gpu import Gpu
from yolotrt.cuda.machine import Queue
from yolotrt.decode.detect_cuda import CANDIDATES, NMS
from yolotrt.errors import CudaError, SourceError
from yolotrt.options import DetectOptions
from yolotrt.preprocess.letterbox_cuda import SOURCE as LETTERBOX

DEVICE = Device(index=0, name="NVIDIA Test", compute_capability="9.0", memory_bytes=2**30)


class FakeStream:
    def __init__(self, index: int) -> None:
        assert index == 0
        self.handle = 0x57AEA0

    def synchronize(self) -> None:
        """Everything was done at once."""

    close = synchronize


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    made = FakeDriver((LETTERBOX, CANDIDATES, NMS))

    @contextlib.contextmanager
    def active(self: Device) -> Iterator[None]:
        before, made.current = made.current, OWN
        yield
        made.current = before

    monkeypatch.setenv("YOLOTRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu_module, "driver", lambda: made)
    monkeypatch.setattr(gpu_module, "driver_version", lambda: (12, 8))
    monkeypatch.setattr(gpu_module, "Stream", FakeStream)
    monkeypatch.setattr(device_module.Device, "active", active)
    return made


@pytest.fixture
def machine(api: FakeDriver) -> Gpu:
    return Gpu(DEVICE)


def test_the_context_of_the_caller_comes_back(api: FakeDriver, machine: Gpu) -> None:
    for _ in range(2):
        with machine.active():
            assert api.current == OWN
            with machine.active():
                assert api.current == OWN
            assert api.current == OWN
        assert api.current == FOREIGN
    with pytest.raises(ZeroDivisionError), machine.active():
        raise ZeroDivisionError
    assert api.current == FOREIGN


def test_memory_is_zeroed_and_freed(api: FakeDriver, machine: Gpu) -> None:
    with machine.active():
        device, pinned = machine.allocate(1000), machine.pin(500)
        assert not api.open[device.address].any()
        assert not pinned.array.any()
        assert machine.is_pinned(pinned.address)
        assert not machine.is_pinned(device.address + 1)
        device.close()
        pinned.close()
        assert not api.open
        for take in (machine.allocate, machine.pin):
            with pytest.raises(CudaError, match=r"2048\.0 MiB of .* memory cannot be .*: out of GPU memory"):
                take(2**31)


def test_copies(machine: Gpu) -> None:
    with machine.active():
        queue, device, pinned = machine.queue(), machine.allocate(100), machine.pin(100)
        pinned.array[:] = np.arange(100)
        queue.copy_blocks(device.address, pinned.address + 1, 2, 30, 3)
        pinned.array[:] = 0
        queue.copy(pinned.address, device.address, 60)
        queue.wait()
        assert pinned.array[:60].tolist() == [i for i in range(1, 91) if i % 3]


def test_a_recording_runs_when_it_is_replayed(api: FakeDriver, machine: Gpu) -> None:
    with machine.active():
        queue, pinned = machine.queue(), machine.pin(2)
        recording = queue.record(lambda: queue.copy(pinned.address + 1, pinned.address, 1))
        pinned.array[0] = 5
        assert pinned.array[1] == 0
        queue.replay(recording)
        queue.wait()
        assert pinned.array[1] == 5
        recording.close()
        pinned.close()
    assert not api.open


def test_a_recording_that_fails_ends(api: FakeDriver, machine: Gpu) -> None:
    with machine.active():
        queue = machine.queue()
        with pytest.raises(CudaError, match="CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
            queue.record(queue.wait)
        queue.wait()
    assert not api.open


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


@needs_compiler
def test_kernels_are_loaded_once(api: FakeDriver, machine: Gpu) -> None:
    with machine.active():
        for name in ("letterbox_float32", "letterbox_float16", "letterbox_float32"):
            assert machine.kernel(LETTERBOX, name).name == name
        assert len(api.loads) == 1
        assert api.loads[0].startswith(b"\x7fELF")
        with pytest.raises(CudaError, match="the kernel nothing cannot be found"):
            machine.kernel(LETTERBOX, "nothing")


@needs_compiler
def test_code_that_the_driver_does_not_load_is_compiled_again(
    api: FakeDriver, machine: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(compile_module, "compile_source", lambda *_: b"bad code of another compiler")
        compile_module.compiled(LETTERBOX, "9.0")
    with machine.active():
        assert machine.kernel(LETTERBOX, "letterbox_float32")
    assert [image[:4] for image in api.loads] == [b"bad ", b"\x7fELF"]
    assert b"\x7fELF" in cached_path(LETTERBOX, "9.0").read_bytes()


@needs_compiler
def test_a_driver_that_is_too_old(api: FakeDriver, machine: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module, "compile_source", lambda *_: b"bad for this driver")
    with machine.active(), pytest.raises(CudaError, match=r"older than the compiler, got CUDA 12\.8, expected CUDA 13"):
        machine.kernel(LETTERBOX, "letterbox_float32")


@needs_compiler
def test_from_pictures_to_boxes(api: FakeDriver, machine: Gpu, tmp_path: Path) -> None:
    """The runner on this machine, with ONNX Runtime where the engine queues its work."""
    path = tiny_yolo(tmp_path / "m.onnx", batch=None)
    runner = GraphRunner(machine, _Engine(path, api), None)
    with Detector(path, backend="onnxruntime") as cpu:
        wanted = cpu(PICTURES)
    for _ in range(2):
        assert_same(runner(PICTURES, DetectOptions()), wanted)
    with machine.active():
        pinned = machine.pin(PICTURES[4].nbytes)
        pinned.array[:] = PICTURES[4].reshape(-1)
        assert_same(runner([pinned.array.reshape(192, 192, 3)], DetectOptions()), wanted[4:5])
        pinned.close()
    assert runner.info.note == ""
    runner.close()
    assert not api.open
    assert api.current == FOREIGN


class _Engine(OnnxEngine):
    """Which queues its work through the driver."""

    def __init__(self, path: Path, api: FakeDriver) -> None:
        super().__init__(path, HostMachine(), batch=BATCHES)
        self._api = api

    def lane(self, queue: Queue) -> EngineLane:  # type: ignore[override]
        return _Lane(self, self._api)


class _Lane:
    def __init__(self, engine: _Engine, api: FakeDriver) -> None:
        self._engine, self._api = engine, api

    def prepare(self, batch: int, addresses: Mapping[str, int]) -> Enqueue:
        queue = HostQueue(self._engine.machine)
        enqueue = OnnxLane(self._engine, queue).prepare(batch, addresses)

        def queued() -> None:
            self._api.do(enqueue)

        return queued

    def close(self) -> None:
        """Nothing of its own."""
