"""Tries one function and prints the outcome as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable


class NotOffered(Exception):
    """The version has no such function."""


def offered(holds: bool) -> None:
    if not holds:
        raise NotOffered


def tell(function: Callable[[], str | None]) -> None:
    try:
        reply = {"outcome": "works", "remark": function()}
    except NotOffered:
        reply = {"outcome": "not offered"}
    except Exception as error:
        reply = {"outcome": "fails", "remark": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply))
