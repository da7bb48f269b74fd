"""Files and simulated cameras to boxes on a GPU: NVDEC, CUDA graphs and both together, in one run.

Prints one JSON object and writes a page. The cameras are a file each, whose packets come at their time; nothing of them
is spared but the network. Needs PyNvVideoCodec, a TensorRT that builds plans here, and PyAV.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from simulated_camera import Camera  # noqa: E402

from yolotrt import Detector, assets  # noqa: E402
from yolotrt.cli.short_pauses import short_pauses  # noqa: E402
from yolotrt.errors import YolotrtError  # noqa: E402
from yolotrt.pipeline import Pipeline, Stream  # noqa: E402
from yolotrt.pipeline.stream_state import StreamStatus  # noqa: E402
from yolotrt.sinks import Sink  # noqa: E402
from yolotrt.sources import VideoSource  # noqa: E402
from yolotrt.sources.decoders import Decoders  # noqa: E402
from yolotrt.sources.processes.spread import processes_for  # noqa: E402
from yolotrt.types import FrameResult  # noqa: E402

WEIGHTS = "yolov8n_demo.pt"
FPS = 30
SIZE = (1080, 1920)
OPENING_S = 60.0  # at most, until all cameras have sent a picture
CAMERA = f"keyint={2 * FPS}:bframes=0"
"""A key frame every two seconds, and pictures in the order in which they are shown: as cameras leave the factory."""


def write_clip(path: Path, *, size: tuple[int, int] = SIZE, frames: int = 300, x264: str = "") -> Path:
    """The sample video in H.264 of this size, by x264's options or else its defaults, with B-frames."""
    options = {"preset": "veryfast", "crf": "23", "x264-params": x264}
    with av.open(str(assets.sample_video())) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(source.decode(video=0)):
            if number == frames:
                break
            scaled = frame.reformat(width=size[1], height=size[0], format="yuv420p")
            scaled.pts, scaled.time_base = number, Fraction(1, FPS)
            target.mux(stream.encode(scaled))
        target.mux(stream.encode(None))
    return path


def repeated(clip: Path, path: Path, times: int) -> Path:
    """The clip so many times over, without encoding it again."""
    with av.open(str(path), "w") as target:
        stream: Any = None
        for turn in range(times):
            with av.open(str(clip)) as source:
                own = source.streams.video[0]
                if stream is None:
                    stream = target.add_stream_from_template(own)
                assert own.duration is not None
                for packet in source.demux(own):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + turn * own.duration, packet.dts + turn * own.duration
                    packet.stream = stream
                    target.mux(packet)
    return path


def hardware_alone(paths: Sequence[Path], *, seconds: float = 3.0) -> float:
    """Frames per second of all files by PyNvVideoCodec alone, its demuxer included: by threads of one process, or by as
    many processes as yolotrt takes, whichever is more.
    """
    counts = {1, processes_for(len(paths), 0, len(os.sched_getaffinity(0))) or 1}
    return max(_hardware(paths, count, seconds) for count in counts)


def _hardware(paths: Sequence[Path], processes: int, seconds: float) -> float:
    context = multiprocessing.get_context("spawn")
    lines = []
    for first in range(processes):
        line, theirs = context.Pipe()
        context.Process(target=_decode, args=(paths[first::processes], theirs), daemon=True).start()
        lines.append(line)

    def frames() -> int:
        for line in lines:
            line.send("frames")
        return sum(int(line.recv()) for line in lines)

    frames()  # each answers once all its decoders work
    before, started = frames(), time.perf_counter()
    time.sleep(seconds)
    after, spent = frames(), time.perf_counter() - started
    for line in lines:
        line.send("end")
    return (after - before) / spent


def _decode(paths: Sequence[Path], line: Connection) -> None:
    """Decode files over and over, a thread each, until told to end."""
    import PyNvVideoCodec  # type: ignore[import-untyped,import-not-found,unused-ignore]

    counts = [0] * len(paths)

    def work(place: int) -> None:
        while True:
            demuxer = PyNvVideoCodec.CreateDemuxer(filename=str(paths[place]))
            codec = demuxer.GetNvCodecId()
            decoder = PyNvVideoCodec.CreateDecoder(
                gpuid=0, codec=codec, cudacontext=0, cudastream=0, usedevicememory=True
            )
            for packet in demuxer:
                counts[place] += len(decoder.Decode(packet))

    for place in range(len(paths)):
        threading.Thread(target=work, args=(place,), daemon=True).start()
    while min(counts) < FPS:
        time.sleep(0.01)
    while line.recv() != "end":
        line.send(sum(counts))
    os._exit(0)  # threads of CUDA that still decode would hold up a proper end


