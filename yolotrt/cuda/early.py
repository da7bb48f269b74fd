"""Start CUDA while Python is still importing what will use it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def started_early(index: int) -> Iterator[None]:
    """Make the context of a GPU in a thread of its own, which takes as long as to import everything else.

    Whatever goes wrong is left to who opens the GPU inside of the block, and who has the context for good then.

    Args:
        index: CUDA's number of the GPU.
    """
    release: list[contextlib.ExitStack] = []
    thread = threading.Thread(target=lambda: release.append(_retained(index)), name="yolotrt-cuda", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        for held in release:
            held.close()


def _retained(index: int) -> contextlib.ExitStack:
    """Holds the GPU's context, if it can be made."""
    held = contextlib.ExitStack()
    with contextlib.suppress(ImportError, RuntimeError):  # no CUDA packages; no driver
        from cuda.bindings import driver  # and not cuda.core, which is the longer half of what is imported meanwhile

        (code,) = driver.cuInit(0)
        if not int(code):
            code, device = driver.cuDeviceGet(index)
        if not int(code):
            code, _ = driver.cuDevicePrimaryCtxRetain(device)
        if not int(code):
            held.callback(driver.cuDevicePrimaryCtxRelease, device)
    return held
