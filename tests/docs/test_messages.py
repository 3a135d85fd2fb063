"""The messages that the troubleshooting names are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import ROOT

ENOUGH = 12  # characters of a message that are the same each time: fewer would match anything
QUOTED = re.compile(r"^\| ``(.+?)\s?`` \|", re.M)

PAGE = (ROOT / "docs" / "4-operations.md").read_text()
MESSAGES = QUOTED.findall(PAGE.partition("## Troubleshooting")[2])


def patterns() -> Iterator[re.Pattern[str]]:
    """Every text in the code, with what varies as `.*`."""
    for path in (ROOT / "serve_app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [str(part.value) if isinstance(part, ast.Constant) else None for part in parts]
            if sum(len(text or "") for text in texts) >= ENOUGH:
                yield re.compile("".join(".*" if text is None else re.escape(text) for text in texts), re.S)


PATTERNS = list(patterns())


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_in_the_code(message: str) -> None:
    assert any(pattern.fullmatch(message) for pattern in PATTERNS), message


def test_messages_are_found() -> None:
    assert len(MESSAGES) > 15
    assert not any(pattern.fullmatch("the job table is nowhere to be found") for pattern in PATTERNS)
