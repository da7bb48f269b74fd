"""The whole way of a picture on a GPU, run without one: kernels as host code, ONNX Runtime in place of the engine."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from tests.support.cuda_host.engine import OnnxEngine, at
from tests.support.cuda_host.machine import HostMachine
from tests.support.tiny_heads import TinyHead, save_raw, tiny_head
from tests.support.tiny_models import BLUE, GREEN, RED, tiny_yolo
from yolotrt import Detector, assets
from yolotrt.backends import cuda_graph
from yolotrt.backends.cuda_graph import GraphOptions, GraphRunner
from yolotrt.backends.cuda_lane import Lane, graph_sizes
from yolotrt.detections import Detections
from yolotrt.errors import BackendError, CudaError, ModelError, NonFiniteOutputError, SourceError, UsageError
from yolotrt.model_spec import BatchRange
from yolotrt.options import DetectOptions
from yolotrt.preprocess.surface import DevicePicture, Surface
from yolotrt.types import ImageU8

BATCHES = BatchRange(min=1, opt=4, max=6)


def picture(h: int, w: int, seed: int = 0) -> ImageU8:
    """Coloured squares, which the tiny model finds."""
    rng = np.random.default_rng(seed)
    image = np.full((h, w, 3), 114, np.uint8)
    for colour in (RED, GREEN, BLUE):
        y, x = int(rng.integers(0, h)), int(rng.integers(0, w))
        image[y : y + max(h // 3, 1), x : x + max(w // 3, 1)] = colour
    return image


PICTURES = [picture(h, w, i) for i, (h, w) in enumerate([(64, 64), (200, 90), (90, 300), (33, 47), (192, 192)] * 2)]


class Bench:
    """A tiny model in the graph runner and on the ordinary CPU path."""

    def __init__(self, path: Path, batch: BatchRange | None = BATCHES, **options: Any) -> None:
        self.machine = HostMachine()
        self.engine = OnnxEngine(path, self.machine, batch=batch)
        self.runner = GraphRunner(self.machine, self.engine, GraphOptions(**options))
        self.cpu = Detector(path, backend="onnxruntime")

    def wanted(self, pictures: Sequence[ImageU8], options: DetectOptions | None = None) -> list[Detections]:
        self.cpu.options = options or DetectOptions()
        return self.cpu(pictures)

    def close(self) -> None:
        self.runner.close()
        self.cpu.close()
        assert self.machine.open == 0, "something was left open"
        assert self.engine.closed


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tiny_yolo(tmp_path / "m.onnx", batch=None))
    yield made
    made.close()


def assert_same(got: Sequence[Detections], wanted: Sequence[Detections]) -> None:
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
        np.testing.assert_array_equal(a.confidence, b.confidence)
        np.testing.assert_array_equal(a.class_id, b.class_id)
        assert (a.size, a.names) == (b.size, b.names)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 10])
def test_any_number_of_pictures(bench: Bench, n: int) -> None:
    wanted = bench.wanted(PICTURES[:n])
    assert sum(len(d) for d in wanted) >= n
    assert_same(bench.runner(PICTURES[:n], DetectOptions()), wanted)


def test_no_pictures(bench: Bench) -> None:
    assert bench.runner([], DetectOptions()) == []
    assert bench.engine.prepared == []


def test_batches_are_recorded_once(tmp_path: Path) -> None:
    made = Bench(tiny_yolo(tmp_path / "m.onnx", batch=None), lanes=1)
    for n in (10, 5, 3, 1, 6, 2):
        made.runner(PICTURES[:n], DetectOptions())
    # 10 = 6 + 4, 5 goes into 6, 3 into 4.
    assert made.engine.prepared == [6, 4, 1, 2]
    assert made.machine.replays == 7
    made.close()


def test_a_batch_is_started_before_the_one_before_it_is_waited_for(bench: Bench) -> None:
    waits: list[int] = []
    bench.machine.on_wait = lambda: waits.append(bench.machine.replays)
    pictures = PICTURES * 2
    assert_same(bench.runner(pictures, DetectOptions()), bench.wanted(pictures))
    # 20 pictures are 6 + 6 + 6 + 2; the second wait behind the third batch is for the recording of the smaller one.
    assert [n for n in waits if n > 1] == [2, 3, 3, 4, 4]


@pytest.mark.parametrize("bad", range(0, 20, 5))
def test_a_bad_picture_in_a_later_batch(bench: Bench, bad: int) -> None:
    pictures: list[Any] = PICTURES * 2
    pictures[bad] = "a.jpg"
    with pytest.raises(SourceError):
        bench.runner(pictures, DetectOptions())
    assert_same(bench.runner(PICTURES, DetectOptions()), bench.wanted(PICTURES))


def test_calls_with_many_batches_do_not_wait_for_each_other_forever(bench: Bench) -> None:
    wanted = bench.wanted(PICTURES * 2)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: bench.runner(PICTURES * 2, DetectOptions()), range(12)):
            assert_same(found, wanted)


def test_a_static_batch(tmp_path: Path) -> None:
    made = Bench(tiny_yolo(tmp_path / "m.onnx", batch=4), batch=None, lanes=1)
    for n in (1, 4, 9):
        assert_same(made.runner(PICTURES[:n], DetectOptions()), made.wanted(PICTURES[:n]))
    assert made.engine.prepared == [4]
    made.close()


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [((1, 1, 1), (1,)), ((1, 8, 32), (1, 2, 4, 8, 16, 32)), ((4, 4, 4), (4,)), ((3, 5, 9), (3, 4, 5, 8, 9))],
)
def test_sizes_that_are_recorded(batch: tuple[int, int, int], sizes: tuple[int, ...]) -> None:
    assert graph_sizes(BatchRange(min=batch[0], opt=batch[1], max=batch[2])) == sizes


@pytest.mark.parametrize("options", [{"lanes": 0}, {"max_det": 0}])
def test_options_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="out of range, got 0, expected at least 1"):
        GraphOptions(**options)


def test_options_of_each_picture(bench: Bench) -> None:
    options = [
        DetectOptions(conf=0.9),
        DetectOptions(classes=(1,)),
        DetectOptions(max_det=1),
        DetectOptions(iou=0.1, agnostic=True),
        DetectOptions(clip=False),
    ]
    wanted = [bench.wanted([p], o)[0] for p, o in zip(PICTURES, options, strict=False)]
    assert_same(bench.runner(PICTURES[:5], options), wanted)
    with pytest.raises(ValueError, match="one per picture"):
        bench.runner(PICTURES[:2], options)


def test_classes_as_a_list(bench: Bench) -> None:
    options = DetectOptions(classes=[0, 2])  # type: ignore[arg-type]
    assert_same(bench.runner(PICTURES[:2], options), bench.wanted(PICTURES[:2], options))


def test_room_is_made_for_more_boxes(bench: Bench) -> None:
    bench.runner(PICTURES[:1], DetectOptions())
    for options in (DetectOptions(conf=0.0, max_det=500), DetectOptions(conf=0.0, multi_label=True, max_det=400)):
        assert_same(bench.runner(PICTURES[:3], options), bench.wanted(PICTURES[:3], options))
    assert bench.engine.prepared == [1, 4, 4]


def test_pictures_that_are_not_contiguous(bench: Bench) -> None:
    views = [picture(400, 400)[::2, ::-1], picture(2000, 500)[:, ::3]]
    assert_same(bench.runner(views, DetectOptions()), bench.wanted([v.copy() for v in views]))


def test_pictures_larger_than_one_piece(bench: Bench) -> None:
    for h, w in ((1080, 1920), (2160, 3840), (700, 1000)):
        assert_same(bench.runner([picture(h, w)], DetectOptions()), bench.wanted([picture(h, w)]))


def test_pinned_pictures(bench: Bench) -> None:
    bench.machine.pinned = True
    pictures = [*PICTURES[:3], picture(320, 320), picture(384, 100), picture(1000, 999)]
    assert_same(bench.runner(pictures, DetectOptions()), bench.wanted(pictures))


def test_pictures_on_the_gpu(bench: Bench) -> None:
    wide = np.zeros((90, 320, 3), np.uint8)
    wide[:, :300] = PICTURES[2]
    given: list[Any] = [
        DevicePicture(array=PICTURES[0]),
        PICTURES[1],
        DevicePicture(array=wide[:, :300]),
        DevicePicture(array=np.ascontiguousarray(PICTURES[3][..., ::-1]), format="rgb"),
        Surface(address=PICTURES[4].ctypes.data, size=(192, 192), pitch=576),
    ]
    assert_same(bench.runner(given, DetectOptions()), bench.wanted(PICTURES[:5]))


def test_surfaces_follow_others_in_a_batch(tmp_path: Path) -> None:
    """The same place in one batch after the other: what is kept of a picture there is no other one's."""
    made = Bench(tiny_yolo(tmp_path / "m.onnx", batch=None), lanes=1)
    same = [picture(192, 192, seed) for seed in range(20, 25)]
    two, few, dogs = DetectOptions(max_det=2), DetectOptions(conf=0.9), DetectOptions(classes=(0,))
    options = DetectOptions()

    def check(pictures: list[ImageU8], each: list[DetectOptions], *, rgb: bool = False, host: bool = False) -> None:
        form: Any = "rgb" if rgb else "bgr"
        stored = [np.ascontiguousarray(p[..., ::-1]) if rgb else p for p in pictures]
        given: list[Any] = [
            p if host else Surface(address=p.ctypes.data, size=p.shape[:2], pitch=p.strides[0], format=form)
            for p in stored
        ]
        wanted = [made.wanted([p], o)[0] for p, o in zip(pictures, each, strict=True)]
        assert_same(made.runner(given, each), wanted)

    check(same[:2], [options] * 2)
    check(same[2:4], [options] * 2)
    check(same[4:], [options])
    check(same[:2], [options] * 2)
    check(same[2:4], [two, few])
    check(same[:2], [dogs, few])
    check(same[1:3], [dogs, options])
    check(same[2:4], [options, dogs], rgb=True)
    check(same[:2], [options, dogs])
    check(same[3:5], [options, dogs], host=True)
    check([PICTURES[0], same[0]], [options, dogs])
    check(same[:2], [options, dogs])
    made.close()


