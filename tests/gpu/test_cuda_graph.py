"""Pictures to boxes as CUDA graphs, on a real GPU: kernels, plans, memory, threads and what is left behind."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.gpu.plans import make_plan
from tests.support.specs import make_spec
from tests.support.tiny_models import BLUE, GREEN, RED, tiny_yolo
from yolotrt import Detector, assets
from yolotrt.backends import flavours, tensorrt_plan
from yolotrt.backends.bare_engine import bare_engine
from yolotrt.backends.cuda_graph import GraphOptions, GraphRunner
from yolotrt.backends.cuda_lane import DeviceArrayView
from yolotrt.backends.runtime_cache import RuntimeCacheFile
from yolotrt.backends.tensorrt_engine import load_engine
from yolotrt.backends.tensorrt_graph import open_graphs
from yolotrt.cuda.compile import cached_path, compiler_version
from yolotrt.cuda.device import Device, device_count
from yolotrt.cuda.driver import check, driver
from yolotrt.cuda.gpu import Gpu
from yolotrt.cuda.gpu import gpu as gpu_machine
from yolotrt.cuda.machine import Machine, Memory
from yolotrt.decode import decode
from yolotrt.decode.detect_cuda import NMS, THRESHOLDS, DecodeKernels, DecodeLayout
from yolotrt.detections import Detections
from yolotrt.errors import BackendError, CudaError, MissingExtraError, NonFiniteOutputError, SourceError
from yolotrt.evaluation.matching import match_all
from yolotrt.export.pipeline import export_model
from yolotrt.model_spec import BatchRange, Head, ModelSpec
from yolotrt.options import DetectOptions
from yolotrt.plan_file import read_plan_file
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.preprocess.letterbox_cpu import geometry_for, letterbox
from yolotrt.preprocess.letterbox_cuda import (
    PICTURE,
    LetterboxKernel,
    Rows,
    describe_host,
    describe_surface,
)
from yolotrt.preprocess.surface import DevicePicture, Surface
from yolotrt.sources import VideoSource
from yolotrt.types import Frame, ImageU8, RawOutputs

BATCHES = BatchRange(min=1, opt=4, max=8)


@pytest.fixture(scope="module")
def machine(gpu: Device) -> Machine:
    return gpu_machine(gpu)


@contextmanager
def on_gpu(machine: Machine, *arrays: npt.NDArray[Any]) -> Iterator[tuple[int, ...]]:
    """The addresses of copies of these arrays on the GPU."""
    held = []
    queue = machine.queue()
    for array in arrays:
        data = np.ascontiguousarray(array)
        pinned, memory = machine.pin(data.nbytes), machine.allocate(data.nbytes)
        pinned.array[:] = data.reshape(-1).view(np.uint8)
        queue.copy(memory.address, pinned.address, data.nbytes)
        queue.wait()
        pinned.close()
        held.append(memory)
    yield tuple(memory.address for memory in held)
    for memory in held:
        memory.close()
    queue.close()


def fetch(machine: Machine, address: int, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """What lies at an address of the GPU."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    queue, pinned = machine.queue(), machine.pin(size)
    queue.copy(pinned.address, address, size)
    queue.wait()
    found: npt.NDArray[Any] = pinned.array.view(dtype).reshape(shape).copy()
    pinned.close()
    queue.close()
    return found


