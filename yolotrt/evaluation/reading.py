"""Run a detector over picture files: read ahead, in batches, passing over what cannot be read."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path

from yolotrt.detector import Detector
from yolotrt.pipeline.prefetch import ahead_of, prefetched
from yolotrt.sources.images import read_side_by_side
from yolotrt.types import Frame, FrameResult

OnProblem = Callable[[Exception], None]


def detect_pictures(detector: Detector, paths: Sequence[Path], *, on_problem: OnProblem) -> Generator[FrameResult]:
    """Detect in every picture, in order; memory does not grow with their number.

    Args:
        detector: stays open.
        paths: picture files. `Frame.index` of a result is the position of its picture here.
        on_problem: called, in the reading thread, with the SourceError of a picture that cannot be read.
    """
    batch = detector.spec.batch.opt
    with prefetched(_frames(paths, on_problem), capacity=ahead_of(batch)) as ahead:
        batches = iter(partial(ahead.take, batch), [])
        with contextlib.closing(detector.detect_batches(batches)) as results:
            yield from results


def _frames(paths: Sequence[Path], on_problem: OnProblem) -> Iterator[Frame]:
    for index, found in enumerate(read_side_by_side(paths)):
        if isinstance(found, Frame):
            yield dataclasses.replace(found, index=index)
        else:
            on_problem(found)
