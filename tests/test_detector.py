"""`Detector` from end to end on the tiny model, whose boxes are known from the picture."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.support.tiny_models import BLUE, CELL, GREEN, RED, tiny_yolo
from yolotrt import Detections, Detector
from yolotrt.backends import BackendName
from yolotrt.backends.cuda_lane import DeviceArrayView
from yolotrt.errors import BackendError, ModelError, NonFiniteOutputError, SourceError, UsageError
from yolotrt.preprocess.surface import DevicePicture
from yolotrt.types import Batch, Frame, ImageU8, RawOutputs


def picture(*cells: tuple[int, int, tuple[int, int, int]], size: int = 64) -> ImageU8:
    """A grey picture with coloured cells, given by row, column and BGR colour."""
    image = np.full((size, size, 3), 114, np.uint8)
    for row, column, colour in cells:
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = colour
    return image


@pytest.fixture(params=["onnxruntime", "openvino"])
def detector(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Detector]:
    with Detector(tiny_yolo(tmp_path / "m.onnx", batch=None), backend=request.param) as d:
        yield d


def test_boxes_lie_where_the_picture_says(detector: Detector) -> None:
    found = detector(picture((0, 1, RED), (3, 2, BLUE)))
    assert sorted(found.labels) == ["blue", "red"]
    red = found[found.class_id == 0].xyxy[0]
    assert ((red[0] + red[2]) / 2, (red[1] + red[3]) / 2) == pytest.approx((1.5 * CELL, 0.5 * CELL), abs=3)
    assert found.size == (64, 64)
    assert len(detector(picture())) == 0


def test_boxes_are_in_source_pixels(detector: Detector) -> None:
    small = picture((1, 1, GREEN))
    large = small.repeat(10, axis=0).repeat(10, axis=1)
    np.testing.assert_allclose(detector(large).xyxy, detector(small).xyxy * 10, rtol=1e-4)


def test_the_back_end_learns_the_lowest_threshold(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all pictures of a batch: nobody looks at boxes below it, and a back-end may leave them out."""
    asked: list[float] = []
    infer = detector.backend.infer

    def asking(batch: Batch) -> RawOutputs:
        asked.append(batch.above)
        return infer(batch)

    monkeypatch.setattr(detector.backend, "infer", asking)
    own = [None, detector.options_with(conf=0.1, classes="red"), detector.options_with(conf=0.6)]
    detector.detect_frames([Frame(picture=picture(), source_id="", index=i, options=o) for i, o in enumerate(own)])
    detector(picture())
    assert asked == [0.1, 0.25]


