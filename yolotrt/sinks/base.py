"""The contract that every sink keeps: results in, in order, and an end that leaves whole files."""

from __future__ import annotations

import abc
from pathlib import Path

from yolotrt.types import FrameResult


class Sink(abc.ABC):
    """Takes the results of one run. Called from one thread at a time.

    After `write` has raised, only `abort` may be called.

    Attributes:
        outputs: the files that stand complete so far, in the order they were finished.
    """

    def __init__(self) -> None:
        self.outputs: list[Path] = []

    @abc.abstractmethod
    def write(self, result: FrameResult) -> None:
        """Take one result. Raises SinkError where it cannot be written."""

    @abc.abstractmethod
    def close(self) -> None:
        """Finish all files. Calling it again does nothing. Raises SinkError where that fails."""

    def abort(self) -> None:
        """End early, after an interrupt or an error: what was written so far is kept where it can be used.

        Takes well under two seconds and raises nothing of its own.
        """
        import contextlib

        from yolotrt.errors import SinkError

        with contextlib.suppress(SinkError):
            self.close()
