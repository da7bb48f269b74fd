"""The webcam demo, with a video in place of a camera."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.media import moving_box, write_video
from tests.support.screen import screen  # noqa: F401 (a fixture)
from tests.support.tiny_models import tiny_yolo

ROOT = Path(__file__).resolve().parents[2]


def _run(folder: Path, camera: str, **environment: str) -> subprocess.CompletedProcess[str]:
    model = tiny_yolo(folder / "tiny.onnx")
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "webcam_demo.py"), camera, str(model)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_it_shows_a_camera(tmp_path: Path, screen: str) -> None:  # noqa: F811
    camera = write_video(tmp_path / "camera.mp4", moving_box(10))
    run = _run(tmp_path, str(camera), DISPLAY=screen)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="screens are found by DISPLAY there")
def test_without_a_screen_it_says_so_in_one_line(tmp_path: Path) -> None:
    run = _run(tmp_path, "0", DISPLAY="", WAYLAND_DISPLAY="")
    assert run.returncode == 1
    assert run.stderr.startswith("Error: no window can be opened: there is no screen")
    assert len(run.stderr.splitlines()) == 1


def test_it_explains_itself() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "webcam_demo.py"), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0
    assert "camera" in run.stdout


def test_it_is_short() -> None:
    assert len((ROOT / "scripts" / "webcam_demo.py").read_text().splitlines()) < 40
