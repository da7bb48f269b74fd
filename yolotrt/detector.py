"""`Detector`: a model, loaded once, that turns pictures into `Detections`."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias, overload

import numpy as np

from yolotrt.backends import Backend, BackendInfo, BackendName, open_backend
from yolotrt.backends.pictures import PictureBackend, ReadyPicture
from yolotrt.decode import decode
from yolotrt.detections import Detections
from yolotrt.errors import SourceError, UsageError
from yolotrt.model_files import find_model_files
from yolotrt.model_spec import ModelSpec
from yolotrt.options import DetectOptions
from yolotrt.picture_check import check_picture
from yolotrt.preprocess.geometry import geometry_of
from yolotrt.preprocess.letterbox_cpu import Letterboxer
from yolotrt.preprocess.surface import DevicePicture
from yolotrt.types import Batch, Frame, FrameResult, ImageU8, RawOutputs, StageSeconds

if TYPE_CHECKING:
    from typing_extensions import Self

    from yolotrt.sources import LiveOptions, SourceSpec
    from yolotrt.sources.decoders import DecoderChoice, Decoders

Picture: TypeAlias = "ImageU8 | str | Path"
"""A picture: BGR `uint8 [H, W, 3]`, or the path of a file."""

Infer: TypeAlias = Callable[[Batch], RawOutputs]

_OPEN_GRAPHS = (
    "What is in the GPU's memory goes to yolotrt.backends.tensorrt_graph.open_graphs, all else to NumPy first."
)


class Detector:
    """Finds objects in pictures.

    A detector may be shared between threads: pictures are prepared and boxes decoded side by side, while the model
    runs one batch at a time. Streams run as many at a time as the back-end does, all streams together. Use it as a
    context manager, or call `close`.

    Args:
        model: an `.onnx` file, a TensorRT plan (`.engine`), a bundle's folder or manifest, or `.pt` weights, which are
            exported to ONNX once and kept in the user's cache (needs the extra `export`).
        backend: `auto` takes the fastest that can run here; `info` says which it is.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `N`.
        options: thresholds and filters, as one object; the keywords below override its fields.
        conf: boxes with a confidence of at most this are dropped (0.25).
        iou: of two boxes of one class that overlap by more than this, the weaker one is dropped (0.7).
        max_det: at most this many boxes per picture (300).
        classes: class ids or names to keep, or a single one; None keeps all.
        agnostic: let boxes suppress boxes of other classes too.
        strict: raise FallbackRefusedError rather than run in a slower back-end than the model was built for.
        trust: allow an unrestricted unpickling of `.pt` weights, which can run any code that they hold.
        threads: that one inference takes on a CPU; 0 takes one per physical core.
        graphs: run a TensorRT plan as CUDA graphs, which take a picture from its pixels to its boxes on the GPU. All of
            the time is then `inference`, and threads run side by side. None does so where the plan has one input
            size; True refuses all else; False copies the model's input and outputs through the host.

    Raises:
        ModelError: a file that is missing, damaged or not a YOLO detection model.
        BackendError: nothing here can run it.
        UsageError: an option out of range.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        backend: BackendName = "auto",
        device: str | int = "auto",
        options: DetectOptions | None = None,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int | None = None,
        classes: Sequence[int | str] | int | str | None = None,
        agnostic: bool | None = None,
        strict: bool = False,
        trust: bool = False,
        threads: int = 0,
        graphs: bool | None = None,
    ) -> None:
        options = options or DetectOptions()
        given = {"conf": conf, "iou": iou, "max_det": max_det, "agnostic": agnostic}
        # Checked before the model is loaded: a mistyped threshold should not cost a load.
        options = dataclasses.replace(options, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
        files = find_model_files(model, trust=trust)
        self._backend: Backend = open_backend(
            files, backend=backend, device=str(device), strict=strict, threads=threads, graphs=graphs
        )
        self._lock = threading.Lock()
        self._own = threading.local()  # each thread prepares its pictures in memory of its own
        # Those that no stream is running at the moment. Streams share them: each runs one batch at a time.
        self._idle: SimpleQueue[Backend] = SimpleQueue()
        self._lanes = 0
        self.options = options
        try:
            self.options = self.options_with(classes=classes)
        except UsageError:
            self.close()
            raise

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self._backend.spec

    @property
    def info(self) -> BackendInfo:
        """What runs it: back-end, version, device, precision, and why nothing better does."""
        return self._backend.info

    @property
    def backend(self) -> Backend:
        """What runs the model, for measuring it alone: nothing else may detect meanwhile."""
        return self._backend

    @property
    def names(self) -> tuple[str, ...]:
        """Class names; the index is the class id."""
        return self.spec.names

    def options_with(
        self, *, conf: float | None = None, classes: Sequence[int | str] | int | str | None = None
    ) -> DetectOptions:
        """This detector's thresholds with some of them replaced, as `Frame.options` takes them.

        Raises UsageError for what is out of range, or a class that the model does not have.
        """
        options = self.options if conf is None else dataclasses.replace(self.options, conf=conf)
        if classes is None:
            return options
        return dataclasses.replace(options, classes=_class_ids(classes, self.names))

    @overload
    def __call__(self, pictures: Picture) -> Detections: ...  # type: ignore[overload-overlap]  # a str is a Sequence of str

    @overload
    def __call__(self, pictures: Sequence[Picture]) -> list[Detections]: ...

    def __call__(self, pictures: Picture | Sequence[Picture]) -> Detections | list[Detections]:
        """Detect in one picture, or in each of a list, which is run in batches of the model's size.

        Raises:
            SourceError: a picture that cannot be read, or an array that is not BGR `uint8 [H, W, 3]`.
            BackendError: the model failed.
        """
        if isinstance(pictures, np.ndarray | str | Path) or not isinstance(pictures, Iterable):
            return self.detect_frames([_frame(pictures, 0)])[0].detections
        return [r.detections for r in self.detect_frames([_frame(p, i) for i, p in enumerate(pictures)])]

    def decoders(self, choice: DecoderChoice = "auto", *, processes: int | None = None) -> Decoders:
        """What decodes videos best for this detector, for `Source.decoders`.

        Args:
            choice: `auto` takes NVDEC where the model runs as CUDA graphs and PyNvVideoCodec can decode on its GPU, so
                that pictures stay there, and PyAV for what NVDEC cannot; `nvdec` refuses that; `pyav` takes the CPU.
            processes: that decode by NVDEC where several videos or streams are read side by side, since one Python
                process reaches about half of what a data-centre GPU decodes; None takes as many as pay, 0 none.

        Raises UsageError, MissingExtraError: `nvdec` where there is none, with the reason.
        """
        from yolotrt.pipeline.prefetch import ahead_of
        from yolotrt.sources.decoder_choice import choose

        machine = self._backend.machine if isinstance(self._backend, PictureBackend) else None
        on_gpu = self.info.backend == "tensorrt" and machine is None
        return choose(
            choice,
            machine,
            reason="the model does not run as CUDA graphs" if on_gpu else "",
            # Those that wait, those in the detector, and those on their way to the outputs.
            limit=5 * ahead_of(self.spec.batch.opt),
            processes=processes,
        )

    def stream(
        self,
        source: SourceSpec,
        *,
        live: LiveOptions | None = None,
        decoder: DecoderChoice = "auto",
        decode_processes: int | None = None,
    ) -> Generator[FrameResult]:
        """Detect in every frame of a source, in order; memory does not grow with its length.

        A thread of its own reads ahead while the model runs. It ends with the iteration: exhaust the iterator or close
        it. Cameras and network streams connect again whenever they drop out; each result is of the newest picture.
        Several of them are read side by side: `Frame.source_id` says whose picture it is, and `FrameResult.stream` by
        which stream it came, where two read the same source (`street.mp4`, `street.mp4-2`).

        Args:
            source: a picture, a folder, a glob, a video file, a stream's address, a webcam's number, or a sequence.
            live: how webcams and network streams are read.
            decoder: of videos, as in `decoders`.
            decode_processes: as in `decoders`.

        Raises:
            SourceError: nothing can be read, or a camera that is not coming back.
            UsageError, MissingExtraError: a decoder that there is not.
            BackendError: the model failed.
        """
        from yolotrt.pipeline.reader import Reading
        from yolotrt.sources import open_sources

        with contextlib.ExitStack() as opened:
            sources = [opened.enter_context(s) for s in open_sources(source, live=live)]
            decoders = self.decoders(decoder, processes=decode_processes)
            for each in sources:
                each.decoders = decoders
            is_live = any(s.info.live for s in sources)
            names: deque[str] = deque()  # of the streams of all frames on their way, which come back in order

            def batches(reading: Reading) -> Iterator[list[Frame]]:
                for taken in reading:
                    names.extend(item.inlet.record.name for item in taken)
                    yield [item.frame for item in taken]

            if is_live:
                self.get_ready()
            with Reading.of(sources, self.spec.batch.opt) as reading:
                ahead = 0 if is_live else 1
                running = self.detect_batches(batches(reading), ahead=ahead, cancel=reading.cancel)
                with contextlib.closing(running) as results:
                    for result in results:
                        name = names.popleft()
                        yield result if len(sources) == 1 else dataclasses.replace(result, stream=name)
                reading.raise_error()

    def detect_batches(
        self, batches: Iterable[Sequence[Frame]], *, ahead: int = 1, cancel: Callable[[], None] | None = None
    ) -> Generator[FrameResult]:
        """Detect in batches of frames, as many at a time as the back-end runs side by side, results in order.

        A result is handed out as soon as it is there, whether or not there is a next batch yet.

        Args:
            batches: iterated in another thread where the back-end runs several side by side.
            ahead: batches taken beyond those that run, so that none waits for the next one: 1 for throughput, 0 where a
                batch that is taken later holds newer pictures.
            cancel: makes `batches` end, where it may wait for long; called when no more results are wanted.
        """
        lanes = self._open_lanes()
        if lanes == 1:
            for batch in batches:
                yield from self.detect_frames(batch)
            return
        from yolotrt.pipeline.prefetch import prefetched

        free, over = threading.Semaphore(lanes + ahead), threading.Event()
        pool = ThreadPoolExecutor(lanes, thread_name_prefix="yolotrt-detect")

        def jobs() -> Iterator[Future[list[FrameResult]]]:
            iterator = iter(batches)
            while free.acquire() and not over.is_set():
                batch = next(iterator, None)
                if batch is None:
                    return
                yield pool.submit(self._detect, batch, self._infer_in_a_lane)

        try:
            with prefetched(jobs(), capacity=lanes + ahead) as submitted:
                try:
                    while taken := submitted.take():
                        results = taken[0].result()
                        free.release()
                        yield from results
                finally:
                    over.set()
                    free.release()
                    if cancel is not None:
                        cancel()
        finally:
            pool.shutdown(cancel_futures=True)

    def get_ready(self, options: Sequence[DetectOptions] = ()) -> None:
        """Prepare for batches of all sizes. TensorRT compiles and records each when it first comes, which takes a
        plan of many sizes seconds; cameras do not wait for that.

        Args:
            options: that frames may come with, besides the detector's own.

        Raises BackendError: the model failed.
        """
        self._backend.get_ready([self.options, *options])

    def detect_frames(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """Detect in each frame, with what each stage cost. Of a batch, each frame carries its share."""
        return self._detect(frames, self._infer)

    def _infer(self, batch: Batch) -> RawOutputs:
        with self._lock:
            return self._backend.infer(batch)

    def _open_lanes(self) -> int:
        """How many batches can run side by side; their back-ends are made at the first call."""
        with self._lock:
            backends = self._backend.side_by_side()
            if len(backends) > 1 and not self._lanes:
                self._lanes = len(backends)
                for backend in backends:
                    self._idle.put(backend)
        return len(backends)

    def _infer_in_a_lane(self, batch: Batch) -> RawOutputs:
        backend = self._idle.get()
        try:
            return backend.infer(batch)
        finally:
            self._idle.put(backend)

    def _detect(self, frames: Sequence[Frame], infer: Infer) -> list[FrameResult]:
        if isinstance(self._backend, PictureBackend):
            return self._run_pictures(self._backend, frames)
        results: list[FrameResult | None] = [None] * len(frames)
        for indices in self._batches(frames):
            for index, result in zip(indices, self._run([frames[i] for i in indices], infer), strict=True):
                results[index] = result
        return [r for r in results if r is not None]

    def close(self) -> None:
        """Free the model, once what is running has ended. Calling it again does nothing.

        Detecting afterwards raises BackendError, in streams that are still open as well.
        """
        with self._lock:
            running = [self._idle.get() for _ in range(self._lanes)]
            self._backend.close()
            for backend in running:
                self._idle.put(backend)  # whoever waits for one is told that it is closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _batches(self, frames: Sequence[Frame]) -> Iterator[list[int]]:
        """Indices of frames that can run together: of one input size, and at most as many as the model takes."""
        if len(frames) == 1:
            yield [0]
            return
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, frame in enumerate(frames):
            by_size.setdefault(geometry_of(frame.size, self.spec).input_size, []).append(index)
        for indices in by_size.values():
            for start in range(0, len(indices), self.spec.batch.max):
                yield indices[start : start + self.spec.batch.max]

    def _letterboxer(self) -> Letterboxer:
        if not hasattr(self._own, "letterboxer"):
            self._own.letterboxer = Letterboxer(self.spec, channels_last=self._backend.channels_last)
        found: Letterboxer = self._own.letterboxer
        return found

    def _run_pictures(self, backend: PictureBackend, frames: Sequence[Frame]) -> list[FrameResult]:
        started = time.perf_counter()
        pictures = [_where_it_is(frame, backend) for frame in frames]
        found = backend.detect(pictures, [frame.options or self.options for frame in frames])
        share = (time.perf_counter() - started) / max(len(frames), 1)
        return [
            FrameResult(
                frame=frame,
                detections=detections,
                seconds=StageSeconds(decode=frame.decode_s, inference=share),
            )
            for frame, detections in zip(frames, found, strict=True)
        ]

    def _run(self, frames: Sequence[Frame], infer: Infer) -> list[FrameResult]:
        started = time.perf_counter()
        options = [frame.options or self.options for frame in frames]
        batch = self._letterboxer()([f.pixels for f in frames])
        padded = _pad_batch(batch, self.spec.batch.min)
        padded = dataclasses.replace(padded, above=min(each.conf for each in options))
        prepared = time.perf_counter()
        outputs = infer(padded)
        inferred = time.perf_counter()
        found = decode(outputs, batch.geometries, options)
        decoded = time.perf_counter()
        share = 1 / len(frames)
        return [
            FrameResult(
                frame=frame,
                detections=detections,
                seconds=StageSeconds(
                    decode=frame.decode_s,
                    preprocess=(prepared - started) * share,
                    inference=(inferred - prepared) * share,
                    postprocess=(decoded - inferred) * share,
                ),
            )
            for frame, detections in zip(frames, found, strict=True)
        ]


def _where_it_is(frame: Frame, backend: PictureBackend) -> ReadyPicture:
    """A picture in the memory of the back-end's GPU, if it is there; else on the host."""
    picture = frame.picture
    if isinstance(picture, np.ndarray):
        return picture
    found = None if backend.machine is None else picture.surface(backend.machine)
    return picture.on_host() if found is None else found


def _frame(picture: Picture, index: int) -> Frame:
    if isinstance(picture, str | Path):
        from yolotrt.sources.images import read_image

        return Frame(picture=read_image(Path(picture)), source_id=str(picture), index=index)
    if not isinstance(picture, np.ndarray):
        raise SourceError(
            "not a picture",
            got=f"an object of type {type(picture).__name__}",
            expected="a path or an array",
            remedy=_OPEN_GRAPHS if _is_tensor(picture) else None,
        )
    check_picture(picture, error=SourceError)
    return Frame(picture=np.ascontiguousarray(picture), source_id="array", index=index)


def _is_tensor(picture: object) -> bool:
    # Of the type: to ask a tensor itself may fail.
    return isinstance(picture, DevicePicture) or hasattr(type(picture), "__cuda_array_interface__")


def _pad_batch(batch: Batch, size: int) -> Batch:
    """Fill a batch up to a static model's size by repeating its last image; decode ignores the copies."""
    missing = size - len(batch.images)
    if missing <= 0:
        return batch
    images = np.concatenate((batch.images, np.repeat(batch.images[-1:], missing, axis=0)))
    return Batch(images=images, geometries=batch.geometries + batch.geometries[-1:] * missing)


def _class_ids(classes: Sequence[int | str] | int | str, names: tuple[str, ...]) -> tuple[int, ...]:
    ids = []
    for item in classes if isinstance(classes, Iterable) and not isinstance(classes, str) else [classes]:
        text = str(item)
        if text in names:
            ids.append(names.index(text))
        elif text.isdecimal() and (int(text) < len(names) or not names):
            ids.append(int(text))
        else:
            raise UsageError(
                "option classes names a class that the model does not have",
                got=text,
                expected=", ".join(names[:20]) + (", ..." if len(names) > 20 else ""),
            )
    return tuple(ids)
