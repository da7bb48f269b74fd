"""The machine: Python, driver, GPUs, CUDA."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from yolotrt.diagnosis.report import Check, one_line, version_of
from yolotrt.errors import MissingExtraError

SECTION = "GPU"
_INSTALL = 'pip install "yolotrt[gpu]"'
_NVIDIA_SMI_TIMEOUT_S = 1.5
_QUERY = "name,compute_cap,memory.total,driver_version"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU: CUDA's number, name, compute capability ("8.9") and memory in MiB."""

    index: int
    name: str
    compute_capability: str
    memory_mib: int


def check_machine() -> Iterator[Check]:
    from yolotrt._version import __version__

    detail = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    yield Check(section="Machine", name="yolotrt", status="ok", detail=f"{__version__}, {detail}")


def check_gpus() -> Iterator[Check]:
    """Driver, CUDA and each GPU."""
    driver = driver_release()
    found, problem = usable_gpus()
    listed = [] if found else _listed_gpus()
    if driver is None and not found and not listed:
        yield Check(
            section=SECTION, name="driver", status="absent", detail="no NVIDIA driver or GPU: models run on the CPU"
        )
        return
    yield Check(section=SECTION, name="driver", status="ok", detail=driver or "version unknown")
    if found:
        from yolotrt.cuda.driver import driver_version

        packages = f"cuda-bindings {version_of('cuda-bindings')}, cuda-core {version_of('cuda-core')}"
        major, minor = driver_version()
        yield Check(
            section=SECTION, name="CUDA", status="ok", detail=f"the driver runs CUDA up to {major}.{minor}; {packages}"
        )
    else:
        missing = version_of("cuda-core") is None or version_of("cuda-bindings") is None
        yield Check(
            section=SECTION,
            name="CUDA",
            status="missing" if missing else "broken",
            detail="the CUDA packages for Python are not installed" if missing else problem or "no usable GPU",
            remedy=_INSTALL if missing else "check nvidia-smi and CUDA_VISIBLE_DEVICES",
        )
    for gpu in found or listed:
        yield Check(
            section=SECTION,
            name=f"cuda:{gpu.index}",
            status="ok" if found else "absent",
            detail=f"{gpu.name}, compute capability {gpu.compute_capability}, {gpu.memory_mib:,} MiB"
            + ("" if found else " (not usable from Python yet)"),
        )


def check_nvrtc() -> Iterator[Check]:
    """The compiler of the kernels, which plans that run as CUDA graphs need."""
    if sys.platform == "darwin":
        return
    try:
        from yolotrt.cuda.compile import compiler_version

        detail = "{}.{} compiles the kernels of CUDA graphs".format(*compiler_version())
    except MissingExtraError as e:
        detail = f"{e.package} is not installed; plans that run as CUDA graphs need it"
        yield Check(section=SECTION, name="NVRTC", status="missing", detail=detail, remedy=_INSTALL)
        return
    except Exception as e:  # noqa: BLE001 - a broken native package raises anything
        again = "pip install --force-reinstall nvidia-cuda-nvrtc"
        yield Check(section=SECTION, name="NVRTC", status="broken", detail=one_line(e), remedy=again)
        return
    yield Check(section=SECTION, name="NVRTC", status="ok", detail=detail)


def usable_gpus() -> tuple[list[Gpu], str]:
    """The GPUs that CUDA gives us, and why there are none where that is an error."""
    try:
        from yolotrt.cuda.device import Device, device_count
        from yolotrt.cuda.driver import driver

        driver()
        devices = [Device.open(i) for i in range(device_count())]
    except Exception as e:  # noqa: BLE001 - a broken native package raises anything
        return [], one_line(e)
    return [
        Gpu(
            index=d.index,
            name=d.name,
            compute_capability=d.compute_capability,
            memory_mib=d.memory_bytes // 2**20,
        )
        for d in devices
    ], ""


def driver_release() -> str | None:
    """Version of the NVIDIA driver; None without one. From NVML, which is there wherever the driver is."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlSystemGetDriverVersion())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # noqa: BLE001 - not installed, no driver, or broken: nvidia-smi is asked instead
        rows = _nvidia_smi()
        return rows[0][3] if rows else None


def _listed_gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi lists, for when the CUDA packages cannot be asked."""
    return [
        Gpu(index=i, name=name, compute_capability=capability, memory_mib=int(memory) if memory.isdecimal() else 0)
        for i, (name, capability, memory, _) in enumerate(_nvidia_smi())
    ]


def _nvidia_smi() -> list[list[str]]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        done = subprocess.run(
            [tool, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == len(_QUERY.split(","))]