def test_nv12_surfaces(bench: Bench) -> None:
    """As the picture that the same numbers are in BGR, within what the colours' conversion rounds."""
    yuv = cv2.cvtColor(PICTURES[4], cv2.COLOR_BGR2YUV_I420)
    chroma = yuv[192:].reshape(2, 96 * 96).T.reshape(96, 192)
    nv12 = np.concatenate((yuv[:192], chroma))
    found = bench.runner([DevicePicture(array=nv12, format="nv12", matrix="bt601")], DetectOptions())[0]
    wanted = bench.wanted([cv2.cvtColor(yuv, cv2.COLOR_YUV2BGR_I420)])[0]  # type: ignore[list-item]
    assert len(found) == len(wanted) > 0
    np.testing.assert_array_equal(found.class_id, wanted.class_id)
    np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=1)
    assert_same(
        bench.runner([DevicePicture(array=nv12[..., None], format="nv12", matrix="bt601")], DetectOptions()), [found]
    )


@pytest.mark.parametrize(
    ("array", "form", "said"),
    [
        (np.zeros((8, 8, 3), np.float32), "bgr", r"not a bgr picture, got an array of float32 \(8, 8, 3\)"),
        (np.zeros((3, 8, 8), np.uint8), "rgb", r"expected uint8 \(H, W, 3\).*permute"),
        (np.zeros((8, 8), np.uint8), "bgr", "not a bgr picture"),
        (np.zeros((8, 16, 3), np.uint8)[:, ::2], "bgr", r"rows are not contiguous.*\.contiguous\(\)"),
        (np.zeros((8, 8, 3), np.uint8)[::-1], "bgr", "rows are not contiguous"),
        (np.zeros((8, 8), np.uint8), "nv12", r"expected uint8 \(H \* 3 / 2, W\)"),
    ],
)
def test_bad_arrays_on_the_gpu(bench: Bench, array: Any, form: Any, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        bench.runner([PICTURES[0], DevicePicture(array=array, format=form)], DetectOptions())
    assert_same(bench.runner(PICTURES[:2], DetectOptions()), bench.wanted(PICTURES[:2]))
    assert bench.engine.prepared == [2], "a bad picture costs nothing but the call"


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), "a.jpg"])
def test_bad_pictures(bench: Bench, bad: Any) -> None:
    with pytest.raises(SourceError, match="not a picture"):
        bench.runner([bad], DetectOptions())


