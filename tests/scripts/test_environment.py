"""The scripts' shared start: which Python it takes, when it installs, and what it says where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


class Checkout:
    """A checkout, in a folder with spaces, whose pip only writes down that it was called."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a check out"
        (self.root / "scripts").mkdir(parents=True)
        shutil.copy(SCRIPTS / "_environment.sh", self.root / "scripts")
        (self.root / "pyproject.toml").write_text("one")
        (self.root / "constraints.txt").write_text("")
        self.calls = folder / "calls"

    def python(self, path: Path, *, refuses: str = "", pip_fails: bool = False) -> Path:
        """A Python that fails for code that holds `refuses`, and whose pip does nothing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "#!/bin/sh\n"
            f'if [ "$2" = pip ]; then echo "$3" >> "{self.calls}"; exit {int(pip_fails)}; fi\n'
            + (f'case "$2" in *{refuses}*) exit 1;; esac\n' if refuses else "")
            + f'exec "{sys.executable}" "$@"\n'
        )
        path.chmod(0o755)
        return path

    def source(self, **environment: str) -> subprocess.CompletedProcess[str]:
        script = f'. "{self.root}/scripts/_environment.sh"; echo "PYTHON=$PYTHON"; pwd'
        return subprocess.run(
            ["bash", "-c", script],
            cwd="/",
            env={**os.environ, "YOLOTRT_PYTHON": "", **environment},
            capture_output=True,
            text=True,
        )

    @property
    def installations(self) -> int:
        return len(self.calls.read_text().split()) if self.calls.exists() else 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("script", ["demo", "test", "check", "bench", "_environment.sh", "../.ci/run"])
def test_bash_can_read_it(script: str) -> None:
    path = SCRIPTS / script
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    assert script.startswith("_") or os.access(path, os.X_OK)


def test_it_installs_once_and_again_after_a_change(checkout: Checkout) -> None:
    python = checkout.python(checkout.root / ".venv" / "bin" / "python")
    first = checkout.source()
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-2:] == [f"PYTHON={python}", str(checkout.root)]
    assert "Installing yolotrt[" in first.stdout
    installations = checkout.installations
    assert installations >= 1

    assert "Installing" not in checkout.source().stdout
    assert checkout.installations == installations

    (checkout.root / "pyproject.toml").write_text("two")
    assert "Installing" in checkout.source().stdout
    assert checkout.installations == 2 * installations


def test_an_installation_that_failed_is_begun_again(checkout: Checkout) -> None:
    python = checkout.root / ".venv" / "bin" / "python"
    checkout.python(python, pip_fails=True)
    failed = checkout.source()
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: pip could not install")
    checkout.python(python)
    assert "Installing" in checkout.source().stdout


def test_a_python_that_is_too_old(checkout: Checkout, tmp_path: Path) -> None:
    old = checkout.python(tmp_path / "old", refuses="version_info")
    result = checkout.source(YOLOTRT_PYTHON=str(old))
    assert result.returncode == 1
    assert result.stderr == f"error: YOLOTRT_PYTHON={old} is not a Python 3.10 or later.\n"


def test_a_python_without_venv(checkout: Checkout, tmp_path: Path) -> None:
    bare = checkout.python(tmp_path / "bare", refuses="ensurepip")
    result = checkout.source(YOLOTRT_PYTHON=str(bare))
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "no venv or ensurepip" in line
    assert "apt install python3-venv" in line
    assert not (checkout.root / ".venv").exists()


def test_no_python_at_all(checkout: Checkout, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname"):
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    result = checkout.source(PATH=str(tools))
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: yolotrt needs Python 3.10 or later, found none.")
