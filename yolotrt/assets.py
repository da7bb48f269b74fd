"""The demo model, sample pictures and sample video that come with yolotrt."""

from __future__ import annotations

from pathlib import Path

from yolotrt.errors import ModelError, SourceError

_PACKAGED = Path(__file__).parent / "_assets"  # in an installed wheel
_CHECKOUT = Path(__file__).parent.parent / "assets" / "demo"

_MODELS = ("yolov8n_demo.onnx", "yolov8n_demo.pt")
"""Best first: running the `.pt` needs the extra `export`."""


def folder() -> Path:
    """Where they lie: in the installed package, else in the checkout."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def demo_model() -> Path:
    """The demo model. Raises ModelError where this installation came without it."""
    for name in _MODELS:
        if (path := folder() / name).is_file():
            return path
    raise ModelError(
        "this installation came without the demo model",
        expected=f"{_MODELS[0]} in {folder()}",
        remedy="Name a model with --model.",
    )


def sample_images() -> list[Path]:
    """The sample pictures, by name; empty where this installation came without them."""
    return sorted(path for path in folder().glob("*") if path.suffix in (".jpg", ".png"))


def sample_video() -> Path:
    """The sample video. Raises SourceError where this installation came without it."""
    for path in sorted(folder().glob("*.mp4")):
        return path
    raise SourceError("this installation came without the sample video", expected=f"an .mp4 file in {folder()}")