def test_lists_and_paths(detector: Detector, tmp_path: Path) -> None:
    images = [picture((i // 4, i % 4, RED)) for i in range(11)]
    many = detector(images)
    assert isinstance(many, list)
    for image, found in zip(images, many, strict=True):
        np.testing.assert_allclose(found.xyxy, detector(image).xyxy, rtol=1e-5)
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), images[5])
    for spelled in (path, str(path)):
        np.testing.assert_array_equal(detector(spelled).xyxy, many[5].xyxy)
    assert detector([]) == []


def test_stream_keeps_the_order(detector: Detector, tmp_path: Path) -> None:
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture((i // 4, i % 4, GREEN)))
    results = list(detector.stream(tmp_path))
    assert [Path(r.frame.source_id).name for r in results] == [f"{i}.png" for i in range(5)]
    assert all(len(r.detections) == 1 for r in results)
    assert all(r.seconds.inference > 0 and r.seconds.preprocess > 0 for r in results)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_failure_in_a_stream_is_raised_behind_the_results_before_it(tmp_path: Path, backend: BackendName) -> None:
    good = Frame(picture=picture((0, 0, RED)), source_id="a", index=0)

    def batches() -> Iterator[list[Frame]]:
        yield [good]
        yield [good]
        raise SourceError("the camera fell down")

    with Detector(tiny_yolo(tmp_path / "m.onnx"), backend=backend) as d:
        results = d.detect_batches(batches())
        assert [len(next(results).detections) for _ in range(2)] == [1, 1]
        with pytest.raises(SourceError, match="the camera fell down"):
            next(results)
        assert len(d(good.pixels)) == 1, "the detector is usable afterwards"


def test_a_stream_that_is_left_early_ends_its_reader(detector: Detector, tmp_path: Path) -> None:
    for i in range(20):
        cv2.imwrite(str(tmp_path / f"{i:02}.png"), picture((0, 0, GREEN)))
    stream = detector.stream(tmp_path)
    next(stream)
    assert "yolotrt-reader" in {t.name for t in threading.enumerate()}
    stream.close()
    assert "yolotrt-reader" not in {t.name for t in threading.enumerate()}


def test_static_batch_is_filled_and_cut(tmp_path: Path) -> None:
    images = [picture((i // 4, i % 4, BLUE)) for i in range(7)]
    with Detector(tiny_yolo(tmp_path / "b4.onnx", batch=4)) as static, Detector(tiny_yolo(tmp_path / "m.onnx")) as one:
        assert static.spec.batch.min == 4
        found = static(images)
        assert len(found) == 7
        for image, boxes in zip(images, found, strict=True):
            np.testing.assert_allclose(boxes.xyxy, one(image).xyxy, rtol=1e-5)
        streamed = [r.detections for r in static.stream(images)]
        assert [b.xyxy.tolist() for b in streamed] == [b.xyxy.tolist() for b in found]


def test_dynamic_size_groups_pictures_by_shape(tmp_path: Path) -> None:
    with Detector(tiny_yolo(tmp_path / "m.onnx", batch=None, dynamic_size=True)) as d:
        wide = np.full((32, 64, 3), 114, np.uint8)
        wide[:16, 16:32] = RED
        tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
        found = d([wide, tall, wide])
        assert [f.size for f in found] == [(32, 64), (64, 32), (32, 64)]
        np.testing.assert_allclose(found[0].xyxy, found[1].xyxy[:, [1, 0, 3, 2]], atol=1e-4)
        np.testing.assert_array_equal(found[0].xyxy, found[2].xyxy)


def test_options(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "m.onnx")
    image = picture((0, 0, RED), (2, 2, GREEN), (3, 0, BLUE))
    with Detector(model, classes=["green", 2]) as d:
        assert sorted(d(image).labels) == ["blue", "green"]
        assert d.options.classes == (1, 2)
    with Detector(model, max_det=1) as d:
        assert len(d(image)) == 1
    with Detector(model, conf=1.0) as d:
        assert len(d(image)) == 0
    for wrong in ({"conf": 2}, {"iou": -1}, {"max_det": 0}, {"classes": ["purple"]}, {"classes": [3]}):
        with pytest.raises(UsageError, match=r"option \w+ "):
            Detector(model, **wrong)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_pictures(detector: Detector, bad: ImageU8) -> None:
    with pytest.raises(SourceError, match="expected uint8"):
        detector(bad)
    with pytest.raises(SourceError, match="expected uint8"):
        detector([picture(), bad])


def test_nan_is_an_error_not_an_empty_result(tmp_path: Path) -> None:
    with Detector(tiny_yolo(tmp_path / "m.onnx", nan=True)) as d, pytest.raises(NonFiniteOutputError):
        d(picture((0, 0, RED)))


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_result_does_not_wait_for_the_next_batch(detector: Detector, ahead: int) -> None:
    over = threading.Event()

    def batches() -> Iterator[list[Frame]]:
        yield [Frame(picture=picture((0, 0, RED)), source_id="a", index=0)]
        over.wait(30)

    results = detector.detect_batches(batches(), ahead=ahead, cancel=over.set)
    assert next(results).detections.labels == ["red"]
    assert not over.is_set()
    results.close()


def test_thresholds_of_single_frames(detector: Detector) -> None:
    image = picture((0, 0, RED), (3, 3, BLUE))
    options = [None, detector.options_with(classes="blue"), detector.options_with(conf=1.0)]
    frames = [Frame(picture=image, source_id="a", index=i, options=o) for i, o in enumerate(options)]
    found = [sorted(r.detections.labels) for r in detector.detect_frames(frames)]
    assert found == [["blue", "red"], ["blue"], []]
    with pytest.raises(UsageError, match="option conf"):
        detector.options_with(conf=2)


def test_threads_share_a_detector(detector: Detector) -> None:
    images = [picture((i // 4, i % 4, RED), (3, 3, BLUE)) for i in range(12)]
    expected = [detector(i).xyxy.tolist() for i in images]
    results: dict[int, list[list[float]]] = {}
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for _ in range(20):
                results[index] = detector(images[index]).xyxy.tolist()
                assert results[index] == expected[index]
        except BaseException as e:  # noqa: BLE001 (reported by the main thread)
            failures.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    assert len(results) == 12


def test_streams_of_several_threads_share_a_detector(detector: Detector) -> None:
    images = [picture((i // 4, i % 4, RED), (3, 3, BLUE)) for i in range(12)]
    expected = [detector(i).xyxy.tolist() for i in images]

    def work(_: int) -> list[list[list[float]]]:
        return [result.detections.xyxy.tolist() for result in detector.stream(images * 3)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [expected * 3] * 4


def test_closed(detector: Detector) -> None:
    detector.close()
    detector.close()
    with pytest.raises(BackendError, match="closed"):
        detector(picture())
    with pytest.raises(BackendError, match="closed"):
        list(detector.stream(picture()))


def test_closed_under_a_stream(detector: Detector) -> None:
    stream = detector.stream([picture((0, 0, RED))] * 50)
    assert len(next(stream).detections) == 1
    detector.close()
    with pytest.raises(BackendError, match="closed"):
        list(stream)
    assert "yolotrt-reader" not in {t.name for t in threading.enumerate()}


def test_the_first_inferences_may_be_at_the_same_time(tmp_path: Path) -> None:
    # OpenVINO makes its table of types at the first use, and two threads that are the first wait for each other for
    # ever. An inference meets at that place too rarely to be a test; here nothing else stands between the threads.
    model = tiny_yolo(tmp_path / "m.onnx")
    script = f"""
import sys, threading
import openvino
from yolotrt import Detector

Detector({str(model)!r}, backend="openvino")
gate = threading.Barrier(8)

def work():
    gate.wait()
    openvino.Type.f32.to_dtype()

sys.setswitchinterval(1e-9)
threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
"""
    for _ in range(4):
        subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_pictures_of_floats_are_told_how_to_convert(detector: Detector) -> None:
    bad: Any = np.zeros((10, 10, 3), np.float32)
    with pytest.raises(
        SourceError, match=r"got an array of float32 .* convert them to uint8: \(255 \* image\)\.astype"
    ):
        detector(bad)


def test_what_is_no_picture(detector: Detector) -> None:
    bad: list[Any] = [None, 3, b"abc", [None], [3], object()]
    for item in bad:
        with pytest.raises(SourceError, match="not a picture, got an object of type"):
            detector(item)


def test_pictures_on_a_gpu_are_told_where_to_go(detector: Detector) -> None:
    array = DeviceArrayView(4096, (8, 8, 3), "|u1", 0)
    bad: list[Any] = [array, [array], DevicePicture(array=array)]
    for item in bad:
        with pytest.raises(
            SourceError, match=r"not a picture, got an object of type Device.*tensorrt_graph\.open_graphs"
        ):
            detector(item)


def test_options_of_the_wrong_type(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "m.onnx")
    wrong: list[dict[str, Any]] = [{"conf": "0.5"}, {"max_det": 1.5}, {"max_det": "3"}, {"device": "tpu"}]
    for options in wrong:
        with pytest.raises(UsageError, match=r"option \w+ "):
            Detector(model, **options)
    image = picture((0, 0, RED), (2, 2, GREEN))
    singles: list[Any] = ["green", 1, np.int64(1)]
    for single in singles:
        with Detector(model, classes=single, conf=float(np.float32(0.25))) as d:
            assert d(image).labels == ["green"]
    with pytest.raises(UsageError, match="cannot run on device 0"):
        Detector(model, device=0)


def test_models_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").touch()
    for path, message in (
        (tmp_path / "absent.onnx", "no such file"),
        (tmp_path / "folder", "not a bundle"),
        (tmp_path / "notes.txt", "not a kind of model file"),
    ):
        with pytest.raises(ModelError, match=message):
            Detector(path)


def test_frames_without_pictures_cost_nothing(detector: Detector) -> None:
    assert detector.detect_frames([]) == []
    frame = Frame(picture=picture((1, 1, RED)), source_id="a", index=7, decode_s=0.5)
    (result,) = detector.detect_frames([frame])
    assert result.frame is frame
    assert result.seconds.decode == 0.5
    assert isinstance(result.detections, Detections)
