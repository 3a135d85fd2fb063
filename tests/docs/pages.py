"""The documentation as the tests see it: pages, their code blocks and what stands right before each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

PROGRAMS = ("sh", "python", "js")  # run against a service, unless marked
DATA = ("yaml", "json")  # checked as what they are
LANGUAGES = (*PROGRAMS, *DATA, "text")

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```[ \t]*$", re.M | re.S)
_NOT_RUN = re.compile(r"<!-- not run: (\S.*?) -->\n\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `excuse`: why it is not run, from the comment right before it."""

    page: Path
    line: int
    language: str
    code: str
    excuse: str | None

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        return self.language in PROGRAMS and self.excuse is None


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """The blocks of a page in order; `text` in the place of what the file says."""
    text = page.read_text() if text is None else text
    found = []
    for fence in _FENCE.finditer(text):
        marked = _NOT_RUN.search(text[: fence.start()])
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, line, fence[1], fence[2], marked[1] if marked else None))
    return found


def prose_of(page: Path) -> str:
    """The page without its code."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))
