"""What was looked at in full before: pictures that can all be read, videos whose length is known.

An export that finds nothing to do would otherwise decode hundreds of pictures to find that out.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import cv2

from yolotrt import files
from yolotrt.cache import cache_folder, keep_newest
from yolotrt.errors import SinkError
from yolotrt.export.digests import code_digest

_PACKAGE = Path(__file__).parents[2]
_MOST = 200  # of some bytes each

_log = logging.getLogger(__name__)


def seen(digest: str) -> int | None:
    """How many pictures there are in what has this digest, if that was found out before and nothing was wrong."""
    path = _path(digest)
    try:
        count = json.loads(path.read_bytes())
    except (OSError, ValueError):  # a damaged one is as good as none
        return None
    if not isinstance(count, int):
        return None
    keep_newest(path, _MOST)
    return count


def remember(digest: str, count: int) -> None:
    """Note it for `seen`. A cache that cannot be written is no error."""
    path = _path(digest)
    try:
        files.write_text(path, json.dumps(count))
    except SinkError as e:
        _log.info("not remembered: %s", e)
    keep_newest(path, _MOST)


def _path(digest: str) -> Path:
    # What can be read may change with what reads it.
    given = f"{digest} {code_digest(_PACKAGE)} {cv2.__version__}"
    return cache_folder() / "seen" / f"{hashlib.sha256(given.encode()).hexdigest()[:32]}.json"