def noise(h: int, w: int, seed: int = 0) -> ImageU8:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def letterboxed(machine: Machine, tables: npt.NDArray[Any], spec: ModelSpec) -> npt.NDArray[Any]:
    shape = (len(tables), 3, *spec.imgsz)
    empty = np.full(shape, 7, spec.input.dtype)
    with on_gpu(machine, tables.view(np.uint8), empty) as (pictures, output):
        queue = machine.queue()
        LetterboxKernel(machine, spec.input.dtype).launch(queue, pictures=pictures, output=output, shape=shape)
        queue.wait()
        queue.close()
        return fetch(machine, output, shape, spec.input.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_letterbox_equals_the_cpu(machine: Machine, dtype: str) -> None:
    spec = make_spec(imgsz=(384, 640), dtype=dtype)
    sizes = [(1080, 1920), (720, 1280), (768, 1280), (2160, 3840), (384, 640), (100, 3), (1, 1), (333, 777)]
    images = [noise(h, w, i) for i, (h, w) in enumerate(sizes)]
    rows = [Rows.of(h, geometry_for(image, spec).resized_size[0]) for (h, _), image in zip(sizes, images, strict=True)]
    packed = [image if r.index is None else image[r.index] for image, r in zip(images, rows, strict=True)]
    with machine.active(), on_gpu(machine, *packed) as addresses:
        table = np.zeros(len(images), PICTURE)
        for i, (address, r, image) in enumerate(zip(addresses, rows, images, strict=True)):
            table[i] = describe_host(address, r, geometry_for(image, spec), 114)
        got = letterboxed(machine, table, spec)
    np.testing.assert_array_equal(got, letterbox(images, spec).images)


def bgr_of(nv12: npt.NDArray[np.uint8]) -> ImageU8:
    """BT.709 with luma 16..235, in swscale's whole numbers."""
    height = len(nv12) * 2 // 3
    luma = ((8 * nv12[:height].astype(np.int64) - 128) * 9539) >> 16
    pairs = 8 * nv12[height:].reshape(height // 2, -1, 2).astype(np.int64) - 1024
    u, v = np.moveaxis(pairs.repeat(2, axis=0).repeat(2, axis=1), 2, 0)
    planes = (luma + (u * 17305 >> 16), luma + (u * -1747 >> 16) + (v * -4366 >> 16), luma + (v * 14686 >> 16))
    return np.stack(planes, axis=2).clip(0, 255).astype(np.uint8)


def test_nv12_equals_the_cpu(machine: Machine) -> None:
    spec = make_spec(imgsz=(384, 640), dtype="float16")
    memory = np.random.default_rng(0).integers(0, 256, (720 * 3 // 2, 1280), np.uint8)
    image = bgr_of(memory)
    with machine.active(), on_gpu(machine, memory) as (address,):
        surface = Surface(address=address, size=(720, 1280), pitch=1280, format="nv12", matrix="bt709")
        table = np.array([describe_surface(surface, geometry_for(image, spec), 114)], PICTURE)
        got = letterboxed(machine, table, spec)
    np.testing.assert_array_equal(got, letterbox([image], spec).images)


@pytest.mark.real_gpu("tests/decode has it on host code")
@pytest.mark.parametrize("anchors", [1, 300, 8400])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("head", ["anchor_free", "objectness", "end_to_end", "detr"])
def test_decoding_equals_the_cpu(machine: Machine, head: Head, dtype: str, anchors: int) -> None:
    rng = np.random.default_rng(1)
    shape, nc = (8, anchors), 80
    centre, size, scores = rng.random((*shape, 2)), rng.random((*shape, 2)) / 4, rng.random((*shape, nc)) ** 20
    scores[4:] = np.round(scores[4:], 1)  # ties
    best = [scores.max(2, keepdims=True), scores.argmax(2)[..., None]]
    parts = {
        "anchor_free": [centre * 640, size * 640, scores],
        "objectness": [centre * 640, size * 640, scores.max(2, keepdims=True), scores],
        "end_to_end": [centre * 640, centre * 640 + size * 640, *best],
        "detr": [centre, size, *best],
    }[head]
    whole = np.concatenate(parts, 2)
    output = np.ascontiguousarray(whole.transpose(0, 2, 1) if head == "anchor_free" else whole, dtype)
    spec = make_spec(head=head, names=tuple(str(i) for i in range(nc)), imgsz=(640, 640))
    spec = dataclasses.replace(spec, outputs=(dataclasses.replace(spec.outputs[0], dtype=dtype),))
    options = [
        DetectOptions(),
        DetectOptions(conf=0.001, iou=0.5),
        DetectOptions(classes=(0, 40), agnostic=True),
        DetectOptions(multi_label=True, conf=0.2),
    ] * 2
    geometries = [LetterboxGeometry.compute((1080 - i, 1920), (640, 640), rule=spec.letterbox) for i in range(8)]
    wanted = decode(RawOutputs(arrays={"output0": output}, spec=spec), geometries, options)
    for _ in range(3):
        assert_same(decoded(machine, spec, output, geometries, options), wanted)


def decoded(
    machine: Machine,
    spec: ModelSpec,
    output: npt.NDArray[Any],
    geometries: Sequence[LetterboxGeometry],
    options: Sequence[DetectOptions],
) -> list[Detections]:
    n = len(output)
    layout = DecodeLayout.of(spec, {spec.outputs[0].name: output.shape}, max_det=300, every_class=True)
    thresholds = np.zeros(n, THRESHOLDS)
    classes = np.zeros((n, layout.class_words), np.uint32)
    for i in range(n):
        thresholds[i], classes[i] = layout.thresholds(geometries[i], options[i]), layout.classes(options[i])
    results = np.full(layout.results_size(n), 0xFF, np.uint8)
    with machine.active(), on_gpu(machine, output, thresholds.view(np.uint8), classes, results) as addresses:
        kernels, queue = DecodeKernels(machine, layout, n), machine.queue()
        first, *others = addresses
        names = ("thresholds", "classes", "results")
        outputs = {spec.outputs[0].name: first}
        kernels.launch(queue, batch=n, outputs=outputs, **dict(zip(names, others, strict=True)))
        queue.wait()
        found = fetch(machine, addresses[3], results.shape, np.uint8)
        kernels.close()
        queue.close()
    return layout.unpack(found, n, geometries, spec.names)


def assert_same(got: Sequence[Detections], wanted: Sequence[Detections]) -> None:
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a.class_id, b.class_id)
        np.testing.assert_array_equal(a.confidence, b.confidence)
        np.testing.assert_array_equal(a.xyxy, b.xyxy)


def assert_close(got: Sequence[Detections], wanted: Sequence[Detections]) -> None:
    """The same boxes within what two contexts of one engine may differ by."""
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a.class_id, b.class_id)
        np.testing.assert_allclose(a.confidence, b.confidence, atol=0.01)
        np.testing.assert_allclose(a.xyxy, b.xyxy, atol=0.5)


def picture(h: int, w: int, seed: int) -> ImageU8:
    rng = np.random.default_rng(seed)
    image = np.full((h, w, 3), 114, np.uint8)
    for colour in (RED, GREEN, BLUE):
        y, x = int(rng.integers(0, h)), int(rng.integers(0, w))
        image[y : y + h // 3 + 1, x : x + w // 3 + 1] = colour
    return image


PICTURES = [picture(h, w, i) for i, (h, w) in enumerate([(64, 64), (200, 90), (90, 300), (33, 47), (1080, 1920)] * 3)]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_plan(tiny_yolo(tmp_path_factory.mktemp("plan") / "m.onnx", batch=None), batch=BATCHES)


@pytest.fixture(scope="module")
def wanted(plan: Path) -> list[Detections]:
    with Detector(plan, strict=True, graphs=False) as detector:
        found = detector(PICTURES)
    assert sum(len(d) for d in found) > len(PICTURES)
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 15])
def test_a_plan_gives_the_boxes_of_the_other_path(plan: Path, wanted: list[Detections], n: int) -> None:
    with closing_graphs(plan) as runner:
        for _ in range(3):
            assert_close(runner(PICTURES[:n], DetectOptions()), wanted[:n])
        assert runner.info.note == "", "not recorded"


@contextmanager
def closing_graphs(path: Path, **options: Any) -> Iterator[GraphRunner]:
    runner = open_graphs(path, options=GraphOptions(**options))
    try:
        yield runner
    finally:
        runner.close()


def test_a_result_does_not_depend_on_its_batch(plan: Path) -> None:
    with closing_graphs(plan) as runner:
        alone = [runner([p], DetectOptions())[0] for p in PICTURES[:8]]
        assert_close(runner(PICTURES[:8], DetectOptions()), alone)


def test_pictures_on_the_gpu_and_in_pinned_memory(machine: Gpu, plan: Path, wanted: list[Detections]) -> None:
    image = PICTURES[4]
    with machine.active(), on_gpu(machine, image) as (address,):
        pinned = machine.pin(image.nbytes)
        pinned.array[:] = image.reshape(-1)
        view = pinned.array.reshape(image.shape)
        assert machine.is_pinned(view.ctypes.data)
        assert not machine.is_pinned(image.ctypes.data)
        array = DeviceArrayView(address, image.shape, "|u1", 0)
        given: list[Any] = [
            Surface(address=address, size=(1080, 1920), pitch=5760),
            DevicePicture(array=array),
            view,
            image,
        ]
        with closing_graphs(plan) as runner:
            assert_close(runner(given, DetectOptions()), [wanted[4]] * 4)
        pinned.close()


def test_arrays_of_the_host_are_refused(plan: Path, wanted: list[Detections]) -> None:
    with closing_graphs(plan) as runner:
        with pytest.raises(SourceError, match="not in the memory of the GPU"):
            runner([DevicePicture(array=PICTURES[0])], DetectOptions())
        with pytest.raises(SourceError, match="cannot be read"):
            runner([DevicePicture(array="no array")], DetectOptions())
        assert_close(runner(PICTURES[:2], DetectOptions()), wanted[:2])


def test_tensors_of_pytorch(plan: Path, wanted: list[Detections]) -> None:
    if not _has_torch_cuda():
        return  # not a skip, which would be a failure here: the GPU's machine need not have PyTorch
    import torch

    tensor = torch.from_numpy(PICTURES[4]).cuda()
    with closing_graphs(plan) as runner:
        assert_close(runner([DevicePicture(array=tensor)], DetectOptions()), wanted[4:5])
        planes = tensor.permute(2, 0, 1).contiguous()
        with pytest.raises(SourceError, match=r"permute\(1, 2, 0\)"):
            runner([DevicePicture(array=planes)], DetectOptions())
        with pytest.raises(SourceError, match="float32"):
            runner([DevicePicture(array=tensor.float())], DetectOptions())
        for first in range(0, 10, 2):
            of = slice(first, first + 2)
            with runner.on_device(PICTURES[of], DetectOptions()) as results:
                # As `DeviceResults` says: PyTorch takes no notice of the stream that the boxes are written in.
                queue, reader = torch.cuda.ExternalStream(results.boxes.queue), torch.cuda.current_stream()
                reader.wait_stream(queue)
                boxes = torch.as_tensor(results.boxes, device="cuda").clone()
                counts = torch.as_tensor(results.header, device="cuda").clone()
                queue.wait_stream(reader)
            runner(PICTURES[10:12], DetectOptions())  # in the same memory
            assert counts[:, 0].tolist() == [len(d) for d in wanted[of]]
            for rows, d in zip(boxes.cpu().numpy(), wanted[of], strict=True):
                np.testing.assert_allclose(rows[: len(d), :4], d.xyxy, atol=0.5)


def _has_torch_cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def test_results_on_the_gpu(machine: Machine, plan: Path, wanted: list[Detections]) -> None:
    with closing_graphs(plan) as runner, runner.on_device(PICTURES[:3], DetectOptions()) as results:
        boxes = results.boxes.__cuda_array_interface__
        header = results.header.__cuda_array_interface__
        check(driver().cuStreamSynchronize(header["stream"]), "waiting")
        counts = fetch(machine, header["data"][0], header["shape"], np.uint32)
        rows = fetch(machine, boxes["data"][0], boxes["shape"], np.float32)
    for own, (count, bad), d in zip(rows, counts, wanted, strict=False):
        assert (count, bad) == (len(d), 0)
        np.testing.assert_allclose(own[:count, :4], d.xyxy, atol=0.5)


def test_the_end_of_the_block_waits_for_the_queue(machine: Machine, plan: Path, wanted: list[Detections]) -> None:
    """What is queued behind the boxes, in their own stream, has read them by then."""
    with machine.active(), closing_graphs(plan) as runner:
        pinned = machine.pin(8)
        with runner.on_device(PICTURES[:1], DetectOptions()) as results:
            view = results.header
            check(driver().cuMemcpyAsync(pinned.address, view.address, 8, view.queue), "copying")
        assert pinned.array.view(np.uint32).tolist() == [len(wanted[0]), 0]
        pinned.close()


def test_threads(plan: Path, wanted: list[Detections]) -> None:
    start = threading.Barrier(4)
    with closing_graphs(plan, lanes=4) as runner:

        def work(i: int) -> None:
            start.wait(60)
            for k in range(50):
                first = (i + k) % 10
                n = 1 + k % 5
                assert_close(runner(PICTURES[first : first + n], DetectOptions()), wanted[first : first + n])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))


