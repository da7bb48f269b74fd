"""Files that are whole or absent: written under a temporary name in the same folder, then renamed.

What stands in the place of a file stays: what a link points to is replaced, and pipes and devices are written to.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO

from yolotrt.errors import SinkError, UsageError

STANDARD_OUTPUT = Path("/dev/stdout")
_ITS_NAMES = (STANDARD_OUTPUT, Path("/dev/fd/1"), Path("/proc/self/fd/1"))
_STEM = 40  # letters of a name that its temporary name keeps, so that the longest names still fit


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it takes the place of `target`, on any error it is removed.

    The temporary name keeps the suffix, since writers choose their format by it. Folders are made as needed. A pipe or
    a device gets the content of the finished file, a link stays and what it points to is replaced.
    Raises SinkError where the folder cannot be written, the disk is full, or nothing can be written to `target`.
    """
    with (_passed_on if is_pipe_or_device(target) else _renamed)(target) as temporary:
        yield temporary


@contextlib.contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    with writing(target):
        if target.is_dir():  # `.` and `..` have no name that another could be made from
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        place = behind_link(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile.mkstemp: its files are private, and an output gets the rights that any other new file has.
        temporary = place.with_name(f".{place.stem[:_STEM]}.{secrets.token_hex(8)}{target.suffix}")
    try:
        with writing(target):
            temporary.touch(exist_ok=False)
            yield temporary
            temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _passed_on(target: Path) -> Iterator[Path]:
    """A temporary file elsewhere, since there is none beside a device, whose content goes to `target` on success."""
    with writing(target), tempfile.TemporaryDirectory() as folder:
        mode = target.stat().st_mode
        if not is_standard_output(target) and (stat.S_ISBLK(mode) or stat.S_ISSOCK(mode)):
            raise SinkError(f"cannot write {target}: it is a disk or a socket", remedy="Choose another output path.")
        temporary = Path(folder) / f"output{target.suffix}"
        temporary.touch()
        yield temporary
        with temporary.open("rb") as finished, _opened(target) as stream:
            shutil.copyfileobj(finished, stream)


@contextlib.contextmanager
def _opened(target: Path) -> Iterator[IO[bytes]]:
    if is_standard_output(target) and sys.stdout is not None:
        sys.stdout.flush()  # what was printed before comes first
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with target.open("wb") as stream:
        yield stream


def is_standard_output(target: Path) -> bool:
    """Whether it is standard output, by any of its names. Those may lead elsewhere, see cli/own_stdout.py."""
    return target in _ITS_NAMES


def is_pipe_or_device(target: Path) -> bool:
    """Whether it is there and neither a file nor a folder, so that nothing can be put in its place or beside it."""
    try:
        mode = target.stat().st_mode
    except OSError:
        return False
    # A file that is standard output holds more than what is written now, and stays as well.
    return is_standard_output(target) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def behind_link(target: Path) -> Path:
    """The file that a link points to, whether or not it is there; what is no link is itself."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(target: Path, data: bytes | memoryview) -> None:
    """Write `data`, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn an OSError of the block into a SinkError that names `target` and the remedy."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            what, remedy = "the disk is full", "Free some space or choose another output folder."
        elif e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            what, remedy = "the folder is not writable", "Choose another output folder."
        elif e.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            what, remedy = "a file stands where a folder is needed, or the reverse", "Choose another output path."
        else:
            what, remedy = e.strerror or str(e), "Check the output path."
        raise SinkError(f"cannot write {target}: {what}", remedy=remedy) from e


def refuse_input(target: Path, named: str, inputs: Iterable[tuple[Path, str]]) -> None:
    """Raise UsageError where `target` is a file that the run itself reads, whichever way the two are spelled.

    Args:
        target: a file to be written.
        named: the output as its user knows it: "--coco a.json".
        inputs: each with what it is: "the model".
    """
    if is_pipe_or_device(target):
        return  # a terminal may well be read and written
    try:
        there = target.stat()
    except OSError:
        return  # what is not there cannot be lost
    for path, what in inputs:
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), there):
                raise UsageError(f"{named} is {what} itself", expected="another file")


def reaches_any(folder: Path, paths: Collection[Path]) -> bool:
    """Whether a file written into `folder` could take the place of one of `paths`.

    It could where one lies there, or a link to one: what a link points to would be replaced.
    """
    place = folder.resolve()
    if place in {parent.resolve() for parent in {path.parent for path in paths}}:
        return True
    if any(path.is_symlink() and path.resolve().parent == place for path in paths):
        return True
    with contextlib.suppress(OSError):  # a folder that is not there, or not to be read
        linked = {path.resolve() for path in folder.iterdir() if path.is_symlink()}
        return bool(linked) and not linked.isdisjoint(path.resolve() for path in paths)
    return False


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
