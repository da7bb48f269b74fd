"""`yolotrt doctor` on this machine, and on machines where something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.blocked import run_cli_blocked
from yolotrt.diagnosis import diagnose as diagnose_module
from yolotrt.diagnosis import machine
from yolotrt.diagnosis.backends import gpu_problem
from yolotrt.diagnosis.diagnose import diagnose
from yolotrt.diagnosis.report import Check

TENSORRT = ("tensorrt", "tensorrt_bindings", "tensorrt_rtx", "tensorrt_rtx_bindings", "tensorrt_lean_bindings")
BACKENDS = (*TENSORRT, "openvino", "onnxruntime")


def report(blocked: tuple[str, ...]) -> tuple[int, dict[str, Any]]:
    result = run_cli_blocked(blocked, "doctor", "--json")
    assert "Traceback" not in result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return result.returncode, found


def row(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(check for check in found["checks"] if check["name"] == name)


def test_here_the_main_job_can_run_and_each_back_end_is_proved() -> None:
    code, found = report(())
    assert code == 0
    assert found["can_run"] is True
    assert row(found, "onnxruntime")["status"] == "ok"
    assert "a small model runs right" in row(found, "onnxruntime")["detail"]
    assert row(found, "pictures")["status"] == "ok"


def test_it_is_quick_and_shows_the_same_to_people() -> None:
    started = time.perf_counter()
    result = subprocess.run([sys.executable, "-m", "yolotrt", "doctor"], capture_output=True, text=True, timeout=60)
    took = time.perf_counter() - started
    assert result.returncode == 0
    assert "onnxruntime" in result.stdout
    assert "Ready: models run in" in result.stdout
    # 1.2 s on two idle cores; tests share theirs.
    assert took < 10


def test_without_any_back_end_the_answer_is_no() -> None:
    code, found = report((*BACKENDS, "cuda", "pynvml"))
    assert code == 1
    assert found["conclusion"] == "No back-end runs a model here."
    assert row(found, "openvino")["remedy"] == 'pip install "yolotrt[openvino]"'
    assert row(found, "onnxruntime")["status"] == "missing"
    assert row(found, "TensorRT-RTX")["remedy"] == 'pip install "yolotrt[rtx]"'


def test_one_back_end_is_enough() -> None:
    code, found = report((*TENSORRT, "openvino", "av"))
    assert code == 0
    assert row(found, "videos")["remedy"] == 'pip install "yolotrt[video]"'
    assert "videos cannot" in found["conclusion"]


def test_without_opencv_pictures_cannot_be_read() -> None:
    code, found = report(("cv2",))
    assert code == 1
    assert found["conclusion"] == "Pictures cannot be read here."
    assert row(found, "pictures")["remedy"] == "pip install opencv-python-headless"


@pytest.mark.parametrize("blocked", [("numpy",), ("onnx",), ("numpy", "onnx", "cv2", "rich", "google")])
def test_a_broken_core_is_rows_with_commands_not_a_traceback(blocked: tuple[str, ...]) -> None:
    code, found = report(blocked)
    assert code == 1
    assert row(found, "onnxruntime")["status"] == "missing"
    assert row(found, "onnxruntime")["remedy"] == f"pip install {blocked[0]}"


def test_without_rich_it_prints_plain_lines() -> None:
    result = run_cli_blocked(("rich",), "doctor")
    assert result.returncode == 0
    assert "Back-ends | onnxruntime | ok |" in result.stdout


def test_torch_and_ultralytics_are_never_imported() -> None:
    code = (
        "import sys\nfrom yolotrt.diagnosis.diagnose import diagnose\ndiagnose()\n"
        "print([m for m in ('torch', 'ultralytics', 'onnxsim') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_a_probe_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode() -> Iterator[Check]:
        raise RuntimeError("libfoo.so.1:\n cannot open shared object file")

    monkeypatch.setattr("yolotrt.diagnosis.media.check_videos", explode)
    found = diagnose()
    broken = next(check for check in found.checks if check.name == "videos")
    assert broken.status == "broken"
    assert broken.detail == "RuntimeError: libfoo.so.1: cannot open shared object file"
    assert len(found.checks) >= len(diagnose_module._PROBES)


@pytest.mark.parametrize(
    ("flavour", "version", "capability", "refused"),
    [
        ("tensorrt_rtx", "1.7.1.116", "9.0", True),
        ("tensorrt_rtx", "1.6.1.120", "9.0", False),
        ("tensorrt_rtx", "1.7.1.116", "8.9", False),
        ("tensorrt_rtx", "1.7.1.116", "12.0", False),
        ("tensorrt", "11.4.0.106", "9.0", False),
        ("tensorrt", "11.4.0.106", "7.0", True),
    ],
)
def test_which_gpus_a_tensorrt_refuses(flavour: str, version: str, capability: str, refused: bool) -> None:
    reason, remedy = gpu_problem(flavour, version, capability)
    assert bool(reason) == refused
    assert bool(remedy) == refused
    assert not refused or capability in reason


def test_gpus_are_read_from_nvidia_smi_where_cuda_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA L4, 8.9, 23034, 580.65.06'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    monkeypatch.setattr(machine, "usable_gpus", lambda: ([], "no CUDA"))
    rows = {check.name: check for check in machine.check_gpus()}
    assert "580.65.06" in rows["driver"].detail
    assert rows["CUDA"].status in ("broken", "missing")
    assert "NVIDIA L4, compute capability 8.9, 23,034 MiB" in rows["cuda:0"].detail


def test_an_interrupt_during_an_import_is_no_diagnosis() -> None:
    """Where it comes out as an ImportError, the package looks as if it were missing."""
    program = (
        "import os, signal, sys\n"
        "from yolotrt import cli\n"
        "from yolotrt.diagnosis import diagnose\n"
        "def probe():\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt as e:\n        raise ImportError('cut short') from e\n"
        "    return []\n"
        "diagnose._PROBES = (('a', 'b', 'machine:probe'),)\n"
        "from yolotrt.diagnosis import machine\n"
        "machine.probe = probe\n"
        "sys.argv = ['yolotrt', 'doctor']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "Interrupted.")
