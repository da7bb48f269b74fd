"""Manifests as an export writes them, for models that no export made."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from yolotrt.files import sha256_of
from yolotrt.manifest import FileRecord, Manifest
from yolotrt.model_spec_infer import read_onnx_spec


def record(path: Path) -> FileRecord:
    """A file as a manifest names it."""
    return FileRecord(file=path.name, sha256=sha256_of(path))


def manifest_of(onnx: Path, **changes: Any) -> Manifest:
    """The manifest of an ONNX file without a plan; `changes` are fields in place of these."""
    manifest = Manifest(
        name=onnx.stem,
        created="2026-01-01T00:00:00Z",
        yolotrt="0.1.0",
        spec=read_onnx_spec(onnx),
        source=FileRecord(file="m.pt", sha256="0" * 64),
        precision_asked="fp32",
        inputs_digest="0" * 64,
        onnx=record(onnx),
    )
    return dataclasses.replace(manifest, **changes)
