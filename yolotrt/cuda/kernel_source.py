"""The text of a kernel: a `.cu` file of this package and the headers beside it."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

_COMMON = Path(__file__).with_name("common.cuh")


@dataclass(frozen=True)
class KernelSource:
    """One `.cu` file, compiled by itself.

    Attributes:
        path: the file.
        headers: files it includes by their names, beside `common.cuh`, which every kernel may include.
    """

    path: Path
    headers: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The file and all headers, each with a name of its own."""
        return (self.path, _COMMON, *self.headers)

    @functools.cached_property
    def texts(self) -> dict[str, str]:
        """What the files hold, by name; the kernel's own comes first."""
        return {path.name: path.read_text(encoding="utf-8") for path in self.files}

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all texts, as hex."""
        whole = hashlib.sha256()
        for name, text in self.texts.items():
            whole.update(f"{name}\0{len(text)}\0{text}".encode())
        return whole.hexdigest()
