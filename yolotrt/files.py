"""Files that are whole or absent: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from yolotrt.errors import SinkError, UsageError

_STEM = 40  # letters of a name that its temporary name keeps, so that the longest names still fit


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it takes `target`'s place, on any error it is removed.

    The temporary name keeps the suffix, since writers choose their format by it. Folders are made as needed.
    Raises SinkError where the folder cannot be written or the disk is full.
    """
    with writing(target):
        if target.is_dir():  # `.` and `..` have no name that another could be made from
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile.mkstemp: its files are private, and an output gets the rights that any other new file has.
        temporary = target.with_name(f".{target.stem[:_STEM]}.{secrets.token_hex(8)}{target.suffix}")
    try:
        with writing(target):
            temporary.touch(exist_ok=False)
            yield temporary
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


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
    try:
        there = target.stat()
    except OSError:
        return  # what is not there cannot be lost
    for path, what in inputs:
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), there):
                raise UsageError(f"{named} is {what} itself", expected="another file")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
