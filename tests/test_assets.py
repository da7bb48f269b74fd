from __future__ import annotations

from pathlib import Path

import pytest

from yolotrt import assets
from yolotrt.errors import ModelError, SourceError


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(assets, "_PACKAGED", tmp_path)
    return tmp_path


def test_onnx_before_weights(packaged: Path) -> None:
    (packaged / "yolov8n_demo.pt").touch()
    assert assets.demo_model() == packaged / "yolov8n_demo.pt"
    (packaged / "yolov8n_demo.onnx").touch()
    assert assets.demo_model() == packaged / "yolov8n_demo.onnx"


def test_samples(packaged: Path) -> None:
    for name in ("b.jpg", "a.png", "v.mp4", "val.sha256"):
        (packaged / name).touch()
    assert [p.name for p in assets.sample_images()] == ["a.png", "b.jpg"]
    assert assets.sample_video().name == "v.mp4"


def test_an_installation_without_them(packaged: Path) -> None:
    with pytest.raises(ModelError, match=r"came without the demo model.*Name a model with --model"):
        assets.demo_model()
    with pytest.raises(SourceError, match="came without the sample video"):
        assets.sample_video()
    assert assets.sample_images() == []


def test_the_checkout_is_used_where_nothing_is_packaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(assets, "_PACKAGED", tmp_path / "none")
    assert assets.folder() == Path(assets.__file__).parents[1] / "assets" / "demo"
