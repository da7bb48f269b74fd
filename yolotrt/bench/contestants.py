"""Libraries that race each other: each in a process of its own, since the threads of one would slow the next one down.

A process answers each order on its line: the number of a picture (or of a pass over all of them) with a `Timing`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import cv2

from yolotrt.backends import BackendName
from yolotrt.bench.pictures import Pictures, frames_of
from yolotrt.errors import EvaluationError, MissingExtraError, YolotrtError
from yolotrt.types import ImageU8

Prepare = Callable[[], None]
"""Called in the process of another library before that is imported; a function of a module, so that it can be sent."""

_WARM_UP = 5
_A_TENSORRT_10 = "10.14.1"  # TensorRT-RTX has its API, but a version that Ultralytics takes for an old one
_LEAST_PATIENCE_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one picture: as each library accounts for them, and by the wall clock of the whole call."""

    before: float
    inference: float
    after: float
    wall: float

    @property
    def around(self) -> float:
        """All of the call that is not inference, accounted for or not."""
        return self.wall - self.inference


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One who takes part.

    Attributes:
        name: for people.
        library: whose.
        model: the file that it loads.
        backend, device, threads: as of `Detector`; Ultralytics chooses its back-end by the model.
        graphs: run a plan as CUDA graphs, or not at all.
        imgsz: (height, width) that Ultralytics is told; None where the model tells it.
    """

    name: str
    library: Literal["yolotrt", "ultralytics"]
    model: Path
    backend: BackendName = "auto"
    device: str = "auto"
    threads: int = 0
    graphs: bool = False
    imgsz: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """What they run on.

    Attributes:
        title: for people.
        pictures: each contestant reads them for itself beforehand.
        from_files: the pictures are JPEG files, and reading them counts.
        stream: a turn is a pass over the whole folder of files, as each library streams it.
    """

    title: str
    pictures: Pictures
    from_files: bool = False
    stream: bool = False


def require_ultralytics() -> None:
    """Raises MissingExtraError where Ultralytics or PyTorch is not installed."""
    for package in ("ultralytics", "torch"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "export", needed_for="The comparison with Ultralytics")


@contextlib.contextmanager
def started(
    contestants: Sequence[Contestant], case: Case, *, prepare: Prepare | None = None
) -> Iterator[dict[str, Callable[[int], Timing]]]:
    """A process for each contestant, warmed up: by name, what gives it an order.

    Raises:
        EvaluationError: a process cannot do it; the error says whose and why.
    """
    context = multiprocessing.get_context("spawn")  # a fork would share the parent's runtimes
    with contextlib.ExitStack() as stack:
        found: dict[str, Callable[[int], Timing]] = {}
        for contestant in contestants:
            line, theirs = context.Pipe()
            process = context.Process(target=_work, args=(contestant, case, prepare, theirs), daemon=True)
            process.start()
            theirs.close()
            stack.callback(_end, process, line)
            _receive(contestant, line)
            found[contestant.name] = _Order(contestant, line)
        yield found


@dataclass(frozen=True)
class _Order:
    """Sends one contestant the number of a picture, and waits for the answer."""

    contestant: Contestant
    line: Connection

    def __call__(self, number: int) -> Timing:
        self.line.send(number)
        timing: Timing = _receive(self.contestant, self.line)
        return timing


def _receive(contestant: Contestant, line: Connection) -> Any:
    try:
        if not line.poll(_LEAST_PATIENCE_S):
            raise EvaluationError(f"{contestant.name} does not answer", got=f"nothing in {_LEAST_PATIENCE_S:.0f} s")
        answer = line.recv()
    except (EOFError, OSError) as e:
        raise EvaluationError(f"{contestant.name} ended by itself") from e
    if isinstance(answer, str):
        raise EvaluationError(f"{contestant.name} cannot run: {answer}")
    return answer


def _end(process: Any, line: Connection) -> None:
    with contextlib.suppress(OSError):
        line.send(None)
    process.join(10)
    if process.is_alive():
        process.terminate()
        process.join()
    line.close()


def _work(contestant: Contestant, case: Case, prepare: Prepare | None, orders: Connection) -> None:
    """A contestant's own process."""
    with contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError):  # the parent says what there is to say
        try:
            if contestant.library == "ultralytics":
                _ready_for_ultralytics(contestant, prepare)
            elif contestant.threads:
                cv2.setNumThreads(contestant.threads)
            (_stream if case.stream else _one_by_one)(contestant, case, orders)
        except Exception as e:  # noqa: BLE001 - another library raises anything; it is told, not lost
            text = " ".join(str(e).split())
            orders.send((text if isinstance(e, YolotrtError) else f"{type(e).__name__}: {text}")[:500])


