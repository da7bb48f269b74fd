"""Raw heads on a real GPU: the kernels beside the CPU, to the last bit, and plans beside those with a whole head."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tests.decode.test_raw import numbers, spec_of
from tests.gpu.plans import make_plan
from tests.gpu.test_cuda_graph import (
    BATCHES,
    assert_close,
    assert_same,
    closing_graphs,
    fetch,
    machine,
    on_gpu,
    picture,
)
from tests.support.tiny_heads import TinyHead, save_raw, tiny_head
from yolotrt import Detector
from yolotrt.cuda.machine import Machine
from yolotrt.decode import decode
from yolotrt.decode.detect_cuda import THRESHOLDS, DecodeKernels, DecodeLayout
from yolotrt.export.pipeline import export_model
from yolotrt.options import DetectOptions
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import RawOutputs

__all__ = ["machine"]  # a fixture

HEAD = TinyHead(batch=None, reg_max=16, strides=(8, 16, 32), nc=5)
PICTURES = [picture(h, w, i) for i, (h, w) in enumerate([(64, 64), (200, 90), (90, 300), (33, 47), (1080, 1920)])]
OPTIONS = DetectOptions(conf=0.9, iou=0.3)


@pytest.mark.real_gpu("tests/decode has it on host code")
@pytest.mark.parametrize("spread", [1.0, 4.0, 50.0])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("reg_max", [1, 16])
def test_decoding_equals_the_cpu(machine: Machine, reg_max: int, dtype: str, spread: float) -> None:
    head = TinyHead(reg_max=reg_max, strides=(8, 16, 32), nc=80, imgsz=(640, 640))
    spec, arrays = spec_of(head, dtype), numbers(head, 1, batch=4, spread=spread, dtype=dtype)
    options = [
        DetectOptions(conf=0.5),
        DetectOptions(conf=0.9, iou=0.5),
        DetectOptions(classes=(0, 40), agnostic=True),
        DetectOptions(multi_label=True, conf=0.9),
    ]
    geometries = [LetterboxGeometry.compute((1080 - i, 1920), (640, 640), rule=spec.letterbox) for i in range(4)]
    wanted = decode(RawOutputs(arrays=arrays, spec=spec), geometries, options)
    shapes = {name: array.shape for name, array in arrays.items()}
    layout = DecodeLayout.of(spec, shapes, max_det=300, every_class=True)
    thresholds, classes = np.zeros(4, THRESHOLDS), np.zeros((4, layout.class_words), np.uint32)
    for i in range(4):
        thresholds[i], classes[i] = layout.thresholds(geometries[i], options[i]), layout.classes(options[i])
    results = np.full(layout.results_size(4), 0xFF, np.uint8)
    given: list[npt.NDArray[Any]] = [thresholds.view(np.uint8), classes, results, *arrays.values()]
    with machine.active(), on_gpu(machine, *given) as (thresholds_at, classes_at, results_at, *outputs):
        kernels, queue = DecodeKernels(machine, layout, 4), machine.queue()
        at = {"thresholds": thresholds_at, "classes": classes_at, "results": results_at}
        for _ in range(3):
            kernels.launch(queue, outputs=dict(zip(arrays, outputs, strict=True)), batch=4, **at)
        queue.wait()
        found = fetch(machine, results_at, results.shape, np.uint8)
        kernels.close()
        queue.close()
    assert_same(layout.unpack(found, 4, geometries, spec.names), wanted)


def test_a_plan_through_the_host_and_as_graphs(tmp_path: Path) -> None:
    whole = tmp_path / "whole.onnx"
    onnx.save(tiny_head(HEAD), whole)
    raw = make_plan(save_raw(HEAD, tmp_path / "raw.onnx"), batch=BATCHES)
    with Detector(make_plan(whole, batch=BATCHES), strict=True, graphs=False, options=OPTIONS) as detector:
        wanted = detector(PICTURES)
    assert sum(len(d) for d in wanted) > 5
    with Detector(raw, strict=True, graphs=False, options=OPTIONS) as detector:
        assert detector.spec.head == "raw"
        assert_close(detector(PICTURES), wanted)
    with closing_graphs(raw) as runner:
        for n in (1, 3, 5):
            assert_close(runner(PICTURES[:n], OPTIONS), wanted[:n])
        every = dataclasses.replace(OPTIONS, multi_label=True)
        assert len(runner(PICTURES[:1], every)[0]) >= len(wanted[0])
        assert runner.info.note == "", "not recorded"


def test_an_export_with_pictures_in_fp16(tmp_path: Path) -> None:
    whole = tmp_path / "whole.onnx"
    onnx.save(tiny_head(HEAD), whole)
    made: Any = export_model(
        whole, precision="fp16", target="tensorrt-rtx", head="raw", fp16_input=True, batch=(1, 2, 4),
        output=tmp_path / "out",
    )  # fmt: skip
    with Detector(made.manifest_path, strict=True, graphs=False, options=OPTIONS) as detector:
        assert detector.spec.input.dtype == "float16"
        wanted = detector(PICTURES)
    with Detector(made.plan, strict=True, graphs=True, options=OPTIONS) as detector:
        assert_close(detector(PICTURES), wanted)
