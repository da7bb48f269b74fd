"""Run every check. Adding one: a function that yields rows, and a line in `_PROBES`."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence

from yolotrt.diagnosis.report import Check, Diagnosis, Probe, Status, install_command, one_line

# Section, what a row is called if the probe itself fails, and "module:function".
_PROBES = (
    ("Machine", "yolotrt", "machine:check_machine"),
    ("GPU", "driver", "machine:check_gpus"),
    ("GPU", "NVRTC", "machine:check_nvrtc"),
    ("Back-ends", "tensorrt", "backends:check_tensorrt"),
    ("Back-ends", "openvino", "backends:check_openvino"),
    ("Back-ends", "onnxruntime", "backends:check_onnxruntime"),
    ("Pictures and video", "pictures", "media:check_pictures"),
    ("Pictures and video", "videos", "media:check_videos"),
    ("Pictures and video", "NVDEC", "media:check_nvdec"),
    ("Export", "weights to ONNX", "packages:check_export"),
    ("Optional", "packages", "packages:check_optional"),
)


def diagnose() -> Diagnosis:
    """Check this machine. Never raises: what is missing or broken is a row with its reason."""
    # A package that fails to import may print its own advice, which would spoil `--json`.
    with contextlib.redirect_stdout(sys.stderr):
        checks = [check for section, name, home in _PROBES for check in _run(section, name, home)]
    problem = _problem(checks)
    return Diagnosis(can_run=not problem, conclusion=problem or _ready(checks), checks=checks)


def _run(section: str, name: str, home: str) -> Sequence[Check]:
    rows: list[Check] = []
    try:
        module, function = home.split(":")
        probe: Probe = getattr(importlib.import_module(f"yolotrt.diagnosis.{module}"), function)
        rows.extend(probe())
    except Exception as e:  # noqa: BLE001 - whatever a broken installation raises belongs in the table
        missing = isinstance(e, ModuleNotFoundError)
        remedy = install_command(e) if isinstance(e, ImportError) else ""
        status: Status = "missing" if missing else "broken"
        rows.append(Check(section=section, name=name, status=status, detail=one_line(e), remedy=remedy))
    return rows


def _problem(checks: Sequence[Check]) -> str:
    """Why the main job cannot run; empty where it can."""
    if not _working(checks):
        return "No back-end runs a model here."
    if not any(check.name == "pictures" and check.status == "ok" for check in checks):
        return "Pictures cannot be read here."
    return ""


def _ready(checks: Sequence[Check]) -> str:
    videos = next((check for check in checks if check.name == "H.264"), None)
    if videos is not None and videos.status == "ok":
        read = "pictures and videos can be read"
    else:
        read = "pictures can be read, videos cannot"
    return f"Ready: models run in {', '.join(check.name for check in _working(checks))}; {read}."


def _working(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.section == "Back-ends" and check.needed and check.status == "ok"]
