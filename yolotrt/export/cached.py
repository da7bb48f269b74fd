"""Weights that run without an export of one's own: made into ONNX once, kept in the user's cache."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from yolotrt import files
from yolotrt.cache import cache_folder
from yolotrt.export.pipeline import export_model

log = logging.getLogger(__name__)


def onnx_for_weights(weights: Path, *, trust: bool = False) -> Path:
    """The manifest of the FP32 ONNX bundle of `.pt` weights, exported now unless an earlier call did so.

    Args:
        weights: a file, or the name of an Ultralytics model, which Ultralytics downloads.
        trust: allow an unrestricted unpickling; see `yolotrt.options.ExportOptions`.

    Raises:
        What `yolotrt.export.pipeline.export_model` raises.
    """
    # By content, so that weights trained further are not mistaken for the earlier ones.
    digest = files.sha256_of(weights) if weights.is_file() else hashlib.sha256(str(weights).encode()).hexdigest()
    folder = cache_folder() / "weights" / f"{weights.stem}-{digest[:16]}"
    log.info("%s is exported to ONNX in %s", weights, folder)
    return export_model(weights, target="onnx", precision="fp32", output=folder, trust=trust).manifest_path
