"""The command line in this process, through the same door as the shell."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass

import pytest

from yolotrt import cli


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs `yolotrt ARGUMENTS`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *arguments: str) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["yolotrt", *arguments])
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as end:
                cli.main()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        captured = self._capfd.readouterr()
        return Outcome(code=int(end.value.code or 0), out=captured.out, err=captured.err)
