"""Files that name sources: a text file with one per line, or a YAML list."""

from __future__ import annotations

import re
from pathlib import Path

from yolotrt.errors import SourceError, UsageError
from yolotrt.sources.address import is_webcam, scheme_of, with_environment

_SUFFIXES = (".txt", ".yaml", ".yml")
_COMMENT = re.compile(r"(?:^|\s)#.*")


def is_list(name: str) -> bool:
    """Whether it is a file that names sources."""
    path = Path(name)
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def listed(name: str) -> list[str]:
    """The sources that a list names; `name` itself if it is no list.

    Paths count from the list's own folder; `${NAME}` stands for an environment variable, so that no list need hold a
    password.

    Raises:
        SourceError: a list that cannot be read, or names nothing.
        UsageError: an environment variable that is not set, or a YAML file that is no list.
    """
    if not is_list(name):
        return [name]
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8-sig")  # with or without the mark that Windows puts in front
    except (OSError, UnicodeDecodeError) as e:
        raise SourceError(f"{path}: cannot read the list of sources") from e
    entries = _lines(text) if path.suffix.lower() == ".txt" else _yaml(text, path)
    if not entries:
        raise SourceError(f"{path}: the list names no source")
    named = [with_environment(entry, where=str(path)).strip() for entry in entries]
    if "" in named:
        raise UsageError(f"{path}: entry {named.index('') + 1} is empty", expected="the name of a source")
    return [_placed(entry, path.parent) for entry in named]


def _lines(text: str) -> list[str]:
    """One entry per line. A comment begins with `#`, which stands in front of it all or behind white space."""
    entries = (_COMMENT.sub("", line).strip() for line in text.splitlines())
    return [entry for entry in entries if entry]


def _yaml(text: str, path: Path) -> list[str]:
    import yaml

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError:
        data = None  # its message would repeat lines of the file, which may hold a password
    if not isinstance(data, list) or not all(isinstance(entry, str | int) for entry in data):
        raise UsageError(
            f"{path}: not a list of sources",
            expected="a YAML list of names",
            remedy="Streams with options of their own are given with --config.",
        )
    return [str(entry) for entry in data]


def _placed(entry: str, folder: Path) -> str:
    return entry if scheme_of(entry) or is_webcam(entry) else str(folder / entry)