def test_a_detector(plan: Path, wanted: list[Detections]) -> None:
    with Detector(plan, graphs=True, strict=True) as detector:
        assert detector.info.device.startswith("cuda:0")
        assert detector.info.note == "", "not recorded"
        assert_close(detector(PICTURES), wanted)
        frames = [[Frame(picture=pixels, source_id="here", index=i)] for i, pixels in enumerate(PICTURES)]
        assert_close([r.detections for r in detector.detect_batches(frames)], wanted)


def test_every_gpu_of_the_host(plan: Path, wanted: list[Detections]) -> None:
    """Side by side, each with its own detector."""
    count = device_count()

    def work(number: int) -> None:
        with Detector(plan, device=f"cuda:{number}", graphs=True, strict=True) as detector:
            assert detector.info.device.startswith(f"cuda:{number}")
            for _ in range(20):
                assert_close(detector(PICTURES), wanted)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    with closing_graphs(make_plan(tiny_yolo(tmp_path / "m.onnx", nan=True))) as runner:
        for _ in range(2):
            with pytest.raises(NonFiniteOutputError):
                runner(PICTURES[:1], DetectOptions())


def test_the_callers_context_is_left_alone(gpu: Device, plan: Path) -> None:
    api = driver()

    def use() -> int:
        with closing_graphs(plan) as runner:
            runner(PICTURES[:2], DetectOptions())
        return int(check(api.cuCtxGetCurrent(), "reading"))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(use).result() == 0

        def with_context() -> tuple[int, int]:
            primary = check(api.cuDevicePrimaryCtxRetain(gpu.index), "retaining")
            check(api.cuCtxSetCurrent(primary), "setting")
            try:
                return int(primary), use()
            finally:
                check(api.cuCtxSetCurrent(0), "setting")
                check(api.cuDevicePrimaryCtxRelease(gpu.index), "releasing")

        before, after = pool.submit(with_context).result()
        assert before == after != 0


