"""The calibration pictures of an INT8 or FP8 export: where they come from, and that they are fit for it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from yolotrt import files
from yolotrt.errors import DatasetError, SourceError, UsageError
from yolotrt.evaluation.coco_dataset import read_coco
from yolotrt.evaluation.yolo_dataset import pictures_at, split_pictures, yaml_of
from yolotrt.export.quantize.seen import remember, seen
from yolotrt.export.samples import batched, evenly
from yolotrt.model_spec import ModelSpec
from yolotrt.sources import VideoSource, open_source, read_image
from yolotrt.sources.images import quiet_opencv
from yolotrt.types import Batch, ImageU8

USUAL = 512
"""Pictures of a calibration. More do not move the ranges."""

FEWEST = 64
"""With fewer, what one picture happens to hold decides ranges."""

_READERS = 4  # threads that look at the pictures: as many pictures are in memory


@dataclass(frozen=True, kw_only=True)
class CalibrationPictures:
    """Pictures that are known to be readable.

    Attributes:
        source: where they are from, as a user would say it: "train split of coco8.yaml".
        count: how many.
        digest: SHA-256 over the content of their files, in order; of a video, over its file and the frames chosen.
        notes: what a reader should know of them, one sentence each.
        others: files of the same source that were not chosen, not looked at yet; none of a video.
        images: gives them from the start, BGR `uint8 [H, W, 3]`, one at a time.
    """

    source: str
    count: int
    digest: str
    notes: tuple[str, ...] = ()
    others: tuple[Path, ...] = field(default=(), repr=False)
    images: Callable[[], Iterator[ImageU8]] = field(repr=False, compare=False)

    def batches(self, spec: ModelSpec) -> Iterator[Batch]:
        """The pictures from the start as the model gets them at run time. Memory does not grow with their number.

        A model with a batch of several pictures gets the first ones again to fill its last batch.
        """
        return batched(self.images(), spec)


def find_calibration(
    *, calib: Path | str | None, data: Path | None, count: int = USUAL, allow_few: bool = False
) -> CalibrationPictures:
    """Choose calibration pictures, evenly over all there are and always the same ones, and look at each of them.

    Args:
        calib: a folder, a glob, a text file that lists pictures, a data.yaml (its train split) or a video file.
        data: the labelled data set of the export. Without `calib`, the pictures are its train split, labelled or not.
        count: the most to choose.
        allow_few: take fewer than `FEWEST`.

    Raises:
        UsageError: nothing names pictures, or there are fewer than `FEWEST`.
        DatasetError: the data set cannot be read or has no train split.
        SourceError: there are no pictures, or none of them can be read.
        MissingExtraError: a video where PyAV is not installed.
    """
    if count < 1:
        raise UsageError("the number of calibration pictures is out of range", got=count, expected="1 or more")
    if calib is not None:
        found = _named(calib, data, count)
    elif data is not None:
        found = _train_split(data, data, count)
    else:
        raise UsageError("no calibration pictures, which INT8 and FP8 need", expected="--calib, or --data")
    if found.count >= FEWEST:
        return found
    if not allow_few:
        raise UsageError(
            f"{found.source}: too few calibration pictures",
            got=found.count,
            expected=f"{FEWEST} or more",
            remedy="Give more with --calib, or take the ranges from so few with --calib-few.",
        )
    note = f"only {found.count} calibration pictures: ranges from fewer than {FEWEST} may not fit others"
    return dataclasses.replace(found, notes=(*found.notes, note))


def _named(calib: Path | str, data: Path | None, count: int) -> CalibrationPictures:
    # Of the two slashes of an address, a Path keeps one; what follows may hold a password.
    text, path = re.sub(r"^(\w{2,}):/(?!/)", r"\1://", str(calib)), Path(calib)
    if text and path.is_dir():
        return _of_files(f"folder {path.resolve().name}/", pictures_at(path, path), data, count)
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml", ".json"):
        return _train_split(path, data, count)
    if suffix == ".txt" and path.exists():
        return _of_files(f"list {path.name}", pictures_at(path, path.parent), data, count)
    source = open_source(text)
    if source.info.kind == "video":
        return _of_video(path, count)
    if source.info.kind != "pictures":
        raise UsageError(  # by its name, since an address may hold a password
            f"--calib {source.info.name}: nothing to calibrate on",
            got=f"a source of kind {source.info.kind}",
            expected="pictures, or one video file",
        )
    return _of_files(f"picture {path.name}" if path.exists() else f"pictures {text}", source.paths, data, count)


def _train_split(named: Path, data: Path | None, count: int) -> CalibrationPictures:
    remedy = "Name pictures like those the model will see with --calib: a folder, a glob, a list or a video."
    if named.suffix.lower() == ".json":
        raise UsageError(f"{named}: a COCO file has no train split to calibrate on", remedy=remedy)
    try:
        pictures = split_pictures(named, "train")
        return _of_files(f"train split of {yaml_of(named).name}", pictures, data, count)
    except DatasetError as e:
        raise DatasetError(f"no calibration pictures: {e}", remedy=remedy) from e


def _of_files(source: str, paths: Iterable[Path], data: Path | None, count: int) -> CalibrationPictures:
    everything = sorted(set(paths))
    if not everything:
        raise SourceError(f"{source}: no pictures to calibrate on")
    indices = evenly(len(everything), count)
    chosen = [_File(everything[i]) for i in indices]
    others = set(everything).difference(everything[i] for i in indices)
    problems = _look_at(chosen)
    usable = [f for f in chosen if not f.problem]
    if not usable:
        raise SourceError(f"{source}: none of the {len(chosen)} calibration pictures can be read ({problems[0]})")
    notes = [f"{len(problems)} calibration pictures cannot be read and are left out: {problems[0]}"] if problems else []
    shared = _shared(usable, data)
    if shared:
        notes.append(
            f"{shared} of {len(usable)} calibration pictures are validation pictures too: "
            "the accuracy will look better than it is"
        )
    return CalibrationPictures(
        source=source,
        count=len(usable),
        digest=_digest("pictures", *(f.sha256 for f in usable)),
        notes=tuple(notes),
        others=tuple(sorted(others)),
        images=lambda: (read_image(f.path) for f in usable),
    )


@dataclass
class _File:
    """A picture file: the hash of its content, and what is wrong with it."""

    path: Path
    sha256: str = ""
    problem: str = ""

    def hash(self) -> None:
        with contextlib.suppress(OSError):  # reading it will say what is wrong
            self.sha256 = files.sha256_of(self.path)

    def read(self) -> None:
        try:
            read_image(self.path)
        except SourceError as e:
            self.problem = str(e)


def _look_at(chosen: Sequence[_File]) -> list[str]:
    """Hash the files and read them, unless they were all found readable before; returns what is wrong."""
    with quiet_opencv(), ThreadPoolExecutor(_READERS) as pool:  # OpenCV decodes side by side
        list(pool.map(_File.hash, chosen))
        digest = _digest("pictures", *(f.sha256 for f in chosen))
        if seen(digest) is None:
            list(pool.map(_File.read, chosen))
    problems = [f.problem for f in chosen if f.problem]
    if not problems:
        remember(digest, len(chosen))
    return problems


def _shared(usable: Sequence[_File], data: Path | None) -> int:
    """How many of the pictures are, by their content, among the validation pictures of a data set."""
    if data is None:
        return 0
    # What is wrong with the data set is for its reader to say.
    with contextlib.suppress(DatasetError):
        if data.suffix.lower() == ".json":
            validation = [s.path for s in read_coco(data).samples]
        else:
            validation = split_pictures(data, "val")
        sizes = {f.path.stat().st_size for f in usable}
        existing = [p for p in validation if p.is_file()]
        # Files of another size are not even opened.
        hashes = {files.sha256_of(p) for p in existing if p.stat().st_size in sizes}
        return sum(f.sha256 in hashes for f in usable)
    return 0


def _of_video(path: Path, count: int) -> CalibrationPictures:
    content, problems = files.sha256_of(path), list[str]()
    frames = seen(content)
    if frames is None:
        frames = _count_frames(path, problems)
        if not problems:
            remember(content, frames)
    wanted = frozenset(evenly(frames, count))
    return CalibrationPictures(
        source=f"video {path.name}",
        count=len(wanted),
        digest=_digest("video", content, *map(str, sorted(wanted))),
        notes=tuple(problems),
        # No further than to the last one: what comes behind need not be decoded.
        images=lambda: (f.pixels for f in itertools.islice(VideoSource(path).chosen(wanted.__contains__), len(wanted))),
    )


def _count_frames(path: Path, problems: list[str]) -> int:
    """Decode a video, since what its file says of its length may be wrong; what else is wrong goes to `problems`."""
    source, count = VideoSource(path), 0
    source.on_problem = lambda problem: problems.append(str(problem))

    def unwanted(index: int) -> bool:
        nonlocal count
        count = index + 1
        return False

    for _ in source.chosen(unwanted):
        pass
    return count


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
