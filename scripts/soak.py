"""Run many RTSP streams whose servers are killed, frozen and started again at random, and look for what gets lost.

With `--calm` nothing is disturbed: what is left is latency, and how streams share an engine that cannot hold them all.

Real servers (GStreamer), each with some of the cameras, are disturbed in turn for as long as asked; a pipeline of one
detector on the CPU reads them all. Every second its memory, threads and open files are written down. Ends with 0 if
nothing was raised, every frame is accounted for, every stream came back, memory grows by less than 1 MB a minute after
the warm-up, and neither threads nor open files grow. Linux only.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.rtsp import RtspServer, RtspStream, burned_in_age_s  # noqa: E402
from tests.support.tiny_models import tiny_yolo  # noqa: E402
from yolotrt import Detector  # noqa: E402
from yolotrt.assets import demo_model  # noqa: E402
from yolotrt.pipeline import Pipeline, Stream, StreamState, StreamStatus  # noqa: E402
from yolotrt.sinks import JsonLinesSink, Sink  # noqa: E402
from yolotrt.sources import LiveOptions, NetworkSource  # noqa: E402
from yolotrt.types import FrameResult  # noqa: E402

_PER_SERVER = 2
_BACK_S = 10.0  # an attempt that runs out, a pause, another attempt, a key frame
_OPTIONS = LiveOptions(read_timeout_s=2, connect_timeout_s=2)
_MAX_SLOPE = 1.0  # MB a minute
_NOISE_MB = 3  # that an allocator takes and gives back, whatever the time
_SPARE = 2  # threads and files: of a reader that is being told to stop, of a connection that is being made


class Ages(Sink):
    """How old each picture is when its result is written, by the camera's clock in it; milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.ages = array.array("f")  # a list would be a growth of its own

    def write(self, result: FrameResult) -> None:
        self.ages.append(burned_in_age_s(result.frame.pixels) * 1e3)

    def close(self) -> None:
        pass

    def report(self) -> dict[str, dict[str, float]]:
        """The median and the 95th percentile of each half, the first without the connection's own."""
        ages = self.ages[10:]
        half = len(ages) // 2
        halves = {"first_half": ages[:half], "second_half": ages[half:]}
        return {
            name: {"p50": round(float(np.median(a)), 1), "p95": round(float(np.percentile(a, 95)), 1)}
            for name, a in halves.items()
            if a
        }


@dataclass
class Samples:
    """What the process held, second by second."""

    seconds: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def take(self, at: float) -> None:
        self.seconds.append(at)
        self.rss_mb.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        self.threads.append(len(list(Path("/proc/self/task").iterdir())))
        self.files.append(len(list(Path("/proc/self/fd").iterdir())))

    def after(self, warm_up_s: float) -> Samples:
        start = sum(second < warm_up_s for second in self.seconds)
        return Samples(self.seconds[start:], self.rss_mb[start:], self.threads[start:], self.files[start:])

    def slope_mb_per_min(self) -> float:
        """Median of the slopes between each second of the first half and its counterpart in the second half."""
        half = len(self.seconds) // 2
        pairs = range(len(self.seconds) - half)
        rises = [(self.rss_mb[i + half] - self.rss_mb[i]) / (self.seconds[i + half] - self.seconds[i]) for i in pairs]
        return 60 * statistics.median(rises)


