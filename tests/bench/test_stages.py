"""What is timed of a back-end that takes pictures and gives boxes, as CUDA graphs do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_models import tiny_yolo
from yolotrt import Detections, DetectOptions, Detector
from yolotrt.backends import Backend
from yolotrt.backends.pictures import PictureBackend, ReadyPicture
from yolotrt.bench.bench import bench
from yolotrt.bench.options import BenchOptions
from yolotrt.bench.stages import ENGINE, HOST_TO_BOXES, STREAM, device_index, plan_stages
from yolotrt.model_files import find_model_files

PICTURE = np.full((48, 64, 3), 90, np.uint8)


class InOneGo(PictureBackend):
    """Pictures to boxes by another detector."""

    def __init__(self, inner: Detector) -> None:
        super().__init__(inner.spec, inner.info)
        self._inner = inner

    def _detect(self, images: Sequence[ReadyPicture], options: Sequence[DetectOptions]) -> list[Detections]:
        return self._inner([image for image in images if isinstance(image, np.ndarray)])

    def _close(self) -> None:
        self._inner.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_yolo(tmp_path / "tiny.onnx", batch=None)


def test_every_stage_gives_its_parts(model: Path) -> None:
    with (
        Detector(model, backend="onnxruntime", threads=1) as detector,
        plan_stages(detector, find_model_files(model), [PICTURE], batch=2, turn_s=1e-3) as plan,
    ):
        assert [stage.name for stage in plan.stages] == [ENGINE, HOST_TO_BOXES, STREAM]
        parts = [stage.run() for stage in plan.stages]
        assert [stage.pictures for stage in plan.stages] == [2, 1, plan.streamed]
    assert plan.batch == 2
    assert list(parts[0]) == [ENGINE]
    whole = parts[1][HOST_TO_BOXES]
    told = [parts[1][f"{HOST_TO_BOXES}: {name}"] for name in ("before", "inference", "after")]
    assert sum(told) <= whole
    assert parts[1][f"{HOST_TO_BOXES}: around the inference"] == pytest.approx(whole - told[1])


def test_pictures_to_boxes_in_one_go(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Detector(model, backend="onnxruntime", threads=1)

    def opened(*_: object, **__: object) -> Backend:
        return InOneGo(inner)

    monkeypatch.setattr("yolotrt.detector.open_backend", opened)
    found = bench(BenchOptions(model=model, seconds=0.02, device="cpu", starts=0))
    # Nothing in between can be timed, and there is no engine to be timed alone.
    assert list(found.parts) == [HOST_TO_BOXES, STREAM]
    assert found.roof is None
    assert found.around_engine_ms is None


@pytest.mark.parametrize(("device", "index"), [("cuda:0 (NVIDIA H200)", 0), ("cuda:12 (NVIDIA L4)", 12)])
def test_the_number_of_a_gpu(device: str, index: int) -> None:
    assert device_index(device) == index
