"""What can run a model here: each back-end is tried with one inference, the only proof there is."""

from __future__ import annotations

import shlex
import time
from typing import get_args

import numpy as np

from yolotrt.backends import BackendName, open_backend
from yolotrt.backends.base import Backend
from yolotrt.backends.flavours import installed
from yolotrt.errors import MissingExtraError, PlanMismatchError, YolotrtError
from yolotrt.inspection.report import Runner
from yolotrt.model_files import ModelFiles
from yolotrt.model_spec import ModelSpec
from yolotrt.plan_file import read_plan_file
from yolotrt.preprocess.letterbox_cpu import letterbox
from yolotrt.types import Batch

BACKENDS: tuple[BackendName, ...] = tuple(name for name in get_args(BackendName) if name != "auto")
_GREY = 114


def try_backends(files: ModelFiles) -> tuple[list[Runner], ModelSpec | None]:
    """Each back-end in the order of preference, and whether it runs this model here.

    With it what the first one that runs says of the model: a plan without a manifest tells only once it is loaded.
    """
    runners, spec = [], None
    for name in BACKENDS:
        runner = _missing_file(name, files)
        if runner is None:
            runner, loaded = _try(name, files)
            spec = spec or loaded
        runners.append(runner)
    return runners, spec


def one_inference(backend: Backend) -> float:
    """Run one batch of plain grey pictures; milliseconds that it took."""
    batch = grey_batch(backend.spec, channels_last=backend.channels_last)
    started = time.perf_counter()
    backend.infer(batch)
    return (time.perf_counter() - started) * 1000


def grey_batch(spec: ModelSpec, *, channels_last: bool = False) -> Batch:
    """The smallest batch that a model takes, of plain grey pictures of its own size."""
    return letterbox([np.full((*spec.imgsz, 3), _GREY, np.uint8)] * spec.batch.min, spec, channels_last=channels_last)


def _missing_file(name: BackendName, files: ModelFiles) -> Runner | None:
    """The answer for a back-end that takes another kind of file."""
    if name == "tensorrt" and files.plan is None:
        return Runner(
            backend=name,
            runs=False,
            detail="takes a plan, not an ONNX file",
            remedy=f"yolotrt export {shlex.quote(str(files.onnx))} --target tensorrt-rtx",
        )
    if name != "tensorrt" and files.onnx is None:
        return Runner(
            backend=name,
            runs=False,
            detail="takes an ONNX file, not a plan",
            remedy="name the bundle that the plan came with, or its ONNX file",
        )
    return None


def _try(name: BackendName, files: ModelFiles) -> tuple[Runner, ModelSpec | None]:
    try:
        with open_backend(files, backend=name) as backend:
            milliseconds = one_inference(backend)
            info, spec = backend.info, backend.spec
    except YolotrtError as e:
        detail = reason(e)
        if name == "tensorrt" and not isinstance(e, PlanMismatchError):
            detail += _other_version(files)
        return Runner(backend=name, runs=False, detail=detail, remedy=e.remedy or ""), None
    version = info.version if info.flavour == name else f"{info.flavour} {info.version}"
    detail = f"{version} on {info.device}, {info.precision}; one inference took {milliseconds:.1f} ms"
    return Runner(backend=name, runs=True, detail=detail), spec


def _other_version(files: ModelFiles) -> str:
    """That a plan is of another TensorRT than the one here, which without a GPU nothing else says; else empty."""
    assert files.plan is not None
    plan = read_plan_file(files.plan)
    here = [f for f in installed() if plan.header.magic in f.can.magics and not f.can.version_compatible_only]
    if plan.is_version_compatible or not plan.version or not here or plan.version == here[0].version:
        return ""
    return f"; besides, it was built by version {plan.version} and {here[0].title} is installed"


def reason(error: YolotrtError) -> str:
    """An error without its remedy, which has its own place in a table."""
    if isinstance(error, MissingExtraError):
        return f"the package {error.package} is not installed"
    text = str(error)
    return text.removesuffix(error.remedy).rstrip(" .") if error.remedy else text
