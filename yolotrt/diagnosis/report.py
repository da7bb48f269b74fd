"""The result of a diagnosis, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "absent", "missing", "broken"]
"""`ok`: works; `absent`: this machine has none, and that is fine; `missing`: not installed; `broken`: does not work."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One row.

    Attributes:
        section: the group it stands in.
        name: of what was checked.
        status: see `Status`.
        detail: version and proof, or the reason.
        remedy: the command or step that helps; empty where nothing is wrong.
        needed: one of the checks that the main job hangs on.
    """

    section: str
    name: str
    status: Status
    detail: str
    remedy: str = ""
    needed: bool = False


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All rows, and what follows from them.

    Attributes:
        can_run: whether pictures can be read and a back-end runs models: the main job.
        conclusion: the same in one sentence.
        checks: in order.
    """

    can_run: bool
    conclusion: str
    checks: Sequence[Check]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return dataclasses.asdict(self)


# Modules of our dependencies whose package is called otherwise.
_DISTRIBUTIONS = {"cv2": "opencv-python-headless", "yaml": "pyyaml", "google": "protobuf"}

Probe = Callable[[], Iterable[Check]]
"""Yields the rows of one group. May raise anything: `diagnose` turns that into a row."""


def one_line(error: BaseException) -> str:
    """An error for a table: its kind and text, without line breaks, shortened."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    shown = text if kind == "MissingExtraError" or not text else f"{kind}: {text}"
    return (shown or kind)[:300]


def install_command(error: ImportError) -> str:
    """The command that installs the module that an import did not find; empty where the error names none."""
    module = (error.name or "").split(".")[0]
    return f"pip install {_DISTRIBUTIONS.get(module, module)}" if module else ""


def version_of(distribution: str) -> str | None:
    """Version of an installed package, from its metadata alone; None where it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
