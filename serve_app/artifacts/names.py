"""Names of artifacts: relative paths that are valid, unescaped, in file systems, buckets and URLs."""

from __future__ import annotations

import re

OUTPUTS = "outputs/"  # what clients may download; everything else is internal

_SEGMENT = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,200}")


def check_name(name: str) -> str:
    """Returns `name`. Raises `ValueError` unless each segment has only letters, digits, `.`, `_`, `-`; no `.`, `..`."""
    if not all(_SEGMENT.fullmatch(segment) for segment in name.split("/")):
        raise ValueError(f"{name!r} is not an artifact name")
    return name


def is_output(name: str) -> bool:
    """Whether clients may download the artifact `name`."""
    return name.startswith(OUTPUTS)
