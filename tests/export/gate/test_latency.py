"""Versions are timed as a detector would run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_models import tiny_yolo
from yolotrt.backends.base import Backend
from yolotrt.export.gate.latency import Where, measure_latencies
from yolotrt.export.gate.proof import Latency
from yolotrt.model_spec_infer import load_onnx, read_onnx_spec
from yolotrt.options import DetectOptions, PlanOptions
from yolotrt.types import Batch


@pytest.mark.parametrize("dynamic_size", [False, True], ids=["fixed", "dynamic"])
def test_the_batch_is_that_of_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dynamic_size: bool) -> None:
    seen: list[Batch] = []
    infer = Backend.infer

    def watched(self: Backend, batch: Batch) -> Any:
        seen.append(batch)
        return infer(self, batch)

    monkeypatch.setattr(Backend, "infer", watched)
    monkeypatch.setattr("yolotrt.export.gate.latency._SECONDS", 0.05)
    path = tiny_yolo(tmp_path / "m.onnx", dynamic_size=dynamic_size)
    spec = read_onnx_spec(path)
    picture = np.random.default_rng(0).integers(0, 255, (spec.imgsz[0] // 2, spec.imgsz[1], 3), np.uint8)
    where = Where(target="openvino", flavour=None, plan=PlanOptions())
    found = measure_latencies({"FP32": (load_onnx(path), "fp32")}, spec, where, picture)["FP32"]
    assert isinstance(found, Latency), found
    assert {batch.above for batch in seen} == {DetectOptions().conf}
    images = seen[0].images
    assert images.shape == (spec.batch.opt, 3, *spec.imgsz), "its own size, also where a smaller one would do"
    top = spec.imgsz[0] // 4
    inside = images[:, :, top : top + len(picture)].transpose(0, 2, 3, 1)[..., ::-1]
    np.testing.assert_allclose(inside, np.broadcast_to(picture / 255, inside.shape), atol=1e-6)
