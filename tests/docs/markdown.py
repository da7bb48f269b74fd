"""The commands and programs in a Markdown file, as blocks that can be run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REASONS = (
    "needs a GPU",
    "needs the network",
    "needs a camera",
    "installs packages",
    "takes long",
    "an example of form",
)
"""Why a block may be left out. In the file: `<!-- not run: needs a GPU -->` on the line before the block."""

LANGUAGES = ("bash", "python")
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[\w+-]*)")
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<reason>.*?)\s*-->")
_SET_UP = re.compile(r"^(\./)?(?P<script>scripts/\w+|\.ci/run)\b")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: where it stands, its language and text, and why it is left out (empty: it is run)."""

    file: Path
    line: int
    language: str
    text: str
    left_out: str = ""

    @property
    def set_up_scripts(self) -> list[str]:
        """The project's own set-up scripts that it calls: they run these very tests, so they are not run again."""
        return [found["script"] for line in self._lines() if (found := _SET_UP.match(line.strip()))]

    @property
    def runnable(self) -> str:
        """The text without the calls of set-up scripts; in bash also without the prompts."""
        if self.language != "bash":
            return self.text
        return "\n".join(line for line in self._lines() if not _SET_UP.match(line.strip()))

    def _lines(self) -> list[str]:
        return [line.removeprefix("$ ") for line in self.text.splitlines()]

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


def blocks(file: Path) -> list[Block]:
    """The bash and python blocks of a Markdown file, in order."""
    found = []
    lines = file.read_text(encoding="utf-8").splitlines()
    position = 0
    while position < len(lines):
        opening = _FENCE.match(lines[position])
        if opening is None:
            position += 1
            continue
        end = position + 1
        while end < len(lines) and lines[end].strip() != opening["fence"]:
            end += 1
        if opening["language"] in LANGUAGES:
            indent = len(opening["indent"])
            found.append(
                Block(
                    file=file,
                    line=position + 1,
                    language=opening["language"],
                    text="\n".join(line[indent:] for line in lines[position + 1 : end]),
                    left_out=_reason(lines[:position]),
                )
            )
        position = end + 1
    return found


def _reason(before: list[str]) -> str:
    """Why the block after these lines is left out. Blank lines may stand between."""
    nearest = next((line for line in reversed(before) if line.strip()), "")
    found = _NOT_RUN.search(nearest)
    return found["reason"] if found else ""
