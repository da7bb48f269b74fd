"""Plans for the GPU tests, built by whichever TensorRT is installed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from yolotrt import files
from yolotrt.backends.flavours import for_target
from yolotrt.backends.tensorrt_family import TensorRTBackend
from yolotrt.export.plan import build_plan
from yolotrt.manifest import FileRecord, Manifest, PlanRecord
from yolotrt.model_spec import BatchRange, ModelSpec
from yolotrt.model_spec_infer import read_onnx_spec
from yolotrt.options import PlanOptions
from yolotrt.preprocess.geometry import LetterboxGeometry
from yolotrt.types import Batch


def make_plan(onnx: Path, *, batch: BatchRange | None = None, manifest: bool = True, **options: Any) -> Path:
    """Build `onnx` into a plan beside it, with a manifest, and return the plan's path."""
    flavour = for_target("auto")
    spec = read_onnx_spec(onnx)
    if batch is not None:
        spec = dataclasses.replace(spec, batch=batch)
    built = build_plan(onnx, flavour=flavour, spec=spec, options=PlanOptions(**options))
    path = onnx.with_suffix(".engine")
    path.write_bytes(built.data)
    if manifest:
        write_manifest(
            path,
            onnx,
            spec,
            PlanRecord(
                file=path.name,
                sha256=files.sha256_of(path),
                flavour=built.flavour,
                version=built.version,
                compute_capabilities=built.compute_capabilities,
                options=built.options,
            ),
        )
    return path


def write_manifest(path: Path, onnx: Path, spec: ModelSpec, plan: PlanRecord) -> None:
    Manifest(
        name=path.stem,
        created="2026-01-01T00:00:00Z",
        yolotrt="0",
        spec=spec,
        source=FileRecord(file=onnx.name, sha256="0"),
        precision_asked=spec.precision,
        inputs_digest="0",
        onnx=FileRecord(file=onnx.name, sha256=files.sha256_of(onnx)),
        plan=plan,
    ).write(path.with_suffix(".json"))


def open_plan(onnx: Path, *, batch: BatchRange | None = None, **options: Any) -> TensorRTBackend:
    return TensorRTBackend.open(make_plan(onnx, batch=batch, **options))


def noise(spec: ModelSpec, n: int = 1, *, size: tuple[int, int] | None = None, seed: int = 0) -> Batch:
    """`n` pictures of noise in the model's dtype."""
    size = size or spec.imgsz
    images = np.random.default_rng(seed).random((n, 3, *size), np.float32).astype(spec.input.dtype)
    geometry = LetterboxGeometry.compute(size, size, rule=spec.letterbox)
    return Batch(images=images, geometries=(geometry,) * n)


def reference(onnx: Path, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What ONNX Runtime gives on the CPU."""
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(outputs[0])
