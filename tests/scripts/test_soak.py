from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.rtsp import require_gstreamer

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_streams_that_fail_at_random() -> None:
    require_gstreamer()
    command = [sys.executable, str(ROOT / "scripts" / "soak.py"), "--minutes", "3", "--streams", "8"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=380)
    report = json.loads(run.stdout)
    assert report["failures"] == []
    assert run.returncode == 0
    assert "Traceback" not in run.stderr
    assert sum(back["times"] for back in report["back"].values()) > 5
    assert sum(stream["reconnects"] for stream in report["streams"]) > 5
    assert all(stream["processed"] > 300 for stream in report["streams"])
