"""A stretch of code during which Python's garbage collector frees nothing by itself."""

from __future__ import annotations

import gc
import threading


class Uncollected:
    """What the collector finds may be a picture in the GPU's memory, of this program or its caller, in any thread.

    A thread that records a CUDA graph may not free such memory: CUDA refuses, and the recording is lost. The collector
    is off for all threads until the last one is out; what nobody refers to any more is freed as always.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._was_on = False

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._was_on = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._was_on:
                gc.enable()


uncollected = Uncollected()
"""The one of this process."""
