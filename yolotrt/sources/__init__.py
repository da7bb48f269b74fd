"""Where pictures come from. `open_source` takes what a user names and gives a `Source`.

Adding a kind: a module here with a `Source`, and a row in `_FILE_KINDS` (or a check in `_open_live`, if it is no file).
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
from yolotrt.sources.address import is_address, is_webcam, without_credentials, without_slips
from yolotrt.sources.base import SeveralSources, Source, SourceInfo, StreamState, Watcher
from yolotrt.sources.images import ArraysSource, ImagesSource, read_image
from yolotrt.sources.lists import listed
from yolotrt.sources.live import LiveOptions
from yolotrt.sources.network import NetworkSource
from yolotrt.sources.video import VideoSource
from yolotrt.sources.webcam import WebcamSource
from yolotrt.types import ImageU8
from yolotrt.unique import unique

__all__ = [
    "ArraysSource",
    "ImagesSource",
    "LiveOptions",
    "NetworkSource",
    "SeveralSources",
    "Source",
    "SourceInfo",
    "SourceSpec",
    "StreamState",
    "VideoSource",
    "Watcher",
    "WebcamSource",
    "open_source",
    "open_sources",
    "read_image",
]

SourceSpec: TypeAlias = "str | Path | int | ImageU8 | Sequence[str | Path | int] | Sequence[ImageU8]"
"""A picture, video, folder, glob, list of sources, webcam's number or stream's address; an array BGR `uint8 [H, W, 3]`;
or a sequence of these."""

# kind -> (the suffixes of its files, what makes a source of neighbouring files of that kind)
_FILE_KINDS: dict[str, tuple[frozenset[str], Callable[[list[Path]], Iterator[Source | SourceError]]]] = {
    "pictures": (images.SUFFIXES, lambda paths: iter([ImagesSource(paths)])),
    "video": (video.SUFFIXES, lambda paths: map(_open_video, paths)),
}


_NUMBERS = re.compile(r"%0?\d*d")  # as FFmpeg and OpenCV write the numbers of an image sequence


def open_source(spec: SourceSpec, *, live: LiveOptions | None = None, name: str | None = None) -> Source:
    """Open what a user names, as one source.

    A folder gives its pictures and videos in natural order (`2.jpg` before `10.jpg`), hidden files and subfolders
    left out; a glob may hold `**`; `%04d` in a name stands for numbers. A `.txt` file names a source per line (`#`
    in front, or behind white space, starts a comment), a YAML file holds a list of them. One bad file among several is
    reported by `Source.on_problem`; where there is only one file, it raises. A camera is connected when the iteration
    starts.

    Args:
        live: how webcams and network streams are read.
        name: of a webcam or network stream, in place of its address.

    Raises:
        SourceError: nothing there, nothing of a known kind, or a single file that cannot be read.
        UsageError: an address of an unknown kind, or several sources of which one is live (see `open_sources`).
        MissingExtraError: a video or a network stream where PyAV is not installed.
    """
    if name is not None and isinstance(spec, str | int) and is_live(str(spec)):
        return _open_live(str(spec), live, name)
    sources = open_sources(spec, live=live)
    if len(sources) > 1:
        raise UsageError(
            f"{len(sources)} sources, of which some are live, are no single source",
            remedy="Open each by itself, or give them all to Detector.stream().",
        )
    return sources[0]


def open_sources(spec: SourceSpec, *, live: LiveOptions | None = None) -> list[Source]:
    """Open what a user names, each live source by itself, so that none waits for another.

    Files beside live sources are a source per name; files alone are a single source, read one after the other. The
    rest is as in `open_source`.
    """
    if isinstance(spec, np.ndarray):
        return [ArraysSource([spec])]
    items = [spec] if isinstance(spec, str | Path | int) else list(spec)
    if not items:
        raise UsageError("no source", expected="a picture, video, folder, glob, camera or address")
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    if arrays:
        if len(arrays) != len(items):
            raise UsageError("arrays and paths mixed in one source", expected="a sequence of one kind")
        return [ArraysSource(arrays)]
    names = [name for item in items for name in listed(str(item))]
    if not any(map(is_live, names)):
        return [_open_files(names)]
    taken: set[str] = set()
    return [_open_live(n, live, unique(_shown(n), taken)) if is_live(n) else _open_files([n]) for n in names]


def is_live(name: str) -> bool:
    """Whether it names a camera or a stream. Raises UsageError for an address of an unknown kind."""
    return is_address(name) or (is_webcam(name) and (name.startswith("/dev/") or not Path(name).exists()))


def _open_live(text: str, options: LiveOptions | None, name: str) -> Source:
    if is_address(text):
        return NetworkSource(text, name=name, options=options)
    return WebcamSource(int(text) if text.isdecimal() else text, name=name, options=options)


def _shown(text: str) -> str:
    """The name of a live source whom nobody has named."""
    return without_credentials(text) if is_address(text) else f"webcam-{text.removeprefix('/dev/video')}"


def _open_files(names: list[str]) -> Source:
    files = [entry for name in names for entry in _expand(name)]
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


def _expand(text: str) -> list[Path]:
    """The files that one named source stands for."""
    if not text:  # to a path, that would be the current folder
        raise UsageError("a source without a name", expected="a picture, video, folder or glob")
    path = Path(text)
    try:
        if path.is_dir():
            return _known_files(path.iterdir(), f"{text}: the folder holds no pictures or videos")
        if path.exists():
            return [path]
    except OSError as e:  # not allowed, or a name too long for this machine
        raise SourceError(f"{without_slips(text)}: cannot be read: {e.strerror or 'not a name'}") from None
    if _NUMBERS.search(text):
        return _known_files(_numbered(text), f"{text}: no picture or video has such a name")
    if glob.has_magic(text):
        return _known_files(_globbed(text), f"{text}: no picture or video matches")
    raise SourceError(f"{without_slips(text)}: no such file or folder")


def _globbed(text: str) -> Iterator[Path]:
    return map(Path, glob.glob(text, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)


def _numbered(text: str) -> Iterator[Path]:
    """The files of an image sequence, such as `frame_%04d.png`."""
    fixed = _NUMBERS.split(text)
    pattern = re.compile(r"\d+".join(map(re.escape, fixed)))
    return (path for path in _globbed("*".join(map(glob.escape, fixed))) if pattern.fullmatch(str(path)))


def _known_files(paths: Iterator[Path], nothing: str) -> list[Path]:
    found = sorted((p for p in paths if kind_of(p) and not p.name.startswith(".") and p.is_file()), key=_natural)
    if not found:
        suffixes = sorted(itertools.chain.from_iterable(s for s, _ in _FILE_KINDS.values()))
        raise SourceError(nothing, expected="names that end in " + " ".join(suffixes))
    return found


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
