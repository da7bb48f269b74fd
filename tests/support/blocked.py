"""Run yolotrt in a process of its own where chosen modules cannot be imported, as if they were not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

_BLOCK = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in BLOCKED:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

BLOCKED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Refuse())
del sys.argv[1]
"""


def run_blocked(blocked: Iterable[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python `code` with the top-level modules `blocked` missing; `arguments` are its `sys.argv[1:]`."""
    return subprocess.run(
        [sys.executable, "-c", _BLOCK + code, ",".join(blocked), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_cli_blocked(blocked: Iterable[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with the top-level modules `blocked` missing."""
    return run_blocked(blocked, "from yolotrt.cli import main\nmain()", *arguments)
