"""Real pictures for the export's checks and for FP16 calibration."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from yolotrt.assets import sample_images
from yolotrt.errors import SourceError
from yolotrt.model_spec import ModelSpec
from yolotrt.preprocess.letterbox_cpu import letterbox
from yolotrt.sources.images import SUFFIXES, read_image
from yolotrt.types import Batch, ImageU8

MAX_PICTURES = 32
"""More pictures than this do not move the ranges of activations by a factor that matters to FP16."""


def find_pictures(images: Path | None, *, limit: int = MAX_PICTURES) -> list[Path]:
    """The pictures that `images` names (a file, a glob or a folder), at most `limit`, spread evenly over all of them.

    None takes the sample pictures that ship with yolotrt. Raises SourceError where there is none.
    """
    named: Iterable[Path] = ()
    if images is None:
        named = sample_images()
    elif images.is_dir():
        named = images.rglob("*")
    elif images.is_file():
        return [images]
    else:
        # A glob may be absolute, which Path.glob refuses.
        named = (Path(p) for p in glob.glob(str(images), recursive=True))  # noqa: PTH207
    found = sorted(p for p in named if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise SourceError(
            f"no pictures at {images or 'the sample pictures of yolotrt'}",
            expected="a picture, a glob or a folder",
            remedy="Give some that are like those the model will see, with --images.",
        )
    return [found[i] for i in evenly(len(found), limit)]


def evenly(total: int, limit: int) -> list[int]:
    """At most `limit` of the indices below `total`, spread evenly over them."""
    step = max(total / limit, 1.0)
    return [int(i * step) for i in range(min(total, limit))]


def batches(pictures: Sequence[Path], spec: ModelSpec) -> Iterator[Batch]:
    """Picture files as model input; see `batched`."""
    return batched(map(read_image, pictures), spec)


def batched(images: Iterable[ImageU8], spec: ModelSpec) -> Iterator[Batch]:
    """Pictures as model input, one batch at a time, so that memory does not grow with their number.

    A model with a batch of several pictures gets the first ones again to fill its last batch.

    Args:
        images: BGR `uint8 [H, W, 3]`.
        spec: the model's.
    """
    size, rest = spec.batch.min, iter(images)
    first: tuple[ImageU8, ...] = ()
    while chosen := tuple(itertools.islice(rest, size)):
        first = first or chosen
        again = itertools.islice(itertools.cycle(first), size - len(chosen))
        yield letterbox([*chosen, *again], spec)
