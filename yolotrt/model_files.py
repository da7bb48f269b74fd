"""What a user may name as a model, and the files behind it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from yolotrt.errors import ModelError
from yolotrt.manifest import Manifest

PLAN_SUFFIXES = (".engine", ".plan", ".trt")


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The runnable files of one model.

    Attributes:
        asked: what the user named.
        onnx: the ONNX file, if there is one.
        plan: the TensorRT plan, if there is one.
        manifest: what `yolotrt export` wrote of them, if it did.
    """

    asked: Path
    onnx: Path | None = None
    plan: Path | None = None
    manifest: Manifest | None = None


def find_model_files(model: str | Path, *, trust: bool = False) -> ModelFiles:
    """Resolve a model.

    Args:
        model: an `.onnx` file; a plan (`.engine`, `.plan`, `.trt`); a bundle: its folder or its manifest (`.json`);
            or weights (`.pt`), which are exported to ONNX once and kept in the user's cache.
        trust: for weights that only an unrestricted unpickling loads; see `yolotrt.options.ExportOptions`.

    Raises:
        ModelError: nothing there, or nothing of these kinds.
    """
    path = Path(model)
    if path.suffix == ".pt":
        from yolotrt.export.cached import onnx_for_weights

        return _bundle(path, onnx_for_weights(path, trust=trust))
    if path.is_dir():
        return _bundle(path, _manifest_in(path))
    if not path.exists():
        raise ModelError(f"{path}: no such file", remedy="Make one with: yolotrt export MODEL.pt")
    if path.suffix == ".json":
        return _bundle(path, path)
    if path.suffix == ".onnx":
        return ModelFiles(asked=path, onnx=path)
    if path.suffix in PLAN_SUFFIXES:
        return ModelFiles(asked=path, plan=path)
    raise ModelError(
        f"{path}: not a kind of model file that yolotrt knows",
        got=path.suffix or "no suffix",
        expected=", ".join((".onnx", *PLAN_SUFFIXES, ".json (manifest)", ".pt", "a bundle folder")),
    )


def paths_read(model: str | Path) -> tuple[Path, ...]:
    """The files that a model is loaded from, so that no output takes the place of one.

    What is no model is itself alone: loading it will say what is wrong.
    """
    path = Path(model)
    with contextlib.suppress(ModelError):
        manifest = _manifest_in(path) if path.is_dir() else path.with_suffix(".json")
        if path.is_dir() or path.suffix in (".json", *PLAN_SUFFIXES):  # a plan is known by the manifest beside it
            found = Manifest.read(manifest)
            records = [record for record in (found.onnx, found.plan) if record is not None]
            return (path, manifest, *(manifest.with_name(record.file) for record in records))
    return (path,)


def _manifest_in(folder: Path) -> Path:
    """The one manifest in a folder."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            Manifest.read(path)
        except ModelError:
            continue  # some other JSON file
        found.append(path)
    if len(found) != 1:
        raise ModelError(
            f"{folder}: not a bundle",
            got=f"a folder with {len(found)} manifests",
            expected="a folder that yolotrt export wrote, with one",
            remedy="Name the model file itself." if found else "Make one with: yolotrt export MODEL.pt",
        )
    return found[0]


def _bundle(asked: Path, manifest_path: Path) -> ModelFiles:
    manifest = Manifest.read(manifest_path)
    folder = manifest_path.parent
    onnx = folder / manifest.onnx.file
    plan = folder / manifest.plan.file if manifest.plan else None
    for path in (onnx, plan):
        if path is not None and not path.is_file():
            raise ModelError(f"{manifest_path}: names {path.name}, which is missing", remedy="Export the model again.")
    return ModelFiles(asked=asked, onnx=onnx, plan=plan, manifest=manifest)
