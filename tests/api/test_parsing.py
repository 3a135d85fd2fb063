"""What of a body may be kept."""

from __future__ import annotations

import math

from serve_app.parsing import LARGEST, LONGEST_URI, keepable


def test_what_fits_is_kept_as_it_is() -> None:
    value = {"video_url": "https://host/v.mp4", "n": [1, 2.5, None, True, {"a": "ü"}]}
    assert keepable(value) == value


def test_a_long_data_uri_is_cut() -> None:
    uri = "data:video/mp4;base64," + "A" * LONGEST_URI
    assert keepable({"video_url": uri}) == {"video_url": f"{uri[:64]}…({len(uri)} bytes)"}


def test_what_a_database_cannot_hold_is_replaced() -> None:
    """Postgres takes U+0000 in JSON and fails when it is to read it."""
    assert keepable({"a\0": ["b\0c"], "n": math.inf}) == {"a\ufffd": ["b\ufffdc"], "n": None}


def test_what_is_too_large_is_not_kept() -> None:
    assert keepable({"a": "x" * LARGEST}) is None