def _one_by_one(contestant: Contestant, case: Case, orders: Connection) -> None:
    """Answer each number of a picture with its `Timing`."""
    images = case.pictures.read()
    run = _ultralytics(contestant) if contestant.library == "ultralytics" else _yolotrt(contestant)
    with tempfile.TemporaryDirectory(prefix="yolotrt-") as folder:
        files = _write(images, Path(folder)) if case.from_files else []
        for i in range(_WARM_UP):
            run(images[i % len(images)])
        orders.send(None)
        while (number := orders.recv()) is not None:
            if not case.from_files:
                orders.send(run(images[number % len(images)]))
                continue
            from yolotrt.sources import read_image

            began = time.perf_counter()
            image = read_image(files[number % len(images)])
            reading = time.perf_counter() - began
            t = run(image)
            orders.send(replace(t, before=t.before + reading, wall=t.wall + reading))


def _stream(contestant: Contestant, case: Case, orders: Connection) -> None:
    """Answer each order with the seconds per picture of one pass over all files."""
    images = case.pictures.read()
    with tempfile.TemporaryDirectory(prefix="yolotrt-") as folder:
        _write(images, Path(folder))
        run = _folder_runner(contestant)
        run(Path(folder))
        orders.send(None)
        while orders.recv() is not None:
            began = time.perf_counter()
            run(Path(folder))
            wall = (time.perf_counter() - began) / len(images)
            orders.send(Timing(before=0.0, inference=0.0, after=0.0, wall=wall))


def _write(images: Sequence[ImageU8], folder: Path) -> list[Path]:
    paths = [folder / f"{i:05}.jpg" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image)
    return paths


def _yolotrt(contestant: Contestant) -> Callable[[ImageU8], Timing]:
    detector = _detector(contestant)

    def run(image: ImageU8) -> Timing:
        began = time.perf_counter()
        seconds = detector.detect_frames(frames_of([image]))[0].seconds
        wall = time.perf_counter() - began
        return Timing(before=seconds.preprocess, inference=seconds.inference, after=seconds.postprocess, wall=wall)

    return run


def _ultralytics(contestant: Contestant) -> Callable[[ImageU8], Timing]:
    model, options = _ultralytics_model(contestant)

    def run(image: ImageU8) -> Timing:
        began = time.perf_counter()
        speed = model.predict(image, **options)[0].speed  # milliseconds
        wall = time.perf_counter() - began
        return Timing(
            before=speed["preprocess"] / 1e3,
            inference=speed["inference"] / 1e3,
            after=speed["postprocess"] / 1e3,
            wall=wall,
        )

    return run


def _folder_runner(contestant: Contestant) -> Callable[[Path], None]:
    """Files to boxes in host memory, as each library streams a folder."""
    if contestant.library == "ultralytics":
        model, options = _ultralytics_model(contestant)

        def run(folder: Path) -> None:
            for result in model.predict(str(folder), stream=True, **options):
                result.boxes.xyxy.cpu().numpy()

        return run
    detector = _detector(contestant)

    def run_stream(folder: Path) -> None:
        for result in detector.stream(folder):
            _ = result.detections.xyxy

    return run_stream


def _detector(contestant: Contestant) -> Any:
    from yolotrt.detector import Detector

    return Detector(
        contestant.model,
        backend=contestant.backend,
        device=contestant.device,
        threads=contestant.threads,
        graphs=contestant.graphs,
        strict=True,
    )


def _ready_for_ultralytics(contestant: Contestant, prepare: Prepare | None) -> None:
    """See to its threads, and that it installs nothing by itself, before it is imported."""
    os.environ["YOLO_AUTOINSTALL"] = "false"
    warnings.simplefilter("ignore")
    if contestant.threads:
        os.environ["OMP_NUM_THREADS"] = str(contestant.threads)
    if contestant.model.suffix == ".engine":
        offer_tensorrt(contestant.model)
    if prepare is not None:
        prepare()
    if contestant.threads:
        import onnxruntime
        import torch

        torch.set_num_threads(contestant.threads)
        session = onnxruntime.InferenceSession

        def limited(model: Any, sess_options: Any = None, **more: Any) -> Any:
            # Ultralytics has no option for the threads of ONNX Runtime.
            options = sess_options or onnxruntime.SessionOptions()
            options.intra_op_num_threads = contestant.threads
            return session(model, options, **more)

        onnxruntime.InferenceSession = limited


def offer_tensorrt(plan: Path) -> None:
    """Let `import tensorrt`, all that Ultralytics knows, find the member of the family that reads this plan."""
    from yolotrt.backends.tensorrt_engine import choose_flavour
    from yolotrt.plan_file import read_plan_file

    flavour = choose_flavour(read_plan_file(plan))
    if flavour.can.key != "tensorrt":
        module: Any = flavour.module
        module.__version__ = _A_TENSORRT_10
        sys.modules["tensorrt"] = module


def _ultralytics_model(contestant: Contestant) -> tuple[Any, dict[str, Any]]:
    """A model loaded in Ultralytics, and the options of `predict`."""
    import logging

    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.ERROR)
    device = "cpu" if contestant.device == "cpu" else contestant.device.removeprefix("cuda").removeprefix(":") or "0"
    options: dict[str, Any] = {"verbose": False, "save": False, "device": device}
    if contestant.imgsz is not None:
        options["imgsz"] = list(contestant.imgsz)
    return YOLO(str(contestant.model), task="detect"), options