def test_results_on_the_gpu(bench: Bench) -> None:
    wanted = bench.wanted(PICTURES[:3])
    with bench.runner.on_device(PICTURES[:3], DetectOptions()) as results:
        arrays = []
        for view in (results.header, results.boxes):
            interface = view.__cuda_array_interface__
            assert (interface["version"], interface["strides"]) == (3, None)
            arrays.append(at(interface["data"][0], interface["shape"], interface["typestr"]))
        header, boxes = arrays
        assert header[:, 0].tolist() == [len(d) for d in wanted]
        for rows, count, d in zip(boxes, header[:, 0], wanted, strict=True):
            np.testing.assert_array_equal(rows[:count, :4], d.xyxy)
            np.testing.assert_array_equal(rows[:count, 5], d.class_id)
    for n in (0, 7):
        with (
            pytest.raises(BackendError, match=f"got {n}, expected 1 to 6"),
            bench.runner.on_device(PICTURES[:n], DetectOptions()),
        ):
            pass


def test_an_error_of_the_reader_of_results(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError), bench.runner.on_device(PICTURES[:1], DetectOptions()):
        raise ZeroDivisionError
    assert_same(bench.runner(PICTURES[:1], DetectOptions()), bench.wanted(PICTURES[:1]))


def test_threads_run_side_by_side(tmp_path: Path) -> None:
    made = Bench(tiny_yolo(tmp_path / "m.onnx", batch=None), lanes=2)
    wanted = made.wanted(PICTURES)
    inside = threading.Barrier(2)

    def hold(_: int) -> None:
        with made.runner.on_device(PICTURES[:1], DetectOptions()):
            inside.wait(60)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold, range(2)))
        for i, got in enumerate(pool.map(lambda i: made.runner([PICTURES[i % 10]], DetectOptions()), range(40))):
            assert_same(got, wanted[i % 10 : i % 10 + 1])
    made.close()


