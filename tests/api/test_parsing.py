"""What of a request body the job table stores."""

from __future__ import annotations

import math

from serve_app.parsing import MAX_STORED_BYTES, MAX_URI_CHARS, storable


def test_small_values_are_stored_unchanged() -> None:
    value = {"video_url": "https://host/v.mp4", "n": [1, 2.5, None, True, {"a": "ü"}]}
    assert storable(value) == value


def test_a_long_data_uri_is_shortened() -> None:
    uri = "data:video/mp4;base64," + "A" * MAX_URI_CHARS
    assert storable({"video_url": uri}) == {"video_url": f"{uri[:64]}…({len(uri)} bytes)"}


def test_values_that_a_database_cannot_store_are_replaced() -> None:
    """Postgres accepts U+0000 in JSON, but fails to read it back."""
    assert storable({"a\0": ["b\0c"], "n": math.inf}) == {"a\ufffd": ["b\ufffdc"], "n": None}


def test_a_value_that_is_too_large_is_not_stored() -> None:
    assert storable({"a": "x" * MAX_STORED_BYTES}) is None
