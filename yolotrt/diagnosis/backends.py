"""The back-ends: each runs a tiny model here and now, which is the only proof that it works."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from yolotrt.diagnosis.report import Check, install_command, one_line

if TYPE_CHECKING:
    from yolotrt.backends.base import Backend
    from yolotrt.backends.flavours import Flavour
    from yolotrt.diagnosis.machine import Gpu

SECTION = "Back-ends"
# Compute capabilities that a TensorRT-RTX of at least this version refuses, and what to install there instead: 1.4 and
# 1.6 were seen to run on 9.0 though the vendor does not list it, and 1.7.1 to refuse it.
_RTX_REFUSES = {"9.0": ((1, 7), 'pip install "tensorrt-rtx-cu13-bindings<1.7" "tensorrt-rtx-cu13-libs<1.7"')}
_LEAST_CAPABILITY = (7, 5)


def check_onnxruntime() -> Iterator[Check]:
    def opened(model: Path) -> Backend:
        from yolotrt.backends.onnx_runtime import OnnxRuntimeBackend
        from yolotrt.diagnosis.proof import proof_spec

        return OnnxRuntimeBackend(model, proof_spec(), threads=1)

    yield _proved("onnxruntime", opened, install="pip install onnxruntime")


def check_openvino() -> Iterator[Check]:
    def opened(model: Path) -> Backend:
        from yolotrt.backends.openvino_ import OpenVinoBackend
        from yolotrt.diagnosis.proof import proof_spec

        return OpenVinoBackend(model, proof_spec(), threads=1)

    yield _proved("openvino", opened, install='pip install "yolotrt[openvino]"')


def check_tensorrt() -> Iterator[Check]:
    """Each member of the family: its version, whether it fits the GPUs, and a plan built and run with it."""
    from yolotrt.backends.flavours import FAMILY, installed
    from yolotrt.diagnosis.machine import usable_gpus

    gpus, _ = usable_gpus()
    here = {flavour.key: flavour for flavour in installed()}
    for can in FAMILY:
        if can.key in here:
            yield _flavour(here[can.key], gpus)
        elif can.extra:
            yield Check(
                section=SECTION,
                name=can.title,
                status="missing",
                detail="not installed; builds and runs plans on NVIDIA GPUs",
                remedy=f'pip install "yolotrt[{can.extra}]"',
            )


def gpu_problem(flavour: str, version: str, capability: str) -> tuple[str, str]:
    """Why this flavour and version does not run on GPUs of a compute capability ("9.0"), and the remedy; or two ""."""
    parts = tuple(int(p) for p in capability.split("."))
    if parts < _LEAST_CAPABILITY:
        return f"it needs compute capability 7.5 or later, not {capability}", "use the CPU back-ends"
    if flavour == "tensorrt_rtx" and capability in _RTX_REFUSES:
        first, remedy = _RTX_REFUSES[capability]
        if tuple(int(p) for p in version.split(".")[:2] if p.isdecimal()) >= first:
            return f"version {version} refuses compute capability {capability}", remedy
    return "", ""


def _flavour(flavour: Flavour, gpus: list[Gpu]) -> Check:
    name = flavour.title
    if problem := flavour.problem:
        return Check(section=SECTION, name=name, status="broken", detail=problem, remedy=flavour.can.again)
    if not gpus:
        return _without_gpu(flavour, name)
    refused = [gpu_problem(flavour.key, flavour.version, gpu.compute_capability) for gpu in gpus]
    if all(reason for reason, _ in refused):
        return Check(section=SECTION, name=name, status="broken", detail=refused[0][0], remedy=refused[0][1])
    usable = next(gpu for gpu, (reason, _) in zip(gpus, refused, strict=True) if not reason)
    if not flavour.can.can_build:
        return Check(section=SECTION, name=name, status="ok", detail="runs plans; builds none, so it was not tried")

    def opened(model: Path) -> Backend:
        from yolotrt.backends.tensorrt_family import TensorRTBackend

        return TensorRTBackend.open(_built(flavour, model), device=usable.index, flavour=flavour)

    return _proved(name, opened, install=flavour.can.again)


def _without_gpu(flavour: Flavour, name: str) -> Check:
    if not flavour.can.builds_without_gpu:
        return Check(section=SECTION, name=name, status="absent", detail="imports; needs a GPU to build and to run")
    try:
        with tempfile.TemporaryDirectory() as folder:
            from yolotrt.diagnosis.proof import write_proof_model

            _built(flavour, write_proof_model(Path(folder)))
    except Exception as e:  # noqa: BLE001 - a broken native package raises anything
        return Check(section=SECTION, name=name, status="broken", detail=one_line(e), remedy=flavour.can.again)
    return Check(section=SECTION, name=name, status="absent", detail="builds plans here; needs a GPU to run them")


def _built(flavour: Flavour, model: Path) -> Path:
    """The model's plan, beside it."""
    from yolotrt.diagnosis.proof import proof_spec
    from yolotrt.export.plan import build_plan
    from yolotrt.options import PlanOptions

    plan = model.with_suffix(".engine")
    plan.write_bytes(build_plan(model, flavour=flavour, spec=proof_spec(), options=PlanOptions()).data)
    return plan


def _proved(name: str, opened: Callable[[Path], Backend], *, install: str) -> Check:
    from yolotrt.diagnosis.proof import prove, write_proof_model
    from yolotrt.errors import MissingExtraError

    try:
        with tempfile.TemporaryDirectory() as folder, opened(write_proof_model(Path(folder))) as backend:
            shown = "" if backend.info.version in name else f"{backend.info.version} "
            detail = f"{shown}on {backend.info.device}: {prove(backend)}"
    except MissingExtraError as e:
        return Check(
            section=SECTION, name=name, status="missing", detail=f"{e.package} is not installed", remedy=install
        )
    except ModuleNotFoundError as e:
        return Check(
            section=SECTION, name=name, status="missing", detail=one_line(e), remedy=install_command(e) or install
        )
    except Exception as e:  # noqa: BLE001 - a broken native package raises anything
        return Check(section=SECTION, name=name, status="broken", detail=one_line(e), remedy=install)
    return Check(section=SECTION, name=name, status="ok", detail=detail, needed=True)