def test_a_lane_with_another_number_of_pictures_shows_nothing_of_the_batch_before(bench: Bench) -> None:
    bench.runner(PICTURES[:4], DetectOptions())
    assert_same(bench.runner(PICTURES[4:7], DetectOptions()), bench.wanted(PICTURES[4:7]))


def test_engines_that_cannot_be_recorded(bench: Bench) -> None:
    bench.engine.cannot_be_recorded = True
    for _ in range(2):
        assert_same(bench.runner(PICTURES[:3], DetectOptions()), bench.wanted(PICTURES[:3]))
    assert bench.machine.replays == 0
    assert "without a CUDA graph: a CUDA graph cannot be recorded" in bench.runner.info.note


def test_out_of_memory_for_a_large_batch(bench: Bench) -> None:
    """A smaller one runs all the same."""
    bench.engine.out_of_memory_from = 3
    with pytest.raises(CudaError, match="out of GPU memory"):
        bench.runner(PICTURES[:6], DetectOptions())
    assert_same(bench.runner(PICTURES[:2], DetectOptions()), bench.wanted(PICTURES[:2]))


def test_out_of_memory_for_a_lane(bench: Bench) -> None:
    bench.machine.memory = 1000
    with pytest.raises(CudaError, match="cannot be allocated"):
        bench.runner(PICTURES[:1], DetectOptions())
    assert bench.machine.open == 0, "what was allocated before is freed"
    bench.machine.memory = 2**30
    assert_same(bench.runner(PICTURES[:1], DetectOptions()), bench.wanted(PICTURES[:1]))


