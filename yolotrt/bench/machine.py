"""The machine that is measured on: what it is, what runs on it, and how busy others keep it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from yolotrt._version import __version__
from yolotrt.diagnosis.report import version_of

_PACKAGES = ("numpy", "onnxruntime", "openvino")
_STAT = Path("/proc/stat")
_CPUINFO = Path("/proc/cpuinfo")
BUSY = 0.1
"""Share of the CPUs that others may take before a measurement is called disturbed."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What it is measured on.

    Attributes:
        cpu: its name.
        cores: logical ones that this process may use.
        memory_gib: of the machine; None where it cannot be told.
        gpus: names of the GPUs that can be used; empty without one.
        driver: version of the NVIDIA driver, if there is one.
        system: Python and operating system.
        versions: of yolotrt and the packages that were used.
        date: of the measurement, ISO 8601.
    """

    cpu: str
    cores: int
    memory_gib: float | None
    gpus: Sequence[str]
    driver: str | None
    system: str
    versions: Mapping[str, str]
    date: str

    @classmethod
    def here(cls, *, gpu: bool, packages: Sequence[str] = ()) -> Machine:
        """This machine.

        Args:
            gpu: whether a GPU is measured, and so is named.
            packages: distributions to name the versions of, beside those that every measurement uses.
        """
        gpus: list[str] = []
        driver = None
        if gpu:
            from yolotrt.diagnosis.machine import driver_release, usable_gpus

            gpus, driver = [f"{g.name}, {g.memory_mib:,} MiB" for g in usable_gpus()[0]], driver_release()
        named = dict.fromkeys([*_PACKAGES, *packages])
        versions = {name: version for name in named if (version := version_of(name)) is not None}
        return cls(
            cpu=_cpu_name(),
            cores=len(_usable_cpus()),
            memory_gib=_memory_gib(),
            gpus=gpus,
            driver=driver,
            system=f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
            versions={"yolotrt": __version__, **versions, "OpenCV": cv2.__version__},
            date=time.strftime("%Y-%m-%d"),
        )

    def __str__(self) -> str:
        cores = f"{self.cores} core{'' if self.cores == 1 else 's'}"
        memory = f", {self.memory_gib:.0f} GiB" if self.memory_gib else ""
        gpus = f"; {'; '.join(self.gpus)}, driver {self.driver or 'unknown'}" if self.gpus else ""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.cpu}, {cores}{memory}{gpus}; {self.system}; {versions}; {self.date}"


@dataclass(frozen=True, kw_only=True)
class Load:
    """How busy the machine was while it was measured. None where it cannot be told.

    Attributes:
        others: share of the usable CPUs' time that went to other programs, or to other guests of the host, 0..1.
        average: processes that ran or waited, over the last minute, all of them.
        gpu_before: share of time that the busiest GPU computed just before.
    """

    others: float | None = None
    average: float | None = None
    gpu_before: float | None = None

    @property
    def busy(self) -> bool:
        """Whether the figures are disturbed."""
        return (self.others or 0.0) > BUSY or (self.gpu_before or 0.0) > BUSY

    def __str__(self) -> str:
        told = []
        if self.others is not None:
            told.append(f"other programs took {self.others:.0%} of the CPUs")
        if self.average is not None:
            told.append(f"load average {self.average:.1f}")
        if self.gpu_before is not None:
            told.append(f"GPU {self.gpu_before:.0%} busy beforehand")
        return ", ".join(told) or "unknown"


class Watch:
    """Looks at the load of the machine from its making to `load`.

    Work of child processes counts as one's own once they have ended.
    """

    def __init__(self, *, gpu: bool) -> None:
        self._gpu = _gpu_busy() if gpu else None
        self._before = _cpu_seconds()
        self._own = _own_seconds()

    def load(self) -> Load:
        """The load since then."""
        others = None
        after = _cpu_seconds()
        if self._before is not None and after is not None:
            whole, busy = after[0] - self._before[0], after[1] - self._before[1]
            own = _own_seconds() - self._own
            others = min(max((busy - own) / whole, 0.0), 1.0) if whole > 0 else None
        return Load(others=others, average=_load_average(), gpu_before=self._gpu)


def _cpu_seconds() -> tuple[float, float] | None:
    """(all, not idle) seconds of the CPUs that this process may use, since the start of the machine."""
    if not _STAT.is_file():
        return None
    names = {f"cpu{number}" for number in _usable_cpus()}
    tick = os.sysconf("SC_CLK_TCK")
    whole = idle = 0.0
    for line in _STAT.read_text().splitlines():
        name, *fields = line.split()
        if name in names:
            # user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user already.
            ticks = [int(field) for field in fields[:8]]
            whole += sum(ticks) / tick
            idle += sum(ticks[3:5]) / tick
    return (whole, whole - idle) if whole else None


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _usable_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return None


def _gpu_busy() -> float | None:
    from yolotrt.metrics.gpu import GpuMonitor

    monitor = GpuMonitor()
    try:
        return max((load.busy for load in monitor.read()), default=None)
    finally:
        monitor.close()


def _cpu_name() -> str:
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, OSError, ValueError):
        return None
