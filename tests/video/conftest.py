"""Clips, each made once per session when a test first asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.video.clips import CLIPS, Clip, make

Clips = Callable[[str | Clip], Path]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """`clip(name)` or `clip(Clip(...))`: the path of a clip."""
    folder = tmp_path_factory.mktemp("clips")

    def path_of(wanted: str | Clip) -> Path:
        wanted = CLIPS[wanted] if isinstance(wanted, str) else wanted
        path = folder / wanted.name
        return path if path.exists() else make(path, wanted)

    return path_of


@pytest.fixture(scope="session")
def bunny() -> Path:
    """Big Buck Bunny: 1280x720, 132 frames, 25 fps, AAC 5.1 (see `tests/data/clips/README.md`)."""
    return Path(__file__).parents[1] / "data" / "clips" / "bigbuckbunny.mp4"