def ultralytics_rate(plan: Path, clip: Path) -> float:
    """Frames per second of one file in Ultralytics' `predict`, in its own process; the plan takes one picture."""
    context = multiprocessing.get_context("spawn")
    line, theirs = context.Pipe()
    process = context.Process(target=_ultralytics, args=(plan, clip, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        return float(line.recv())
    finally:
        process.join()


def _ultralytics(plan: Path, clip: Path, line: Connection) -> None:
    from yolotrt.bench.contestants import offer_tensorrt

    offer_tensorrt(plan)
    from ultralytics import YOLO

    model = YOLO(str(plan), task="detect")
    for frames in (30, None):  # first a warm-up
        count, started = 0, time.perf_counter()
        for result in model.predict(str(clip), stream=True, verbose=False, device=0):
            result.boxes.xyxy.cpu().numpy()
            count += 1
            if count == frames:
                break
    line.send(count / (time.perf_counter() - started))


def files_to_boxes(detector: Detector, paths: Sequence[Path], decoders: Decoders) -> dict[str, Any]:
    """All files at once through the pipeline, with nothing written. The steady rate is that of the middle half of all
    frames: when all decoders are open, and none has ended.
    """
    streams: list[Stream] = []
    for path in paths:
        source = VideoSource(path)
        source.decoders = decoders
        streams.append(Stream(source, name=f"{len(streams)}"))
    times: list[float] = []
    pipeline = Pipeline(detector, streams, on_result=lambda _: times.append(time.perf_counter()))
    statistics = pipeline.run()
    first, last = len(times) // 4, 3 * len(times) // 4
    return {
        "frames": statistics.frames,
        "frames_per_s": round(statistics.frames_per_s, 1),
        "steady_per_s": round((last - first) / (times[last] - times[first]), 1),
        "boxes": statistics.boxes,
        "decoders": sorted({name for status in pipeline.status() for name in status.decoders}),
    }


class Ages(Sink):
    """Times from the packet that completed a picture to its boxes, counted by tenths of a millisecond up to 10 s: their
    memory does not grow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = np.zeros(100_000, np.int64)
        self.since = float("inf")

    def percentile_ms(self, share: float) -> float:
        """The age in milliseconds that this share of the boxes is below; 0 without any."""
        return float(np.searchsorted(self.counts.cumsum(), share / 100 * self.counts.sum())) / 10

    def write(self, result: FrameResult) -> None:
        now = time.monotonic()
        if result.frame.received_s is not None and now > self.since:
            age = int(1e4 * (now - result.frame.received_s))
            self.counts[min(age, len(self.counts) - 1)] += 1

    def close(self) -> None:
        pass


def cameras(
    detector: Detector, path: Path, count: int, decoders: Decoders, *, seconds: float, warm_up_s: float
) -> dict[str, Any]:
    """Simulated cameras side by side; what was dropped, how old boxes are, and how memory goes."""
    ages = Ages()
    sources = [Camera(path, f"camera-{n}") for n in range(count)]
    for source in sources:
        source.decoders = decoders
    pipeline = Pipeline(detector, [Stream(source, name=source.info.name) for source in sources], [ages])
    failure: list[BaseException] = []

    def run() -> None:
        try:
            with short_pauses():  # as `yolotrt detect` runs it
                pipeline.run()
        except BaseException as e:  # noqa: BLE001 - told below
            failure.append(e)

    detector.get_ready()
    thread = threading.Thread(target=run)
    thread.start()
    until = time.monotonic() + OPENING_S
    while any(status.read == 0 for status in pipeline.status()) and time.monotonic() < until and thread.is_alive():
        time.sleep(0.1)
    time.sleep(warm_up_s)
    before = pipeline.status()
    ages.since = time.monotonic()
    drops = Drops(pipeline.status)
    memory = watch_memory(seconds, thread.is_alive, drops.look)
    after = pipeline.status()
    pipeline.stop()
    thread.join()
    if failure:
        raise failure[0]
    sums = {name: sum(getattr(s, name) for s in after) - sum(getattr(s, name) for s in before) for name in COUNTS}
    return {
        "cameras": count,
        "seconds": seconds,
        **sums,
        "frames_per_s": round(sums["processed"] / seconds, 1),
        "age_ms": {f"p{q}": ages.percentile_ms(q) for q in (50, 95, 99)},
        "decoders": sorted({name for status in after for name in status.decoders}),
        "memory": memory,
        "drops_at_s": drops.at_s,
    }


COUNTS = ("read", "processed", "dropped", "failed", "corrupt")


class Drops:
    """In which seconds pictures were dropped, and how many: in a few, or all the time."""

    def __init__(self, status: Callable[[], Sequence[StreamStatus]]) -> None:
        self._status = status
        self._begin, self._before = time.monotonic(), self._dropped()
        self.at_s: dict[str, int] = {}

    def _dropped(self) -> int:
        return sum(each.dropped for each in self._status())

    def look(self) -> None:
        """To be called each second."""
        now = self._dropped()
        if now > self._before:
            self.at_s[f"{time.monotonic() - self._begin:.0f}"] = now - self._before
        self._before = now


def watch_memory(seconds: float, goes_on: Callable[[], bool], each_s: Callable[[], None]) -> dict[str, Any]:
    """Host memory (and the GPU's, where it can be asked) at the start and the end, and MB per minute between."""
    times, host, gpu = [], [], []
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end and goes_on():
        times.append(now)
        host.append(host_memory())
        gpu.append(gpu_memory())
        time.sleep(min(1.0, max(end - now, 0.0)))
        each_s()
    found: dict[str, Any] = {}
    for name, values in (("host", host), ("gpu", gpu)):
        if len(times) > 1 and all(value is not None for value in values):
            slope = np.polyfit(np.array(times) - times[0], np.array(values, float), 1)[0]
            found[name] = {
                "first_mb": round(float(cast("Any", values[0])) / 1e6, 1),
                "last_mb": round(float(cast("Any", values[-1])) / 1e6, 1),
                "mb_per_minute": round(60 * float(slope) / 1e6, 3),
            }
    return found


def host_memory() -> int | None:
    """Bytes of this process that are in memory."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def gpu_memory() -> int | None:
    """Bytes of the GPU's memory that are in use, by whomever."""
    try:
        from yolotrt.cuda.device import Device
        from yolotrt.cuda.driver import check, driver
        from yolotrt.cuda.gpu import gpu

        with gpu(Device.open(0)).active():
            free, total = check(driver().cuMemGetInfo(), "the memory of the GPU cannot be read")
        return int(total) - int(free)
    except YolotrtError:
        return None


def measure(
    detector: Detector,
    engine_per_s: float,
    clip: Path,
    camera: Path,
    folder: Path,
    args: argparse.Namespace,
    *,
    hardware: Callable[[Sequence[Path]], float] = hardware_alone,
) -> dict[str, Any]:
    """All figures, for a detector that is open; `clip` is what files hold, `camera` what a camera sends."""
    decoders = detector.decoders("nvdec", processes=args.processes)
    record: dict[str, Any] = {"runs_in": str(detector.info), "engine_alone_per_s": round(engine_per_s, 1), "files": {}}
    in_clip = VideoSource(clip).info.frames or 1
    for count in args.files:
        times = max(round(args.frames / count / in_clip), args.least)
        path = repeated(clip, folder / f"{count}.mp4", times)
        paths = [path] * count
        bare = hardware(paths)
        found = files_to_boxes(detector, paths, decoders)
        limit = min(engine_per_s, bare)
        record["files"][str(count)] = {
            **found,
            "nvdec_alone_per_s": round(bare, 1),
            "share_of_the_limit": round(found["steady_per_s"] / limit, 3),
            "times_the_baseline": round(found["steady_per_s"] / args.baseline, 2) if args.baseline else None,
        }
        sys.stderr.write(json.dumps(record) + "\n")  # what there is, if a later part fails
    few = repeated(clip, folder / "pyav.mp4", 1)
    record["one file by PyAV"] = files_to_boxes(detector, [few], detector.decoders("pyav"))
    if args.cameras:
        record["cameras"] = cameras(
            detector, camera, args.cameras, decoders, seconds=args.seconds, warm_up_s=args.warm_up
        )
    return record


def page(record: dict[str, Any]) -> str:
    """The figures for people, in Markdown."""
    lines = [
        "# Streams on a GPU",
        f"`scripts/bench_streams_gpu.py` on {record.get('gpu', 'a machine without a GPU')}, {record['date']}:",
        f"{record['runs_in']}. H.264 of {record['size'][1]}x{record['size'][0]}, decoded by NVDEC into the memory",
        "where the model takes it. The limit is the lower one of the engine alone at its batch and NVDEC alone.",
        "",
        f"Engine alone: {record['engine_alone_per_s']:,} pictures/s at batch {record['batch']}.",
        "",
        "| files | to boxes, frames/s | with all opening | NVDEC alone | share of the limit | times the baseline |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for count, found in record["files"].items():
        times = found["times_the_baseline"]
        cells = (
            count,
            f"{found['steady_per_s']:,}",
            f"{found['frames_per_s']:,}",
            f"{found['nvdec_alone_per_s']:,}",
            f"{found['share_of_the_limit']:.3f}",
            "-" if times is None else f"{times:.2f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    by_pyav = record["one file by PyAV"]
    lines += ["", f"One file decoded by PyAV on the CPU instead: {by_pyav['frames_per_s']:,} frames/s."]
    found = record.get("cameras")
    if found:
        age = found["age_ms"]
        lines += [
            "",
            (
                f"{found['cameras']} simulated cameras of {FPS} pictures/s for {found['seconds']:g} s: processed"
                f" {found['processed']:,}, dropped {found['dropped']:,}, failed {found['failed']:,}; drops in"
                f" {len(found['drops_at_s'])} of the seconds."
            ),
            (
                f"From the packet to its boxes: median {age['p50']} ms, 95th percentile {age['p95']} ms,"
                f" 99th {age['p99']} ms."
            ),
        ]
        for name, of in found["memory"].items():
            lines.append(
                f"Memory of the {name}: {of['first_mb']:,} MB at first, {of['last_mb']:,} MB at the end,"
                f" {of['mb_per_minute']:+} MB a minute."
            )
    return "\n".join(lines) + "\n"


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="*", default=[1, 8, 32], help="how many at a time")
    parser.add_argument("--frames", type=int, default=12000, help="of all files together")
    parser.add_argument("--least", type=int, default=4, help="clips in each file, so that opening it weighs little")
    parser.add_argument("--clip", type=int, default=300, help="frames that files and cameras repeat")
    parser.add_argument("--x264", default="", help="how files are encoded, as x264-params: keyint=30:bframes=2")
    parser.add_argument("--processes", type=int, help="that decode; as many as pay by default")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--cameras", type=int, default=100, help="0 leaves them out")
    parser.add_argument("--seconds", type=float, default=60.0, help="that the cameras are watched")
    parser.add_argument(
        "--warm-up", type=float, default=15.0, help="seconds before that, from all cameras' first pictures on"
    )
    parser.add_argument("--baseline", type=float, help="frames/s to compare with: those of another runtime, one stream")
    parser.add_argument("--models", type=Path, help="folder to keep the exports in, or to find them in")
    parser.add_argument("--compare", action="store_true", help="measure Ultralytics' `predict` as that baseline")
    parser.add_argument("--markdown", type=Path, default=ROOT / "docs" / "benchmarks" / "streams_gpu.md")
    return parser.parse_args(arguments)


def main() -> None:
    args = parsed()
    from yolotrt.backends.bare_engine import bare_engine
    from yolotrt.cuda.device import Device
    from yolotrt.export.pipeline import export_model
    from yolotrt.model_spec import BatchRange

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = args.models or folder
        clip = write_clip(folder / "clip.mp4", frames=args.clip, x264=args.x264)
        camera = write_clip(folder / "camera.mp4", frames=args.clip, x264=CAMERA)
        sizes = BatchRange(min=1, opt=args.batch, max=args.batch)
        made = export_model(
            assets.folder() / WEIGHTS, precision="fp16", batch=sizes, output=models / f"fp16-{args.batch}"
        )
        assert made.plan is not None, made.note
        with bare_engine(made.plan, args.batch) as engine:
            engine_per_s = args.batch * rate(engine.run)
        if args.compare:
            alone = export_model(assets.folder() / WEIGHTS, precision="fp16", output=models / "fp16-1")
            assert alone.plan is not None, alone.note
            args.baseline = ultralytics_rate(alone.plan, repeated(clip, folder / "theirs.mp4", 3))
        with Detector(made.manifest_path, strict=True, graphs=True) as detector:
            record = measure(detector, engine_per_s, clip, camera, folder, args)
    record |= {
        "gpu": str(Device.open(0)),
        "date": f"{dt.datetime.now(tz=dt.timezone.utc):%Y-%m-%d}",
        "size": list(SIZE),
        "batch": args.batch,
        "x264": args.x264,
        "processes": args.processes,
        "baseline_per_s": args.baseline,
    }
    sys.stdout.write(json.dumps(record, indent=2) + "\n")
    args.markdown.write_text(page(record))


def rate(run: Callable[[], object], *, seconds: float = 3.0) -> float:
    """Calls per second."""
    for _ in range(20):
        run()
    started, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds:
        run()
        calls += 1
    return calls / spent


if __name__ == "__main__":
    main()
