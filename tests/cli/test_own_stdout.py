"""Standard output while a library of C writes to it, in a process of its own."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from yolotrt.cli.own_stdout import own_stdout

PROGRAM = """
import ctypes, os, sys
from yolotrt.cli.own_stdout import own_stdout
c = ctypes.CDLL(None)
print("first")
try:
    with own_stdout():
        c.puts(b"of C")
        os.write(1, b"of the system\\n")
        print("ours \\u00e9", flush=True)
        sys.stdout.buffer.write(b"bytes\\n")
        if sys.argv[1:]:
            raise SystemExit(3)
finally:
    c.puts(b"of C again")
    c.fflush(None)
    print("last")
"""


@pytest.mark.parametrize("arguments", [[], ["raise"]])
def test_others_write_to_standard_error(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", PROGRAM, *arguments], capture_output=True, text=True)
    assert done.returncode == (3 if arguments else 0)
    assert sorted(done.stderr.splitlines()) == ["of C", "of the system"]
    out = done.stdout.splitlines()
    assert out[:3] == ["first", "ours \u00e9", "bytes"]
    assert sorted(out[3:]) == ["last", "of C again"]


def test_a_stream_in_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with own_stdout():
        print("here")
    assert stream.getvalue() == "here\n"
    monkeypatch.setattr(sys, "stdout", None)
    with own_stdout():
        pass
