"""The reference page is what the code says."""

from __future__ import annotations

from docs.reference import PAGE, page
from serve_app.settings import Settings


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_the_page_has_every_kind_of_thing() -> None:
    text = page()
    assert "| POST | `/queue/fal-ai/birefnet/v2/video` |" in text
    assert "birefnet-serve remove - -o - " in text
    assert "remove_background(" in text
    assert "| `segmenter.scale.min_replicas` | integer | `0` |" in text
    for name in Settings.model_fields:
        assert f"`{name}" in text
