"""Garbage collections that cameras do not notice."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def short_pauses() -> Iterator[None]:
    """Let Python's garbage collector pass over what is there now, until the block ends.

    Now and then it looks at everything, while all threads wait: 50 ms and more for the libraries of a run, in which a
    hundred cameras send 150 pictures. What a run makes is little. For a program that is nothing but the run: what ends
    as garbage meanwhile, and was there before, stays until the end of the block.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
