"""How busy the GPUs are, through NVML."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GpuLoad:
    """One GPU at one moment.

    Attributes:
        index: NVML's number of it, as nvidia-smi shows it.
        name: `NVIDIA H200`.
        busy: share of the last moments in which it computed, 0..1.
        memory_used, memory_total: in bytes, of all programs.
        decoder, encoder: share in which its video units worked, 0..1; None where it has none.
    """

    index: int
    name: str
    busy: float
    memory_used: int
    memory_total: int
    decoder: float | None
    encoder: float | None


class GpuMonitor:
    """Reads the load of all GPUs; of none where there is no NVIDIA driver, or nvidia-ml-py is not installed."""

    def __init__(self) -> None:
        self._usable = False
        try:
            import pynvml
        except ImportError:
            return
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            self._usable = True

    def read(self) -> list[GpuLoad]:
        """The load of each GPU that can be asked now."""
        if not self._usable:
            return []
        import pynvml

        loads = []
        count = 0
        with contextlib.suppress(pynvml.NVMLError):  # of the driver as a whole: it is being replaced, say
            count = pynvml.nvmlDeviceGetCount()
        for index in range(count):
            with contextlib.suppress(pynvml.NVMLError):
                loads.append(_load(index))
        return loads

    def close(self) -> None:
        """Let go of NVML. Calling it again does nothing."""
        if self._usable:
            import pynvml

            self._usable = False
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()


def _load(index: int) -> GpuLoad:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    decoder = encoder = None
    with contextlib.suppress(pynvml.NVMLError):  # GPUs for computing alone have no encoder
        decoder = pynvml.nvmlDeviceGetDecoderUtilization(handle)[0] / 100
    with contextlib.suppress(pynvml.NVMLError):
        encoder = pynvml.nvmlDeviceGetEncoderUtilization(handle)[0] / 100
    return GpuLoad(
        index=index,
        name=str(pynvml.nvmlDeviceGetName(handle)),
        busy=pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        memory_used=int(memory.used),
        memory_total=int(memory.total),
        decoder=decoder,
        encoder=encoder,
    )