def _growth(values: Sequence[float]) -> float:
    """How much more the last quarter holds than the first, by its median."""
    quarter = max(len(values) // 4, 1)
    return statistics.median(values[-quarter:]) - statistics.median(values[:quarter])


class Saboteur:
    """Kills and freezes servers, one at a time, and measures how long their streams take to come back.

    Attributes:
        back_s: by what was done, seconds from a server that is up again to a frame of each of its streams.
    """

    def __init__(self, servers: list[RtspServer], statuses: Callable[[], tuple[StreamStatus, ...]], seed: int) -> None:
        self.back_s: dict[str, list[float]] = {"kill": [], "freeze": []}
        self._servers, self._statuses = servers, statuses
        self._chance = random.Random(seed)  # noqa: S311 (no secret)

    def run(self, over: threading.Event) -> None:
        """Until it is over; then all servers are up."""
        while not over.wait(self._chance.uniform(1, 4)):
            number = self._chance.randrange(len(self._servers))
            server, what = self._servers[number], self._chance.choice(["kill", "freeze"])
            if what == "kill":
                server.kill()
                over.wait(self._chance.uniform(0, 6))
                server.start()
            else:
                server.freeze()
                over.wait(self._chance.uniform(0.5, 6))
                server.thaw()
            self.back_s[what].append(self._wait_for(number))

    def _wait_for(self, number: int) -> float:
        mine = slice(number * _PER_SERVER, (number + 1) * _PER_SERVER)
        before = [status.processed for status in self._statuses()[mine]]
        started = time.monotonic()
        while time.monotonic() - started < _BACK_S:
            if all(now.processed > b for now, b in zip(self._statuses()[mine], before, strict=True)):
                break
            time.sleep(0.02)
        return time.monotonic() - started

    def report(self) -> dict[str, dict[str, float]]:
        return {
            what: {"times": len(times), "p50_s": round(statistics.median(times), 2), "max_s": round(max(times), 2)}
            for what, times in self.back_s.items()
            if times
        }


def soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the streams for as long as asked; the figures, and under `failures` what they must not be."""
    cameras = [RtspStream(path=f"/{i}", codec="h265" if i else "h264", fps=options.fps) for i in range(_PER_SERVER)]
    servers = [RtspServer(*cameras) for _ in range(-(-options.streams // _PER_SERVER))]
    urls = [server.url(i) for server in servers for i in range(_PER_SERVER)][: options.streams]
    model = demo_model() if options.model == "demo" else tiny_yolo(folder / "tiny.onnx")
    ages = [Ages() for _ in urls]
    try:
        with Detector(model) as detector:
            streams = [
                Stream(NetworkSource(url, options=_OPTIONS), [sink], name=f"camera-{i}")
                for i, (url, sink) in enumerate(zip(urls, ages, strict=True))
            ]
            pipeline = Pipeline(detector, streams, [JsonLinesSink(folder / "lines")])
            report = {"model": str(detector.info), **_run(pipeline, streams, servers, options)}
        for stream, sink in zip(report["streams"], ages, strict=True):
            stream["age_ms"] = sink.report()
        return report
    finally:
        for server in servers:
            server.kill()


def _run(
    pipeline: Pipeline, streams: list[Stream], servers: list[RtspServer], options: argparse.Namespace
) -> dict[str, Any]:
    raised: list[str] = []
    over = threading.Event()
    saboteur = Saboteur(servers, pipeline.status, options.seed)

    def run() -> None:
        try:
            pipeline.run()
        except BaseException as e:  # noqa: BLE001 (it is a finding)
            raised.append(repr(e))

    def disturb() -> None:
        if not options.calm:
            saboteur.run(over)

    threads = [threading.Thread(target=run), threading.Thread(target=disturb)]
    for thread in threads:
        thread.start()
    samples = Samples()
    started = time.monotonic()
    while time.monotonic() - started < 60 * options.minutes and not raised:
        time.sleep(1)
        samples.take(time.monotonic() - started)
    over.set()
    threads[1].join()
    for stream in streams:
        stream.source.stop()
    threads[0].join(30)
    if threads[0].is_alive():
        raised.append("the run does not end")
    return _report(samples, pipeline.status(), saboteur, raised)


def _report(
    samples: Samples, statuses: tuple[StreamStatus, ...], saboteur: Saboteur, raised: list[str]
) -> dict[str, Any]:
    steady = samples.after(min(60.0, samples.seconds[-1] / 3))
    slope = steady.slope_mb_per_min()
    growth = {"threads": _growth(steady.threads), "files": _growth(steady.files)}
    failures = list(raised)
    failures += [f"{s.name}: frames got lost" for s in statuses if not s.accounted or s.waiting or s.running]
    failures += [f"{s.name}: {s.state.value}" for s in statuses if s.state is not StreamState.ENDED]
    late = [max(times, default=0.0) for times in saboteur.back_s.values()]
    failures += [f"a stream did not come back within {_BACK_S:g} s"] if max(late) >= _BACK_S else []
    rise = _growth(steady.rss_mb)
    failures += [f"memory grows by {slope:.2f} MB a minute"] if slope > _MAX_SLOPE and rise > _NOISE_MB else []
    failures += [f"{name} grow by {more:g}" for name, more in growth.items() if more > _SPARE]
    return {
        "minutes": round(samples.seconds[-1] / 60, 1),
        "back": saboteur.report(),
        "streams": [status.to_dict() for status in statuses],
        "rss_mb": {
            "start": round(steady.rss_mb[0], 1),
            "end": round(steady.rss_mb[-1], 1),
            "per_minute": round(slope, 3),
        },
        "growth": growth,
        "latency_p95_ms": round(float(np.median([s.latency_p95_s for s in statuses])) * 1e3, 1),
        "failures": failures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--fps", type=int, default=15, help="of each camera")
    parser.add_argument("--model", choices=("tiny", "demo"), default="tiny")
    parser.add_argument("--calm", action="store_true", help="disturb nothing")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = soak(options, Path(folder))
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    sys.exit(bool(report["failures"]))


if __name__ == "__main__":
    main()
