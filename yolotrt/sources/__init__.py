"""Where pictures come from. `open_source` takes what a user names and gives a `Source`.

Adding a kind: a module here with a `Source`, and a row in `_FILE_KINDS` (or a check in `_expand`, if it is no file).
"""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from yolotrt.errors import SourceError, UsageError
from yolotrt.sources import images, video
from yolotrt.sources.base import SeveralSources, Source, SourceInfo
from yolotrt.sources.images import ArraysSource, ImagesSource, read_image
from yolotrt.sources.video import VideoSource
from yolotrt.types import ImageU8

__all__ = [
    "ArraysSource",
    "ImagesSource",
    "SeveralSources",
    "Source",
    "SourceInfo",
    "SourceSpec",
    "VideoSource",
    "open_source",
    "read_image",
]

SourceSpec: TypeAlias = "str | Path | ImageU8 | Sequence[str | Path] | Sequence[ImageU8]"
"""A picture, video, folder or glob; an array BGR `uint8 [H, W, 3]`; or a sequence of these."""

# kind -> (the suffixes of its files, what makes a source of neighbouring files of that kind)
_FILE_KINDS: dict[str, tuple[frozenset[str], Callable[[list[Path]], Iterator[Source | SourceError]]]] = {
    "pictures": (images.SUFFIXES, lambda paths: iter([ImagesSource(paths)])),
    "video": (video.SUFFIXES, lambda paths: map(_open_video, paths)),
}


def open_source(spec: SourceSpec) -> Source:
    """Open what a user names.

    A folder gives its pictures and videos in natural order (`2.jpg` before `10.jpg`), hidden files and subfolders
    left out; a glob may hold `**`. One bad file among several is reported by `Source.on_problem`; where there is
    only one file, it raises.

    Raises:
        SourceError: nothing there, nothing of a known kind, or a single file that cannot be read.
        UsageError: a kind of source that this version does not have (webcam, network stream).
        MissingExtraError: a video where PyAV is not installed.
    """
    if isinstance(spec, np.ndarray):
        return ArraysSource([spec])
    items = [spec] if isinstance(spec, str | Path | int) else list(spec)  # an int is refused by name below
    if not items:
        raise UsageError("no source", expected="a picture, video, folder or glob")
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    if arrays:
        if len(arrays) != len(items):
            raise UsageError("arrays and paths mixed in one source", expected="a sequence of one kind")
        return ArraysSource(arrays)
    files = [entry for item in items for entry in _expand(item)]  # type: ignore[arg-type]  # arrays are gone
    parts = [part for kind, paths in _by_kind(files) for part in _FILE_KINDS[kind][1](paths)]
    if len(parts) > 1:
        return SeveralSources(tuple(parts))
    if isinstance(parts[0], SourceError):
        raise parts[0]
    return parts[0]


def kind_of(path: Path) -> str | None:
    """The kind of a file by its name; None for a name that tells nothing."""
    suffix = path.suffix.lower()
    return next((kind for kind, (suffixes, _) in _FILE_KINDS.items() if suffix in suffixes), None)


def _expand(item: str | Path | int) -> list[Path]:
    """The files that one named source stands for."""
    text = str(item)
    if not text:  # to a path, that would be the current folder
        raise UsageError("a source without a name", expected="a picture, video, folder or glob")
    path = Path(text)
    if path.is_dir():
        return _known_files(path.iterdir(), f"{text}: the folder holds no pictures or videos")
    if path.exists():
        return [path]
    _refuse_live(text)
    if glob.has_magic(text):
        found = map(Path, glob.glob(text, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        return _known_files(found, f"{text}: no picture or video matches")
    raise SourceError(f"{text}: no such file or folder")


def _known_files(paths: Iterator[Path], nothing: str) -> list[Path]:
    found = sorted((p for p in paths if kind_of(p) and not p.name.startswith(".") and p.is_file()), key=_natural)
    if not found:
        suffixes = sorted(itertools.chain.from_iterable(s for s, _ in _FILE_KINDS.values()))
        raise SourceError(nothing, expected="names that end in " + " ".join(suffixes))
    return found


def _refuse_live(text: str) -> None:
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", text)
    if scheme:
        # The scheme only: the rest of an address may hold a password.
        raise UsageError(
            f"{scheme[1].lower()}:// sources are not supported by this version",
            expected="a picture, video file, folder or glob",
            remedy="Save the stream to a file first.",
        )
    if text.isdecimal() or text.startswith("/dev/video"):
        raise UsageError(
            f"webcams ({text}) are not supported by this version",
            expected="a picture, video file, folder or glob",
            remedy="Save the stream to a file first.",
        )


def _by_kind(files: list[Path]) -> Iterator[tuple[str, list[Path]]]:
    # A single file may have any name; what reads it will judge its content.
    for kind, paths in itertools.groupby(files, key=lambda p: kind_of(p) or _sniff(p)):
        yield kind, list(paths)


def _sniff(path: Path) -> str:
    """The kind of a file whose name says nothing, by its first bytes."""
    try:
        with path.open("rb") as f:
            head = f.read(16)
    except OSError:
        return "pictures"  # reading it will say what is wrong
    magics = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")
    is_picture = head.startswith(magics) or head[8:12] == b"WEBP" or head[4:12] == b"ftypavif"
    return "pictures" if is_picture else "video"


def _open_video(path: Path) -> Source | SourceError:
    try:
        return VideoSource(path)
    except SourceError as e:
        if kind_of(path) is None:
            return SourceError(f"{path}: neither a picture nor a video")
        return e


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which `frame2` comes before `frame10`; the name itself settles `a.jpg` and `A.jpg`."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in parts if p], str(path)