def test_the_engine_alone_is_freed_in_its_context(plan: Path) -> None:
    """In a thread that has no context of its own: nothing of a GPU is freed without one."""
    api = driver()

    def use() -> int:
        with bare_engine(plan, 2) as engine:
            engine.run()
        return int(check(api.cuCtxGetCurrent(), "reading"))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(use).result() == 0


def test_a_tensorrt_that_cannot_be_recorded(
    plan: Path, wanted: list[Detections], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before IRuntimeConfig, which TensorRT 10 began without."""

    class OldEngine:
        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            if name in ("create_runtime_config", "device_memory_size_v2"):
                raise AttributeError(name)
            return getattr(self._engine, name)

    def load(*arguments: Any) -> Any:
        runtime, engine = load_engine(*arguments)
        return runtime, OldEngine(engine)

    monkeypatch.setattr(tensorrt_plan, "load_engine", load)
    old = tuple(dataclasses.replace(can, compiles_when_loaded=False) for can in flavours.FAMILY)
    monkeypatch.setattr(flavours, "FAMILY", old)
    with pytest.raises(BackendError, match=r"this TensorRT cannot be recorded, got TensorRT.*newer one"):
        Detector(plan, graphs=True)
    with Detector(plan) as detector:
        assert detector.info.note.startswith("not as CUDA graphs: this TensorRT cannot be recorded")
        assert_close(detector(PICTURES[:3]), wanted[:3])


def test_closing_frees_the_memory(gpu: Device, tmp_path: Path) -> None:
    plan = make_plan(
        tiny_yolo(tmp_path / "m.onnx", imgsz=(640, 640), batch=None), batch=BatchRange(min=1, opt=8, max=32)
    )

    def free_after() -> int:
        with closing_graphs(plan) as runner:
            runner(PICTURES[:5] * 7, DetectOptions())
        with gpu.active():
            return int(check(driver().cuMemGetInfo(), "reading")[0])

    free_after()
    first = free_after()
    for _ in range(3):
        last = free_after()
    assert last > first - 100 * 2**20


@contextmanager
def filled(machine: Machine) -> Iterator[None]:
    """All of the GPU's memory in use but for 4 MiB."""
    size, _ = check(driver().cuMemGetInfo(), "reading")
    held: list[Memory] = []
    while size >= 2**22:
        before = len(held)
        with suppress(CudaError):
            held.append(machine.allocate(size))
        if len(held) == before:
            size //= 2
    try:
        yield
    finally:
        for memory in held:
            memory.close()


def test_out_of_memory_is_typed_and_survived(machine: Machine, plan: Path, wanted: list[Detections]) -> None:
    with closing_graphs(plan, lanes=1) as runner:
        assert_close(runner(PICTURES[:1], DetectOptions()), wanted[:1])
        with machine.active():
            with pytest.raises(CudaError, match="cannot be allocated: out of GPU memory"):
                machine.allocate(2**44)
            with filled(machine), pytest.raises(CudaError, match="cannot be allocated: out of GPU memory"):
                runner([noise(200, 60_000)] * 4, DetectOptions())
        assert_close(runner(PICTURES[:1], DetectOptions()), wanted[:1])


def test_a_damaged_kernel_cache_is_made_again(gpu: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOTRT_CACHE", str(tmp_path / "cache"))
    path = cached_path(NMS, gpu.compute_capability)
    try:
        has_compiler = compiler_version() >= (13, 0)
    except MissingExtraError:
        has_compiler = False
    for content in (None, b"", b"x" * 10_000):
        if content is not None:
            path.write_bytes(content)
        fresh = Gpu(gpu)
        with fresh.active():
            if not has_compiler:
                with pytest.raises(MissingExtraError, match="nvidia-cuda-nvrtc"):
                    fresh.kernel(NMS, "nms_float32")
                return
            assert fresh.kernel(NMS, "nms_float32").name == "nms_float32"
        assert path.stat().st_size > 20_000


def test_the_runtime_cache_is_kept_and_survives_damage(
    gpu: Device, plan: Path, wanted: list[Detections], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLOTRT_CACHE", str(tmp_path / "cache"))
    from yolotrt.backends.tensorrt_engine import choose_flavour

    plan_file = read_plan_file(plan)
    flavour = choose_flavour(plan_file)
    file = RuntimeCacheFile.of(plan_file.plan, flavour, gpu)
    for damage in (None, b"damaged", b"kernels of nobody"):
        if damage == b"damaged":
            file.path.write_bytes(damage)
        elif damage is not None:
            file.write(damage)  # whole, and nothing that TensorRT knows
        with closing_graphs(plan) as runner:
            assert_close(runner(PICTURES[:1], DetectOptions()), wanted[:1])
        if not flavour.can.compiles_when_loaded:
            assert file.read() is None
            return
        content = file.read()
        assert content is not None
        assert content != damage


def test_the_demo_model_in_fp16(tmp_path: Path) -> None:
    """The boxes of the path through the host, on the frames of the sample video."""
    weights = assets.folder() / "yolov8n_demo.pt"
    sizes = BatchRange(min=1, opt=8, max=8)
    made = export_model(weights, precision="fp16", batch=sizes, output=tmp_path / "demo-fp16")
    assert made.plan is not None, made.note
    with VideoSource(assets.sample_video()) as video:
        frames = [frame.pixels for frame in video][::4]
    with Detector(made.manifest_path, strict=True, graphs=False) as detector:
        host = detector(frames)
    with closing_graphs(made.plan) as runner:
        found = runner(frames, DetectOptions())
        assert runner.info.note == "", "not recorded"
    m = match_all(zip(host, found, strict=True), min_iou=0.98)
    assert m.reference > len(frames)
    assert m.matched_share >= 0.99, m
    assert m.added_share <= 0.01, m
