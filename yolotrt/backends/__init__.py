"""The back-ends, and how one is chosen for a model.

Adding a back-end: a module with a `Backend`, a row in `_OPENERS`, a row in `tests/contract`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from yolotrt.backends.base import Backend, BackendInfo
from yolotrt.errors import (
    BackendError,
    FallbackRefusedError,
    MissingExtraError,
    ModelError,
    PlanMismatchError,
    UsageError,
)
from yolotrt.model_files import ModelFiles
from yolotrt.model_spec import ModelSpec

__all__ = ["Backend", "BackendInfo", "BackendName", "open_backend"]

BackendName = Literal["auto", "tensorrt", "openvino", "onnxruntime"]
ReadSpec = Callable[[], ModelSpec]


def open_backend(
    files: ModelFiles,
    *,
    backend: BackendName = "auto",
    device: str = "auto",
    strict: bool = False,
    threads: int = 0,
    graphs: bool | None = False,
) -> Backend:
    """Load a model in the fastest back-end that can run it here.

    In this order: the TensorRT plan on the GPU, OpenVINO and ONNX Runtime on the CPU; ONNX Runtime before OpenVINO for
    FP8, which it rounds exactly and in no more time. Where a bundle's plan cannot run here its ONNX file does, and
    `info.note` says why. A plan named by itself has nothing to fall back to.

    Args:
        files: of the model.
        backend: take this one only.
        device: `auto`, `cpu`, `cuda`, or `cuda:N` / `N` for the GPU with that number.
        strict: raise FallbackRefusedError rather than run in another back-end than the plan's.
        threads: of a CPU back-end; 0 takes one per physical core.
        graphs: run a TensorRT plan as CUDA graphs from pictures to boxes (a `PictureBackend`), or raise. None does so
            where it can; `info.note` says why where it cannot.

    Raises:
        UsageError: an unknown back-end or device, or two options that exclude each other.
        BackendError, ModelError: nothing can run it; the error is that of the best back-end.
    """
    gpu = _gpu_index(device)
    if threads < 0:
        raise UsageError("option threads is out of range", got=threads, expected="0 (one per core) or more")
    # Read at most once, and only where it is needed: that of a large ONNX file takes a while.
    spec = functools.cache(functools.partial(read_spec, files))
    names = _candidates(files, "tensorrt" if graphs and backend == "auto" else backend, device, spec)
    if graphs and names != ["tensorrt"]:
        raise UsageError("option graphs is for TensorRT plans", got=f"back-end {backend}", expected="tensorrt")
    failure: Exception | None = None
    for name in names:
        try:
            opened = _OPENERS[name](files, gpu, threads, spec) if name != "tensorrt" else _tensorrt(files, gpu, graphs)
        except (BackendError, ModelError, MissingExtraError) as e:
            if strict and len(names) > 1:
                raise FallbackRefusedError(f"{name} cannot run {files.asked} and strict forbids another: {e}") from e
            failure = failure or e
            continue
        note = f"not {names[0]}: {failure}" if failure else opened.info.note or _hint(name, opened.spec)
        opened.info = dataclasses.replace(opened.info, note=note)
        return opened
    assert failure is not None
    raise failure


def read_spec(files: ModelFiles) -> ModelSpec:
    """The description of the model, without loading it in a back-end."""
    if files.manifest is not None:
        return files.manifest.spec
    if files.onnx is not None:
        from yolotrt.model_spec_infer import read_onnx_spec

        return read_onnx_spec(files.onnx)
    from yolotrt.plan_file import read_plan_file

    assert files.plan is not None
    return read_plan_file(files.plan).spec()


def _candidates(files: ModelFiles, backend: BackendName, device: str, spec: ReadSpec) -> list[str]:
    """The back-ends to try, best first."""
    if backend not in get_args(BackendName):
        raise UsageError("option backend is unknown", got=backend, expected=" | ".join(get_args(BackendName)))
    possible = []
    if files.plan is not None and device != "cpu":
        possible.append("tensorrt")
    if files.onnx is not None and device in ("auto", "cpu"):
        possible += [name for name in _cpu_order(backend, spec) if name == backend or find_spec(name)]
    if backend != "auto":
        if backend not in possible:
            raise UsageError(
                f"{files.asked} cannot run in back-end {backend} on device {device}",
                expected="a plan and a GPU for tensorrt, an ONNX file and the CPU for openvino and onnxruntime",
            )
        return [backend]
    if not possible:
        raise UsageError(
            f"{files.asked} cannot run on device {device}",
            expected="a GPU for a plan, the CPU for an ONNX file",
            remedy="Make a plan with: yolotrt export MODEL --target tensorrt-rtx" if files.plan is None else None,
        )
    return possible


def _cpu_order(backend: BackendName, spec: ReadSpec) -> tuple[str, str]:
    """ONNX back-ends, the one that runs the model fastest first."""
    with contextlib.suppress(ModelError):  # a file that cannot be read is the matter of whoever opens it
        if backend == "auto" and spec().precision == "fp8":
            return "onnxruntime", "openvino"
    return "openvino", "onnxruntime"


def _gpu_index(device: str) -> int:
    """The number in `cuda:N` or `N`; 0 for the devices without one."""
    if device in ("auto", "cpu", "cuda"):
        return 0
    number = device.removeprefix("cuda:")
    if not number.isdecimal():
        raise UsageError("option device is unknown", got=device, expected="auto, cpu, cuda or cuda:N")
    return int(number)


def _hint(name: str, spec: ModelSpec) -> str:
    """What would run faster than this, if it can be had."""
    if name == "tensorrt":
        return ""
    if spec.precision == "fp8":
        return "CPUs have no FP8: every other precision is faster"
    return "" if name != "onnxruntime" or find_spec("openvino") else 'faster with: pip install "yolotrt[openvino]"'


def _tensorrt(files: ModelFiles, gpu: int, graphs: bool | None) -> Backend:
    from yolotrt.cuda.early import started_early

    assert files.plan is not None
    with started_early(gpu):
        return _open_plan(files.plan, gpu, graphs)


def _open_plan(plan: Path, gpu: int, graphs: bool | None) -> Backend:
    from yolotrt.backends.tensorrt_family import TensorRTBackend
    from yolotrt.backends.tensorrt_graph import TensorRTGraphBackend

    note = ""
    if graphs is not False:
        try:
            return TensorRTGraphBackend.open(plan, device=gpu)
        except PlanMismatchError:
            raise
        except (BackendError, ModelError, MissingExtraError) as e:
            if graphs:
                raise
            note = f"not as CUDA graphs: {e}"
    opened = TensorRTBackend.open(plan, device=gpu)  # what is wrong with the plan itself, this one says too
    opened.info = dataclasses.replace(opened.info, note=note)
    return opened


def _openvino(files: ModelFiles, _gpu: int, threads: int, spec: ReadSpec) -> Backend:
    from yolotrt.backends.openvino_ import OpenVinoBackend

    return OpenVinoBackend(_onnx(files), spec(), threads=threads)


def _onnxruntime(files: ModelFiles, _gpu: int, threads: int, spec: ReadSpec) -> Backend:
    from yolotrt.backends.onnx_runtime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(_onnx(files), spec(), threads=threads)


def _onnx(files: ModelFiles) -> Path:
    assert files.onnx is not None
    return files.onnx


_OPENERS: dict[str, Callable[[ModelFiles, int, int, ReadSpec], Backend]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}