def test_out_of_memory_for_more_boxes(bench: Bench) -> None:
    """Others do not pay for one call that asks for too much."""
    bench.runner(PICTURES[:1], DetectOptions())
    bench.machine.memory = 1000
    with pytest.raises(CudaError, match="cannot be allocated"):
        bench.runner(PICTURES[:1], DetectOptions(multi_label=True))
    bench.machine.memory = 2**30
    assert_same(bench.runner(PICTURES[:1], DetectOptions()), bench.wanted(PICTURES[:1]))
    assert not bench.runner._room.every_class


def test_out_of_memory_for_a_large_picture(bench: Bench) -> None:
    bench.runner(PICTURES[:1], DetectOptions())
    bench.machine.memory = 10**6
    with pytest.raises(CudaError, match="cannot be allocated"):
        bench.runner([picture(4000, 4000)], DetectOptions())
    assert_same(bench.runner(PICTURES[:1], DetectOptions()), bench.wanted(PICTURES[:1]))


def test_a_gpu_that_fails(bench: Bench) -> None:
    bench.machine.fails = True
    for _ in range(3):  # more often than there are lanes
        with pytest.raises(CudaError, match="work on the GPU failed"):
            bench.runner(PICTURES[:1], DetectOptions())
    bench.machine.fails = False
    assert_same(bench.runner(PICTURES[:1], DetectOptions()), bench.wanted(PICTURES[:1]))


def test_closing_on_a_gpu_that_is_lost(tmp_path: Path) -> None:
    made = Bench(tiny_yolo(tmp_path / "m.onnx", batch=None))
    made.runner(PICTURES, DetectOptions())
    made.machine.fails = True
    made.close()


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    made = Bench(tiny_yolo(tmp_path / "m.onnx", batch=None, nan=True))
    for _ in range(2):
        with pytest.raises(NonFiniteOutputError):
            made.runner(PICTURES[:1], DetectOptions())
    assert made.engine.prepared == [1], "the GPU did nothing wrong"
    made.close()


def test_models_of_changing_size_are_refused(tmp_path: Path) -> None:
    machine = HostMachine()
    engine = OnnxEngine(tiny_yolo(tmp_path / "m.onnx", batch=None, dynamic_size=True), machine, batch=BATCHES)
    with pytest.raises(ModelError, match="height and width change"):
        GraphRunner(machine, engine)


def test_inputs_of_integers_are_refused(tmp_path: Path) -> None:
    machine = HostMachine()
    engine = OnnxEngine(tiny_yolo(tmp_path / "m.onnx"), machine)
    engine.spec = dataclasses.replace(engine.spec, input=dataclasses.replace(engine.spec.input, dtype="uint8"))
    with pytest.raises(ModelError, match="got uint8"):
        GraphRunner(machine, engine)


def test_warm_up(bench: Bench) -> None:
    bench.runner.warm_up()
    bench.runner.warm_up(1)
    assert bench.engine.prepared == [4, 1]
    assert bench.machine.replays == 0


