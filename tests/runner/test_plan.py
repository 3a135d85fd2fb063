"""The plan covers a source exactly once, within the limits, and always in the same way."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.picture import Geometry, PixelLayout
from serve_app.protocols import Index
from serve_app.runner.plan import plan_chunks
from serve_app.settings import ChunkSettings


def limits_of(max_bytes: int, max_frames: int, min_frames: int) -> ChunkSettings:
    """Limits that a profile may not ask for as well: the plan holds for any."""
    return ChunkSettings.model_construct(max_bytes=max_bytes, max_frames=max_frames, min_frames=min_frames)


def index_of(frames: int, every: int = 12, sequential: bool = False) -> Index:
    pts = np.arange(frames, dtype=np.int64) * 512 + 100
    return Index(
        layout=PixelLayout(100, 100),
        geometry=Geometry(),
        sample_aspect=Fraction(1),
        time_base=Fraction(1, 12800),
        pts=pts,
        keyframes=pts[::every],
        frame_duration=512,
        last_duration=512,
        average_rate=Fraction(25),
        origin=100,
        sequential=sequential,
        audio=None,
        codec="h264",
    )


@given(st.integers(1, 2000), st.integers(1, 60), st.integers(0, 3_000_000))
def test_covers_everything_once(frames: int, most: int, size: int) -> None:
    index, limits = index_of(frames), limits_of(size, most, 8)
    chunks = plan_chunks(index, limits)
    assert chunks == plan_chunks(index, limits)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert chunks[0].start is None and chunks[-1].stop is None
    assert all(left.stop == right.start for left, right in pairwise(chunks))
    counts = [chunk.frames for chunk in chunks]
    assert sum(counts) == frames and max(counts) - min(counts) <= 1
    assert max(counts) <= max(8, min(most, size // index.layout.frame_bytes))
    for chunk in chunks[1:]:
        assert chunk.start is not None
        inside = index.pts >= chunk.start
        if chunk.stop is not None:
            inside &= index.pts < chunk.stop
        assert np.count_nonzero(inside) == chunk.frames


def test_limits() -> None:
    index = index_of(100)  # 15,000 bytes a frame
    assert len(plan_chunks(index, limits_of(10**9, 48, 8))) == 3
    assert len(plan_chunks(index, limits_of(150_000, 48, 8))) == 10
    assert len(plan_chunks(index, limits_of(60_000, 48, 8))) == 13  # the least number of frames wins
    assert len(plan_chunks(index_of(3), ChunkSettings())) == 1


def test_seeks_begin_one_keyframe_early() -> None:
    index = index_of(480)  # keyframes at frames 0, 12, 24, ...
    chunk = plan_chunks(index, limits_of(10**9, 20, 1))[20]
    assert chunk.start == index.pts[400]  # keyframe 33 (frame 396) is the one before
    assert chunk.seek == tuple(int(index.keyframes[33 - back]) for back in (1, 2, 4, 8, 16, 32))


@pytest.mark.parametrize("sequential", [False, True])
def test_no_seek_where_none_is_possible(sequential: bool) -> None:
    chunks = plan_chunks(index_of(100, every=60, sequential=sequential), limits_of(10**9, 50, 1))
    assert [chunk.seek for chunk in chunks] == [(), ()]


def test_huge_frames_come_in_small_chunks() -> None:
    """Few frames would take gigabytes: the limit in bytes may be exceeded, but not without end."""
    index = replace(
        index_of(64), layout=PixelLayout(8192, 4320, "444", matrix="rgb", full_range=True, alpha=True)
    )
    chunks = plan_chunks(index, ChunkSettings())
    assert {chunk.frames for chunk in chunks} <= {2, 3}
    wide = replace(index_of(64), layout=PixelLayout(7680, 4320))
    assert {chunk.frames for chunk in plan_chunks(wide, ChunkSettings())} == {8}
