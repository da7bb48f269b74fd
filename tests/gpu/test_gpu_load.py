from __future__ import annotations

import pytest

from yolotrt.metrics.gpu import GpuMonitor


@pytest.mark.real_gpu("NVML's own figures")
def test_the_load_of_a_real_gpu() -> None:
    pytest.importorskip("pynvml")
    monitor = GpuMonitor()
    (load, *_) = monitor.read()
    monitor.close()
    assert load.name
    assert 0 <= load.busy <= 1
    assert 0 < load.memory_used < load.memory_total
