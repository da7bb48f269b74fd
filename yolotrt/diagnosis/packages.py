"""Packages that need no proof, only to be there. Found by their metadata, never imported: PyTorch takes seconds."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

from yolotrt.diagnosis.report import Check, version_of

_EXPORT = ("ultralytics", "torch", "onnxsim")


def check_export() -> Iterator[Check]:
    """What turns weights into ONNX."""
    versions = {name: version_of(name) for name in _EXPORT}
    missing = [name for name, version in versions.items() if version is None]
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)
    yield Check(
        section="Export",
        name="weights to ONNX",
        status="missing" if missing else "ok",
        detail=f"not installed: {', '.join(missing)}" + (f" (found: {found})" if found else "") if missing else found,
        remedy='pip install "yolotrt[export]"' if missing else "",
    )
    yield from _package("Export", "ONNX", "onnx", "pip install onnx")


def check_optional() -> Iterator[Check]:
    """What nothing hangs on."""
    yield from _package("Optional", "supervision", "supervision", 'pip install "yolotrt[supervision]"')
    yield from _package("Optional", "tracking, counting", "trackers", 'pip install "yolotrt[track]"')
    yield from _package("Optional", "metrics", "prometheus-client", 'pip install "yolotrt[metrics]"')
    yield from _package("Optional", "mean average precision", "faster-coco-eval", 'pip install "yolotrt[eval]"')
    if version_of("cuda-core") is None and sys.platform != "darwin":
        yield Check(
            section="Optional",
            name="CUDA for Python",
            status="missing",
            detail="not installed; plans need it to run on a GPU",
            remedy='pip install "yolotrt[gpu]"',
        )
    elif sys.platform == "darwin":
        detail = f"no NVIDIA GPUs on {platform.system()} {platform.machine()}"
        yield Check(section="Optional", name="CUDA for Python", status="absent", detail=detail)


def _package(section: str, name: str, distribution: str, install: str) -> Iterator[Check]:
    version = version_of(distribution)
    if version is None:
        yield Check(section=section, name=name, status="missing", detail="not installed", remedy=install)
    else:
        yield Check(section=section, name=name, status="ok", detail=f"{distribution} {version}")
