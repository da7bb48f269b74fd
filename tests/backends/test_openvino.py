"""What is special about OpenVINO."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.tiny_models import tiny_yolo

PROGRAM = """
import sys
from pathlib import Path
from yolotrt.backends.openvino_ import OpenVinoBackend
from yolotrt.model_spec_infer import read_onnx_spec

path = Path(sys.argv[1])
with OpenVinoBackend(path, read_onnx_spec(path)):
    print(sorted(name for name in sys.modules if "telemetry" in name and not name.startswith("openvino.")))
    print("openvino" in sys.modules)
"""


def test_loading_a_model_reports_to_nobody(tmp_path: Path) -> None:
    model = tiny_yolo(tmp_path / "m.onnx")
    run = subprocess.run([sys.executable, "-c", PROGRAM, model], capture_output=True, text=True)
    assert run.stdout.split("\n")[:2] == ["[]", "True"], run.stderr


def test_ctrl_c_after_models_were_closed_in_other_threads(tmp_path: Path) -> None:
    """OpenVINO's stack for signal handlers must outlive its models: a signal on a freed one ends the process."""
    script = f"""
import gc, os, signal, threading
from yolotrt import Detector

models = [Detector({str(tiny_yolo(tmp_path / "m.onnx"))!r}, backend="openvino")]

def drop():
    models.pop().close()
    gc.collect()

thread = threading.Thread(target=drop)
thread.start()
thread.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout) == (0, "interrupted\n"), found.stderr
