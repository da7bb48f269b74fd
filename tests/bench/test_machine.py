"""What is said of the machine."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from yolotrt import __version__
from yolotrt.bench import machine
from yolotrt.bench.machine import Load, Machine, Watch

STAT = """cpu  1 2 3 4 5 6 7 8 9 10
cpu0 {user} 0 0 {idle} 0 0 0 {steal} 0 0
cpu77777 900 0 0 900 0 0 0 0 0 0
intr 5
"""


def test_it_is_named() -> None:
    found = Machine.here(gpu=False, packages=("click", "no-such-package"))
    assert found.cores >= 1
    assert found.cpu
    assert found.gpus == []
    assert found.versions["yolotrt"] == __version__
    assert {"onnxruntime", "numpy", "click"} <= set(found.versions)
    assert "no-such-package" not in found.versions
    assert found.cpu in str(found)
    assert f"onnxruntime {found.versions['onnxruntime']}" in str(found)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/stat")
def test_work_of_others_is_told_from_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(machine, "_STAT", stat)
    monkeypatch.setattr(machine, "_usable_cpus", lambda: [0])
    own = [10.0, 10.25]
    monkeypatch.setattr(machine, "_own_seconds", lambda: own.pop(0))
    stat.write_text(STAT.format(user=100, idle=100, steal=0))
    watch = Watch(gpu=False)
    # One second: a half idle, a quarter stolen by other guests, a quarter that of this process.
    stat.write_text(STAT.format(user=125, idle=150, steal=25))
    found = watch.load()
    assert found.others == pytest.approx(0.25)
    assert found.busy
    assert "other programs took 25% of the CPUs" in str(found)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/stat")
def test_one_s_own_threads_are_no_others() -> None:
    watch = Watch(gpu=False)
    before = machine._own_seconds()
    until = time.perf_counter() + 0.2

    def work() -> None:
        while time.perf_counter() < until:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert machine._own_seconds() > before
    others = watch.load().others
    assert others is not None
    assert 0 <= others <= 1


def test_a_quiet_machine_is_not_busy() -> None:
    assert not Load(others=0.05, average=9.0, gpu_before=0.0).busy
    assert Load(others=0.0, gpu_before=0.5).busy
    assert not Load().busy
    assert str(Load()) == "unknown"
