"""Standard output for us alone: libraries of C write to it as they like, NVDEC for instance of damaged pictures."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def own_stdout() -> Iterator[None]:
    """For the length of the block, what is written to file descriptor 1 by others goes to standard error."""
    before = sys.stdout
    try:
        same = before is not None and before.fileno() == 1
    except (OSError, ValueError):  # a stream in memory
        same = False
    if not same:
        yield
        return
    before.flush()
    _flush_c()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        encoding, errors = before.encoding or "utf-8", before.errors or "strict"
        with open(ours, "w", encoding=encoding, errors=errors, closefd=False) as stream:
            sys.stdout = stream
            yield
            stream.flush()
    finally:
        sys.stdout = before
        _flush_c()
        os.dup2(ours, 1)
        os.close(ours)


def _flush_c() -> None:
    """C keeps what it is to write as well, and must be done with it before the way is changed."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
