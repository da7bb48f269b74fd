"""What it takes to get from nothing to the first boxes: fresh processes, timed from the outside and the inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_TIMEOUT_S = 600
# Behind all other places of modules: those of yolotrt's own folder, which may be that of other packages, shadow none.
_PROGRAM = "import sys; sys.path.append({!r}); from yolotrt.bench.start import main; main()"


@dataclass(frozen=True, kw_only=True)
class Start:
    """One fresh process, in seconds.

    Attributes:
        whole: from before the process was made to its first boxes.
        python: until the interpreter runs its program.
        imports: of yolotrt's detector.
        load: of the model; the runtime's own import is in it.
        first: the first picture, from memory to its boxes.
        warm: a second detector of the same model in the same process, and its first boxes.
        peak_mib: most memory that the process held until its first boxes; None where it cannot be told.
        device_mib: memory of the GPU that is gone after them; None without a GPU.
    """

    whole: float
    python: float
    imports: float
    load: float
    first: float
    warm: float
    peak_mib: float | None
    device_mib: float | None


def measure_starts(
    count: int,
    *,
    model: Path,
    picture: Any,
    detector: dict[str, Any],
    nothing_kept: bool = False,
    on_turn: Callable[[], None] = lambda: None,
) -> list[Start]:
    """Start `count` processes one after the other.

    Args:
        count: how many.
        model: that each of them loads.
        picture: BGR `uint8 [H, W, 3]` in which each detects.
        detector: further arguments of `Detector`.
        nothing_kept: each finds nothing that an earlier start kept on disk.
        on_turn: called after each.

    Raises:
        EvaluationError: a process failed.
    """
    import numpy as np

    found = []
    with tempfile.TemporaryDirectory(prefix="yolotrt-") as folder:
        path = Path(folder) / "picture.npy"
        np.save(path, picture)
        for number in range(count):
            cache = Path(folder) / f"cache-{number}" if nothing_kept else None
            # Asked here and not in the process, where it would make the CUDA context before the clock starts.
            free = _free_device_memory(detector)
            request = {"model": str(model.resolve()), "picture": str(path), "detector": detector, "free": free}
            found.append(_start(request, cache))
            on_turn()
    return found


def _start(request: dict[str, Any], cache: Path | None) -> Start:
    from yolotrt.errors import EvaluationError

    text = json.dumps({**request, "asked": time.monotonic()})
    environment = os.environ if cache is None else {**os.environ, "YOLOTRT_CACHE": str(cache)}
    command = [sys.executable, "-c", _PROGRAM.format(str(Path(__file__).resolve().parents[2])), text]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=environment)
    except subprocess.TimeoutExpired as e:
        raise EvaluationError(f"a fresh process found no boxes in {_TIMEOUT_S} s") from e
    if done.returncode:
        said: Sequence[str] = done.stderr.strip().splitlines() or ["it said nothing"]
        raise EvaluationError(f"a fresh process could not detect: {said[-1]}")
    return Start(**json.loads(done.stdout.splitlines()[-1]))


def _work(request: dict[str, Any]) -> dict[str, Any]:
    """What a fresh process does and measures."""
    started = time.monotonic()
    from yolotrt.detector import Detector

    imported = time.monotonic()
    import numpy as np

    picture = np.load(request["picture"])
    began = time.monotonic()  # reading the picture is no part of it
    detector = Detector(request["model"], **request["detector"])
    loaded = time.monotonic()
    detector(picture)
    first = time.monotonic()
    peak = peak_mib()
    free = request["free"] and _free_device_memory(request["detector"])
    device = (request["free"] - free) / 2**20 if free else None
    detector.close()
    again = time.monotonic()
    with Detector(request["model"], **request["detector"]) as second:
        second(picture)
        warm = time.monotonic() - again
    return {
        "whole": (imported - request["asked"]) + (first - began),
        "python": started - request["asked"],
        "imports": imported - started,
        "load": loaded - began,
        "first": first - loaded,
        "warm": warm,
        "peak_mib": peak,
        "device_mib": device,
    }


def peak_mib() -> float | None:
    """The most memory that this process has held at once, MiB; None where the system does not tell."""
    # Not getrusage on Linux: its figure is also that of the process which started this one.
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return None
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _free_device_memory(detector: dict[str, Any]) -> int | None:
    """Bytes that are free on the GPU; None where none can be used, or the CPU was asked for."""
    from yolotrt.errors import YolotrtError

    asked = str(detector.get("device", "auto"))
    if asked == "cpu":
        return None
    from yolotrt.cuda.device import Device
    from yolotrt.cuda.driver import check, driver

    number = asked.removeprefix("cuda").removeprefix(":")
    try:
        device = Device.open(int(number) if number.isdecimal() else 0)
        with device.active():
            free, _ = check(driver().cuMemGetInfo(), "the free memory of the GPU cannot be read")
    except YolotrtError:
        return None
    return int(free)


def main() -> None:
    """The program of a fresh process: a request as its argument, the answer on standard output, both JSON."""
    sys.stdout.write(json.dumps(_work(json.loads(sys.argv[1]))) + "\n")
