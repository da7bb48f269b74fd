"""Every command in the README and in docs/ is run, in the order it stands there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import REASONS, Block, blocks

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

every_file = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))


@every_file
def test_what_is_not_run_says_why(file: Path) -> None:
    reasons = {str(block): block.left_out for block in blocks(file) if block.left_out}
    assert {where: reason for where, reason in reasons.items() if reason not in REASONS} == {}


@every_file
def test_the_set_up_scripts_it_names_exist(file: Path) -> None:
    named = {script for block in blocks(file) for script in block.set_up_scripts}
    assert [script for script in sorted(named) if not os.access(ROOT / script, os.X_OK)] == []


@every_file
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_commands_run(file: Path, tmp_path: Path) -> None:
    # One folder for all of a file: a reader also runs one command after the other.
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    failed = []
    for block in blocks(file):
        if block.left_out or not block.runnable.strip():
            continue
        result = run(block, tmp_path)
        if result.returncode != 0:
            failed.append(f"{block} ended with {result.returncode}:\n{block.runnable}\n{result.stdout}{result.stderr}")
    assert not failed, "\n\n".join(failed)


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one block as a reader would, with this environment's `yolotrt` and `python`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "YOLOTRT_CACHE": str(folder / "cache")}
    shell = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    return subprocess.run(
        [*shell, block.runnable], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


SAMPLE = """# Title
<!-- not run: needs a GPU -->
```bash
yolotrt detect --device cuda
```
Text.

```bash
$ scripts/demo
$ yolotrt --version
```

1. A list
   ```python
   if True:
       print("indented")
   ```

```json
{"not": "run"}
```

<!-- not run: no time -->

```python
import nothing
```

```bash
false
```
"""


@pytest.fixture
def sample(tmp_path: Path) -> list[Block]:
    file = tmp_path / "sample.md"
    file.write_text(SAMPLE, encoding="utf-8")
    return blocks(file)


def test_blocks_are_found_with_their_place_and_reason(sample: list[Block]) -> None:
    assert [(b.line, b.language, b.left_out) for b in sample] == [
        (3, "bash", "needs a GPU"),
        (8, "bash", ""),
        (14, "python", ""),
        (25, "python", "no time"),
        (29, "bash", ""),
    ]
    assert sample[1].set_up_scripts == ["scripts/demo"]
    assert sample[2].text == 'if True:\n    print("indented")'


def test_set_up_scripts_are_named_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "sample.md"
    file.write_text("```bash\nscripts/demo\n./scripts/test -x  # all\nyolotrt --version\n```\n", encoding="utf-8")
    (block,) = blocks(file)
    assert block.set_up_scripts == ["scripts/demo", "scripts/test"]
    assert block.runnable == "yolotrt --version"


def test_a_block_that_fails_is_seen(sample: list[Block], tmp_path: Path) -> None:
    assert run(sample[2], tmp_path).stdout == "indented\n"
    assert run(sample[4], tmp_path).returncode != 0
