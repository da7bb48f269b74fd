"""Ctrl-C that Python swallows still ends the run."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import os, signal, sys
from yolotrt.cli import interrupts

interrupts.install()


class Swallows:
    def __del__(self):  # an exception in here is printed and gone
        os.kill(os.getpid(), NUMBER)
        for _ in range(1000):
            pass


Swallows()
print("went on")
try:
    interrupts.check()
except KeyboardInterrupt:
    print("ended")
"""


def run(number: signal.Signals, **options: object) -> str:
    program = PROGRAM.replace("NUMBER", str(int(number)))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, **options).stdout  # type: ignore[call-overload,no-any-return]


def test_a_swallowed_interrupt_is_remembered() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        assert run(number) == "went on\nended\n"


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup leaves it to its children
    try:
        assert run(signal.SIGINT) == "went on\n"
    finally:
        signal.signal(signal.SIGINT, before)
