"""Where yolotrt keeps what it can make again."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path


def cache_folder() -> Path:
    """`YOLOTRT_CACHE`, or the platform's own place for such files."""
    if "YOLOTRT_CACHE" in os.environ:
        return Path(os.environ["YOLOTRT_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "yolotrt" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "yolotrt"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "yolotrt"


def keep_newest(entry: Path, most: int) -> None:
    """Mark an entry of a folder as used now, and remove all but the `most` files or folders there used last.

    What cannot be marked or removed stays: another process may be doing the same.
    """
    with contextlib.suppress(OSError):
        os.utime(entry)
        by_age = sorted(entry.parent.iterdir(), key=lambda e: e.stat().st_mtime)
        for old in by_age[:-most]:
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink(missing_ok=True)
