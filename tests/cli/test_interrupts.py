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


def run(number: signal.Signals, program: str = PROGRAM) -> str:
    program = program.replace("NUMBER", str(int(number)))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stdout


def test_a_swallowed_interrupt_is_remembered() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        assert run(number) == "went on\nended\n"


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup leaves it to its children
    try:
        assert run(signal.SIGINT) == "went on\n"
    finally:
        signal.signal(signal.SIGINT, before)


HANDED = """
import os, signal, threading, time
from yolotrt.cli import interrupts

interrupts.install()
lock, over = threading.Lock(), threading.Event()
names = []


def end():
    names.append(threading.current_thread().name)
    with lock:  # that the main thread holds when the signal comes
        over.set()


try:
    with interrupts.handed_to(end):
        with lock:
            os.kill(os.getpid(), NUMBER)
            for _ in range(1000):
                pass
        assert over.wait(10)
        print("went on")
except KeyboardInterrupt:
    print("ended", *names)
"""


def test_a_run_is_told_to_end_by_another_thread() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        assert run(number, HANDED) == "went on\nended yolotrt-interrupts\n"


TWICE = """
import os, signal, threading
from yolotrt.cli import interrupts

interrupts.install()
try:
    with interrupts.handed_to(lambda: None):
        os.kill(os.getpid(), NUMBER)
        print("went on")
        os.kill(os.getpid(), NUMBER)
        print("went on again")
except KeyboardInterrupt:
    print("ended")
try:
    with interrupts.handed_to(lambda: None):
        print("began")
except KeyboardInterrupt:
    print("did not begin")
"""


def test_a_second_interrupt_is_raised_at_once() -> None:
    assert run(signal.SIGINT, TWICE) == "went on\nended\ndid not begin\n"
