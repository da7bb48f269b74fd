"""The folder that an export writes: `NAME.onnx`, maybe `NAME.engine`, and the manifest `NAME.json`.

A bundle is whole or absent. Its files are made in a hidden folder inside the output folder, which is renamed once
everything is in it and then emptied into place, the manifest last. Killed before the rename, an export leaves what was
there before; killed after it, the next export finishes the move.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolotrt import files
from yolotrt.errors import ModelError
from yolotrt.manifest import FORMAT, FileRecord, Manifest


@dataclass(frozen=True, kw_only=True)
class BundlePaths:
    """Where the files of a bundle lie."""

    folder: Path
    name: str

    @property
    def onnx(self) -> Path:
        return self.folder / f"{self.name}.onnx"

    @property
    def plan(self) -> Path:
        return self.folder / f"{self.name}.engine"

    @property
    def manifest(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def report(self) -> Path:
        return self.folder / f"{self.name}-report.html"

    @property
    def rejected(self) -> BundlePaths:
        """Where the bundle goes if it does not keep the accuracy: beside its place, under a name that says so."""
        place = self.folder.resolve()
        return BundlePaths(folder=place.with_name(f"{place.name}-rejected"), name=f"{self.name}-rejected")

    @property
    def ready(self) -> Path:
        """The finished files on their way into place."""
        return self.folder / f".{self.name}.ready"

    @property
    def part(self) -> str:
        """What the names of folders with unfinished files begin with."""
        return f".{self.name}.part-"


def read_older(paths: BundlePaths) -> Manifest | None:
    """The manifest of an earlier export to the same place; None where there is none that can be read."""
    if paths.ready.is_dir():
        with files.writing(paths.folder), _one_at_a_time(paths.folder):
            _publish(paths)
    try:
        return Manifest.read(paths.manifest)
    except ModelError:
        return None


def is_intact(paths: BundlePaths, record: FileRecord | None) -> bool:
    """Whether a file of the bundle is there with the content that its manifest recorded."""
    if record is None:
        return False
    path = paths.folder / record.file
    return path.is_file() and files.sha256_of(path) == record.sha256


@contextlib.contextmanager
def staging(paths: BundlePaths) -> Iterator[Path]:
    """A folder to make the files in, under their final names. It and all in it are gone afterwards, whatever happens.

    Raises SinkError where the output folder cannot be written.
    """
    is_new = not paths.folder.exists()
    # The name is chosen before the folder is made, so that an interrupt between the two finds it.
    folder = paths.folder / f"{paths.part}{secrets.token_hex(8)}"
    lock = None
    try:
        with files.writing(paths.folder):
            paths.folder.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(paths.folder):  # unlocked, the new folder would look abandoned
                _remove_abandoned(paths)
                folder.mkdir()
                lock = _lock(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        if is_new:
            with contextlib.suppress(OSError):  # not empty: the bundle is in it
                paths.folder.rmdir()


def commit(staged: Path, paths: BundlePaths, manifest: Manifest, older: Manifest | None) -> None:
    """Put the staged files and the manifest in the place of the older ones."""
    manifest.write(staged / paths.manifest.name)
    with files.writing(paths.folder), _one_at_a_time(paths.folder):
        shutil.rmtree(paths.ready, ignore_errors=True)
        staged.rename(paths.ready)
        try:
            _publish(paths)
        except KeyboardInterrupt:
            _publish(paths)
            raise
        if older is not None and older.plan is not None and manifest.plan is None:
            (paths.folder / older.plan.file).unlink(missing_ok=True)
        if older is not None and older.report is not None and manifest.report is None:
            page = paths.folder / older.report.file
            page.unlink(missing_ok=True)
            page.with_suffix(".json").unlink(missing_ok=True)


def _publish(paths: BundlePaths) -> None:
    """Move what is ready into place, the manifest last. Can be interrupted at any point and called again."""
    if not paths.ready.is_dir():
        return
    for path in sorted(paths.ready.iterdir(), key=lambda p: p.name == paths.manifest.name):
        path.replace(paths.folder / path.name)
    paths.ready.rmdir()


def latest_bundle(folder: Path) -> Path | None:
    """The manifest of the first of `bundles_in` that is whole; None where there is none."""
    return first_whole(bundles_in(folder))


def first_whole(bundles: Sequence[tuple[Path, str | None]]) -> Path | None:
    """The manifest of the first of them that misses nothing; None where there is none."""
    return next((path for path, missing in bundles if missing is None), None)


def bundles_in(folder: Path) -> list[tuple[Path, str | None]]:
    """The manifests in `folder` and its direct subfolders, the one exported last first, each with a file it misses.

    One that does not keep the accuracy that was asked for is left out.
    """
    found: list[tuple[float, str, Path, str | None]] = []
    for path in (*folder.glob("*.json"), *folder.glob("*/*.json")):
        if path.name.startswith(".") or path.parent.name.startswith(".") or not _looks_like_manifest(path):
            continue
        with contextlib.suppress(ModelError, OSError):
            manifest = Manifest.read(path)
            if manifest.accepted:
                found.append((path.stat().st_mtime, manifest.created, path, _missing(manifest, path.parent)))
    return [(path, missing) for _, _, path, missing in sorted(found, key=lambda f: f[:3], reverse=True)]


def _missing(manifest: Manifest, folder: Path) -> str | None:
    """The first of the model's files that is not there."""
    records = (manifest.onnx, manifest.plan)
    return next((r.file for r in records if r is not None and not (folder / r.file).is_file()), None)


def _looks_like_manifest(path: Path) -> bool:
    # JSON files beside a model can be large (annotations of a data set), so only the start is read first.
    try:
        with path.open("rb") as f:
            return f'"{FORMAT}"'.encode() in f.read(200)
    except OSError:
        return False


def _remove_abandoned(paths: BundlePaths) -> None:
    """Remove what killed exports left behind. Running ones hold a lock on their folder."""
    for folder in paths.folder.glob(f"{paths.part}*"):
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the lock of the output folder itself, so that exports into it move their files one after the other.

    Where locks are not to be had, as on Windows, exports go on without.
    """
    lock = _lock(folder, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(folder: Path, *, wait: bool = False) -> int | None:
    """Lock a folder until the descriptor is closed or the process ends; None where that is not to be had.

    Args:
        folder: exists.
        wait: until whoever holds the lock gives it back.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        return None
    except KeyboardInterrupt:
        os.close(handle)
        raise
    return handle
