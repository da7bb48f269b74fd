"""Run yolotrt in a process of its own where chosen modules cannot be imported, as if they were not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

_BLOCK = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else super().find_spec(name, path, target)

BLOCKED = set(sys.argv.pop(1).split(","))
sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
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
