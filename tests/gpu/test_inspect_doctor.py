"""What `inspect` and `doctor` say where there is a GPU."""

from __future__ import annotations

from pathlib import Path

from tests.gpu.plans import make_plan
from tests.support.tiny_models import tiny_yolo
from yolotrt.backends.flavours import for_target
from yolotrt.cuda.device import Device
from yolotrt.diagnosis.diagnose import diagnose
from yolotrt.inspection.inspect import inspect_model


def test_doctor_runs_a_plan_on_the_gpu(gpu: Device) -> None:
    found = diagnose()
    rows = {check.name: check for check in found.checks}
    assert gpu.name in rows["cuda:0"].detail
    assert gpu.compute_capability in rows["cuda:0"].detail
    assert rows["driver"].status == rows["CUDA"].status == "ok"
    tensorrt = rows[for_target("auto").title]
    assert tensorrt.status == "ok", tensorrt
    assert "a small model runs right" in tensorrt.detail
    assert found.can_run


def test_a_plan_without_a_manifest_tells_what_it_is_once_it_is_loaded(tmp_path: Path) -> None:
    plan = make_plan(tiny_yolo(tmp_path / "tiny.onnx"), manifest=False)
    found = inspect_model(plan)
    assert found.spec is not None
    assert found.spec.head == "anchor_free"
    assert found.spec.imgsz == (64, 64)
    assert [t.name for t in found.inputs] == ["images"]
    assert found.runners[0].runs, found.runners[0]
    assert found.layers, "the engine inspector gives no layers"
