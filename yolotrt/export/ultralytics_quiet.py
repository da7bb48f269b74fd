"""Ultralytics without its console output, its automatic installs and its change of the user's settings."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_ultralytics() -> Iterator[None]:
    """Import and use Ultralytics inside: it prints nothing and installs nothing."""
    # Read when Ultralytics is imported for the first time ...
    os.environ.setdefault("YOLO_AUTOINSTALL", "False")
    os.environ.setdefault("YOLO_VERBOSE", "False")
    with warnings.catch_warnings():
        # Its dependencies (matplotlib, torch.jit) warn about themselves; nothing that the user can act on.
        warnings.simplefilter("ignore")
        from ultralytics.utils import checks

        # ... and these where someone else imported it before.
        logger = logging.getLogger("ultralytics")
        level, automatic = logger.level, checks.AUTOINSTALL
        logger.setLevel(logging.CRITICAL)
        checks.AUTOINSTALL = False
        try:
            yield
        finally:
            logger.setLevel(level)
            checks.AUTOINSTALL = automatic