def test_get_ready(tmp_path: Path) -> None:
    """After it nothing is recorded any more, whichever lane and size comes."""
    made = Bench(tiny_yolo(tmp_path / "m.onnx", batch=None), lanes=2)
    options = DetectOptions(max_det=400)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(made.runner.get_ready, [options]) for _ in range(2)]:
            done.result(timeout=30)
    assert sorted(made.engine.prepared) == [1, 1, 2, 2, 4, 4, 6, 6]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: made.runner(PICTURES[:n], options), (1, 2, 3, 6, 5, 1, 2, 4)))
    assert len(made.engine.prepared) == 8
    made.close()


def test_closed_while_it_gets_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the two comes first; neither waits for a lane that the other one has."""
    begun = threading.Event()

    class SlowLane(Lane):
        def __init__(self, *args: Any) -> None:
            begun.set()
            time.sleep(0.2)
            super().__init__(*args)

    monkeypatch.setattr(cuda_graph, "Lane", SlowLane)
    made = Bench(tiny_yolo(tmp_path / "m.onnx", batch=None), lanes=2)

    def get_ready() -> None:
        with contextlib.suppress(BackendError):
            made.runner.get_ready()

    threads = [threading.Thread(target=get_ready, daemon=True), threading.Thread(target=made.close, daemon=True)]
    threads[0].start()
    begun.wait()
    threads[1].start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_closed(tmp_path: Path) -> None:
    made = Bench(tiny_yolo(tmp_path / "m.onnx", batch=None))
    made.runner(PICTURES[:1], DetectOptions())
    made.close()
    made.runner.close()
    with pytest.raises(BackendError, match="the model is closed"):
        made.runner(PICTURES[:1], DetectOptions())


def test_a_lane_waits_before_it_frees(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane(bench.machine, bench.engine, bench.runner._room)
    open_while_waiting = []
    wait = lane._queue.wait

    def seen() -> None:
        open_while_waiting.append(bench.machine.open)
        wait()

    monkeypatch.setattr(lane._queue, "wait", seen)
    before = bench.machine.open
    lane.close()
    assert open_while_waiting == [before]


def test_the_demo_model_gives_the_boxes_of_the_cpu() -> None:
    machine = HostMachine()
    runner = GraphRunner(machine, OnnxEngine(assets.demo_model(), machine), GraphOptions(lanes=1))
    pictures = [cv2.imread(str(path)) for path in sorted(assets.folder().glob("sample-*.jpg"))[:2]]
    with Detector(assets.demo_model(), backend="onnxruntime") as cpu:
        wanted = cpu(pictures)  # type: ignore[arg-type]
    assert sum(len(d) for d in wanted) > 5
    assert_same(runner(pictures, DetectOptions()), wanted)  # type: ignore[arg-type]
    runner.close()


@pytest.mark.parametrize("head", [TinyHead(batch=None), TinyHead(batch=None, reg_max=16, strides=(8, 16, 32), nc=5)])
def test_a_raw_head(head: TinyHead, tmp_path: Path) -> None:
    """Two outputs per level, of which the decode kernels read all; in batches of several sizes."""
    whole = tmp_path / "whole.onnx"
    onnx.save(tiny_head(head), whole)
    made = Bench(save_raw(head, tmp_path / "raw.onnx"))
    options = DetectOptions(conf=0.9, iou=0.3)
    wanted = made.wanted(PICTURES, options)
    assert sum(len(d) for d in wanted) > 10
    assert_same(made.runner(PICTURES, options), wanted)
    every = dataclasses.replace(options, multi_label=True)
    assert_same(made.runner(PICTURES[:3], every), made.wanted(PICTURES[:3], every))
    made.close()
    with Detector(whole, backend="onnxruntime", options=options) as detector:
        for a, b in zip(detector(PICTURES), wanted, strict=True):
            np.testing.assert_array_equal(a.class_id, b.class_id)
            np.testing.assert_allclose(a.xyxy, b.xyxy, atol=0.02)
            np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-5)
