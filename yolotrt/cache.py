"""Where yolotrt keeps what it can make again."""

from __future__ import annotations

import os
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
