"""The wheel, as a user gets it: built, installed into a fresh environment, run far from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_models import tiny_yolo

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "assets" / "demo"
MOST_MEGABYTES = 25
NOT_WANTED = ("torch", "ultralytics", "tensorrt", "tensorrt_rtx_bindings", "openvino")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment that holds the wheel and nothing of the checkout."""

    python: Path
    command: Path
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run([str(self.command), *arguments], self.folder)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    result = _run(pip, folder)
    assert result.returncode == 0, result.stderr
    (found,) = folder.glob("yolotrt-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("far away")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    scripts = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(scripts / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    result = _run([*pip, f"{wheel}[video]"], folder)
    assert result.returncode == 0, result.stderr
    return Installed(python=scripts / "python", command=scripts / "yolotrt", folder=folder)


def test_the_wheel_holds_the_package_and_what_it_needs_at_run_time(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "yolotrt/py.typed" in names
    kinds = ("*.py", "*.cu", "*.cuh")
    sources = {str(p.relative_to(ROOT)) for kind in kinds for p in (ROOT / "yolotrt").rglob(kind)}
    assert sources <= names
    shipped = {f"yolotrt/_assets/{p.name}" for p in DEMO.iterdir() if p.suffix in (".onnx", ".mp4", ".jpg")}
    assert {name for name in names if name.startswith("yolotrt/_assets/")} == shipped
    assert any(name.endswith("licenses/LICENSE") for name in names)
    # Nothing of the checkout beside the package.
    assert {name.split("/")[0] for name in names} == {"yolotrt", wheel.name.split("-py3")[0] + ".dist-info"}
    assert wheel.stat().st_size < MOST_MEGABYTES * 1e6


def test_it_runs_without_what_only_export_and_gpus_need(installed: Installed) -> None:
    code = (
        "import importlib.util as u, json, yolotrt; "
        f"print(json.dumps([yolotrt.__file__, [m for m in {NOT_WANTED!r} if u.find_spec(m)]]))"
    )
    result = _run([str(installed.python), "-c", code], installed.folder)
    assert result.returncode == 0, result.stderr
    origin, found = json.loads(result.stdout)
    assert Path(origin).is_relative_to(installed.folder)
    assert found == []


def test_version(installed: Installed) -> None:
    from yolotrt import __version__

    result = installed.run("--version")
    assert result.returncode == 0
    assert __version__ in result.stdout


def test_doctor(installed: Installed) -> None:
    result = installed.run("doctor", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    status = {check["name"]: check["status"] for check in found["checks"]}
    assert (status["onnxruntime"], status["openvino"], status["weights to ONNX"]) == ("ok", "missing", "missing")
    assert status["H.264"] == "ok"


def test_detect_with_a_model_of_one_s_own(installed: Installed) -> None:
    model = tiny_yolo(installed.folder / "tiny.onnx")
    picture = next(iter(sorted(DEMO.glob("*.jpg"))))
    found = detect(installed, str(picture), "--model", str(model))
    assert found["frames"] == 1


def test_detect_with_the_demo_model_that_came_along(installed: Installed) -> None:
    if not (DEMO / "yolov8n_demo.onnx").is_file():
        pytest.skip("assets/demo holds no ONNX model")
    code = "from yolotrt import assets; print(assets.sample_images()[0])"
    picture = _run([str(installed.python), "-c", code], installed.folder).stdout.strip()
    assert Path(picture).is_relative_to(installed.folder)
    found = detect(installed, picture)
    assert found["frames"] == 1
    assert found["boxes"] > 0


def detect(installed: Installed, *arguments: str) -> dict[str, Any]:
    result = installed.run("detect", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found
