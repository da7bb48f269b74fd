"""What `yolotrt export MODEL` names: a local `.pt` or `.onnx`, or a model that Ultralytics can download."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from yolotrt import files
from yolotrt.errors import MissingExtraError, ModelError
from yolotrt.model_spec_infer import external_data

_SUFFIXES = {".pt": "pt", ".onnx": "onnx"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """The weights to export. Produced by `find_source`, consumed by the pipeline.

    Attributes:
        path: of the file.
        kind: `pt` (Ultralytics weights) or `onnx`.
        sha256: of its content, including external ONNX data.
        downloaded: whether it was fetched just now.
    """

    path: Path
    kind: Literal["pt", "onnx"]
    sha256: str
    downloaded: bool = False

    @property
    def stem(self) -> str:
        """The model's name; a precision that an earlier export put behind it is left out."""
        stem = self.path.stem
        for ending in ("-fp32", "-fp16", "-fp8", "-int8", "-auto"):
            stem = stem.removesuffix(ending)
        return stem or self.path.stem


def find_source(model: str | Path) -> Source:
    """Find MODEL. A name without a folder that is no local file is asked of Ultralytics' own downloader.

    Raises:
        ModelError: no such file, a folder, a file of another kind, or a download that failed.
    """
    path = Path(model)
    if path.is_dir():
        raise ModelError(f"{path}: a folder, not a model", expected="a .pt or .onnx file, or an Ultralytics model name")
    downloaded = False
    if not path.exists():
        path = _download(path)
        downloaded = True
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ModelError(
            f"{path}: not a file that can be exported", got=path.suffix or "no suffix", expected=".pt or .onnx"
        )
    try:
        digest = _digest(path, kind)
    except OSError as e:
        raise ModelError(f"{path}: cannot be read ({e.strerror or e})") from e
    return Source(path=path, kind="pt" if kind == "pt" else "onnx", sha256=digest, downloaded=downloaded)


def _digest(path: Path, kind: str) -> str:
    own = files.sha256_of(path)
    # Reading the model later says that one is missing.
    beside = [p for p in external_data(path) if p.is_file()] if kind == "onnx" else []
    if not beside:
        return own
    return hashlib.sha256("".join([own, *(files.sha256_of(p) for p in beside)]).encode()).hexdigest()


def _download(path: Path) -> Path:
    if path.parent != Path() or path.suffix.lower() not in ("", ".pt"):
        raise _missing(path)
    try:
        from yolotrt.export.ultralytics_quiet import quiet_ultralytics

        with quiet_ultralytics():
            from ultralytics.utils.downloads import GITHUB_ASSETS_STEMS, attempt_download_asset

            if path.stem not in GITHUB_ASSETS_STEMS:
                raise _missing(path)
            found = Path(attempt_download_asset(path.with_suffix(".pt"), retry=1, progress=False))
    except ImportError as e:
        raise MissingExtraError("ultralytics", "export", needed_for=f"Downloading {path}") from e
    except (OSError, RuntimeError) as e:  # ConnectionError is an OSError
        raise ModelError(
            f"{path}: no such file, and Ultralytics could not download it",
            remedy="Check the network connection, or give the path of the weights.",
        ) from e
    if not found.is_file():
        raise ModelError(f"{path}: Ultralytics' download gave no file", remedy="Give the path of the weights.")
    return found


def _missing(path: Path) -> ModelError:
    return ModelError(
        f"{path}: no such file", remedy="Give the path of a .pt or .onnx file, or an Ultralytics model name as yolov8n."
    )
