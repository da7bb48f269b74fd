"""What of a detector is timed: the model alone, a picture to its boxes, and many pictures in batches."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from yolotrt.backends.pictures import PictureBackend
from yolotrt.bench.pictures import frames_of
from yolotrt.bench.timing import Parts, Stage, timed
from yolotrt.detector import Detector
from yolotrt.errors import UsageError
from yolotrt.model_files import ModelFiles
from yolotrt.model_spec import ModelSpec
from yolotrt.preprocess.geometry import geometry_of
from yolotrt.preprocess.letterbox_cpu import letterbox
from yolotrt.types import Batch, Frame, ImageU8

ENGINE = "engine alone"
ENGINE_ON_DEVICE = "engine alone, on the GPU's clock"
HOST_TO_BOXES = "host to boxes"
STREAM = "stream"
_FEW = 16
_STREAM_S = 0.5  # at most, of one call
_MOST = 4096


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is timed.

    Attributes:
        stages: in the order of their rows.
        batch: pictures of one inference of `ENGINE` and `STREAM`.
        streamed: pictures of one call of `STREAM`.
    """

    stages: Sequence[Stage]
    batch: int
    streamed: int


@contextlib.contextmanager
def plan_stages(
    detector: Detector, files: ModelFiles, pictures: Sequence[ImageU8], *, batch: int | None, turn_s: float
) -> Iterator[Plan]:
    """The stages of a detector; what belongs to them is freed at the end of the block.

    Args:
        detector: is used by nothing else meanwhile.
        files: of its model.
        pictures: one stage `HOST_TO_BOXES` for each size; all go through the stream.
        batch: see `Plan`; None takes the size that the model is tuned for.
        turn_s: how long a turn of a stage lasts; a call of the stream takes about half of it.

    Raises:
        UsageError: a batch that the model does not take.
    """
    size = batch_size(detector.spec, batch)
    with contextlib.ExitStack() as opened:
        stages = list(_engine(detector, files, pictures[0], size, opened))
        by_size = {picture.shape: picture for picture in pictures}
        stages += [_host_to_boxes(detector, picture, alone=len(by_size) == 1) for picture in by_size.values()]
        stream, streamed = _stream(detector, frames_of(pictures), size, min(turn_s / 2, _STREAM_S))
        yield Plan(stages=[*stages, stream], batch=size, streamed=streamed)


def _engine(
    detector: Detector, files: ModelFiles, picture: ImageU8, size: int, opened: contextlib.ExitStack
) -> Iterator[Stage]:
    """The model alone, by the host's clock and, on a GPU, by the GPU's. What they hold is put into `opened`."""
    prepared = model_input(detector, picture, size)
    on_gpu = detector.info.backend == "tensorrt" and files.plan is not None
    if not isinstance(detector.backend, PictureBackend):
        yield Stage(name=ENGINE, run=timed(ENGINE, lambda: detector.backend.infer(prepared)), pictures=size)
    elif on_gpu:
        from yolotrt.backends.bare_engine import bare_engine

        assert files.plan is not None
        graph = opened.enter_context(bare_engine(files.plan, size, device=device_index(detector.info.device)))
        yield Stage(name=ENGINE, run=timed(ENGINE, graph.run), pictures=size)
    if on_gpu:
        from yolotrt.bench.plan_runner import PlanRunner

        assert files.plan is not None
        runner = opened.enter_context(PlanRunner.open(files.plan, device=device_index(detector.info.device)))
        runner.load(prepared.images)
        yield Stage(name=ENGINE_ON_DEVICE, run=lambda: {ENGINE_ON_DEVICE: runner.run()}, pictures=size)


def model_input(detector: Detector, picture: ImageU8, batch: int) -> Batch:
    """A batch of one picture, repeated, as the detector hands it to the model."""
    found = letterbox([picture] * batch, detector.spec, channels_last=detector.backend.channels_last)
    return dataclasses.replace(found, above=detector.options.conf)


def device_index(device: str) -> int:
    """The number in `cuda:0 (NVIDIA H200)`."""
    return int(device.partition(":")[2].partition(" ")[0])


def batch_size(spec: ModelSpec, asked: int | None) -> int:
    """Pictures of one inference: as asked, else what the model is tuned for. Raises UsageError for too many."""
    sizes = spec.batch
    if asked is None:
        return sizes.opt
    if not sizes.min <= asked <= sizes.max:
        raise UsageError(
            "option batch is out of range",
            got=asked,
            expected=f"{sizes.min} to {sizes.max}, as this model takes",
            remedy="Export with --batch or --batch-range for other sizes.",
        )
    return asked


def _host_to_boxes(detector: Detector, picture: ImageU8, *, alone: bool) -> Stage:
    """One picture in host memory to its boxes, with the parts of the call as the detector accounts for them."""
    (frame,) = frames_of([picture])
    height, width = frame.size
    name = HOST_TO_BOXES if alone else f"{HOST_TO_BOXES}, {width} x {height}"

    def run() -> Parts:
        started = time.perf_counter()
        (result,) = detector.detect_frames([frame])
        whole = time.perf_counter() - started
        if isinstance(detector.backend, PictureBackend):
            return {name: whole}  # all of it is one piece of work on the GPU
        seconds = result.seconds
        return {
            name: whole,
            f"{name}: before": seconds.preprocess,
            f"{name}: inference": seconds.inference,
            f"{name}: after": seconds.postprocess,
            f"{name}: around the inference": whole - seconds.inference,
        }

    return Stage(name=name, run=run)


def _stream(detector: Detector, frames: Sequence[Frame], batch: int, seconds: float) -> tuple[Stage, int]:
    """Many pictures in batches, as many batches at a time as the back-end runs; a call lasts about `seconds`."""
    sizes = {geometry_of(frame.size, detector.spec).input_size for frame in frames}
    # Pictures of several input sizes cannot share a batch.
    chosen = frames if len(sizes) == 1 else frames[:1]

    def batches(count: int) -> Iterator[list[Frame]]:
        for start in range(0, count, batch):
            yield [chosen[i % len(chosen)] for i in range(start, start + batch)]

    def stream(count: int) -> float:
        started = time.perf_counter()
        for _ in detector.detect_batches(batches(count)):
            pass
        return (time.perf_counter() - started) / count

    few = -(-_FEW // batch) * batch
    stream(few)
    per_picture = stream(few)
    count = min(max(int(seconds / per_picture), few), _MOST)
    count = -(-count // batch) * batch
    return Stage(name=STREAM, run=lambda: {STREAM: stream(count)}, pictures=count), count
