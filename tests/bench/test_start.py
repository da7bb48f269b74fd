"""Fresh processes, on a tiny model."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_models import tiny_yolo
from yolotrt.bench.start import measure_starts, peak_mib
from yolotrt.errors import EvaluationError

GREY = np.full((64, 64, 3), 114, np.uint8)
CPU = {"backend": "onnxruntime", "device": "cpu", "threads": 1, "trust": False}


def test_the_parts_of_a_start_add_up(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx")
    turns: list[None] = []
    (found,) = measure_starts(1, model=model, picture=GREY, detector=CPU, on_turn=lambda: turns.append(None))
    parts = (found.python, found.imports, found.load, found.first)
    assert all(part > 0 for part in (*parts, found.warm))
    assert found.whole == pytest.approx(sum(parts), abs=1e-6)
    assert found.device_mib is None
    assert len(turns) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/status")
def test_the_peak_is_that_of_the_process_itself(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "tiny.onnx")
    ballast = np.ones(600 * 2**20, np.uint8)  # a parent that is larger than the process may be
    assert (peak_mib() or 0) > 600
    (found,) = measure_starts(1, model=model, picture=GREY, detector=CPU, nothing_kept=True)
    assert ballast.all()
    assert found.peak_mib is not None
    assert 20 < found.peak_mib < 500


def test_none_is_none(tmp_path: Path) -> None:
    assert measure_starts(0, model=tmp_path, picture=GREY, detector=CPU) == []


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"a fresh process could not detect: .*no such file") as caught:
        measure_starts(1, model=tmp_path / "missing.onnx", picture=GREY, detector=CPU)
    assert "\n" not in str(caught.value)


def test_a_start_is_data(tmp_path: Path) -> None:
    (found,) = measure_starts(1, model=tiny_yolo(tmp_path / "t.onnx"), picture=GREY, detector=CPU)
    assert set(dataclasses.asdict(found)) == {
        *("whole", "python", "imports", "load", "first", "warm", "peak_mib", "device_mib"),
    }
