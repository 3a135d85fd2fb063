"""Names of artifacts: paths below the store's root, safe in a file system, a bucket and a URL as they are."""

from __future__ import annotations

import re

OUTPUTS = "outputs/"  # what clients may download; everything else is internal

_SEGMENT = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,200}")


def check_name(name: str) -> str:
    """`name` itself, or `ValueError`: segments of letters, digits, `.`, `_`, `-`; none is `.` or `..`."""
    if not all(_SEGMENT.fullmatch(segment) for segment in name.split("/")):
        raise ValueError(f"{name!r} is no artifact name")
    return name


def is_output(name: str) -> bool:
    """Whether clients may download the artifact `name`."""
    return name.startswith(OUTPUTS)
