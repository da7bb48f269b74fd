"""`--target openvino`: OpenVINO runs the ONNX file itself, so the export proves that it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolotrt.backends.openvino_import import import_openvino
from yolotrt.errors import ExportError
from yolotrt.export.compare import LOWER_PRECISION, SAME_PRECISION, compare
from yolotrt.export.run_onnx import OnnxRunner
from yolotrt.export.samples import batches
from yolotrt.export.stages import RunningStage
from yolotrt.model_spec import ModelSpec
from yolotrt.model_spec_infer import load_onnx
from yolotrt.types import RawOutputs


def check_openvino(path: Path, spec: ModelSpec, pictures: Sequence[Path], stage: RunningStage) -> dict[str, Any]:
    """Compile the ONNX file in OpenVINO and compare it with ONNX Runtime on one batch of pictures.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        ExportError: it cannot compile the model, or computes something else.
    """
    openvino = import_openvino(needed_for="--target openvino")
    version = str(openvino.__version__).split("-")[0]
    batch = next(batches(pictures, spec))
    runner = OnnxRunner(load_onnx(path), what=path.name)
    name = spec.outputs[0].name
    try:
        # Its own default rounds to BF16 on some CPUs; here the graph is checked, not that choice.
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        output = compiled([batch.images])[0]
    except RuntimeError as e:
        raise ExportError(f"OpenVINO {version} cannot run the model ({str(e).strip().splitlines()[-1][:200]})") from e
    found = compare(
        [RawOutputs(arrays={name: runner(batch.images)[0]}, spec=spec)],
        [RawOutputs(arrays={name: output}, spec=spec)],
        [batch.geometries],
    )
    tolerance = SAME_PRECISION if spec.precision == "fp32" else LOWER_PRECISION
    found.check(tolerance, what="OpenVINO computes something else than ONNX Runtime", remedy="Report the model.")
    stage.details = {"version": version, **found.to_dict()}
    stage.result = f"OpenVINO {version} runs it: {found.summary(tolerance.iou)}"
    return stage.details
