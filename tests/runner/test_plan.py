"""The plan covers a source exactly once, within the limits, and always in the same way."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.fal import OutputType, Quality, Variant
from serve_app.jobs.request import JobRequest
from serve_app.picture import Geometry, PixelLayout
from serve_app.protocols import Index
from serve_app.runner.plan import cut_runs, plan_chunks, recipe
from serve_app.settings import ChunkSettings, PictureSettings, SegmenterSettings, Settings


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


@given(st.integers(1, 2000), st.integers(1, 60), st.integers(0, 8_000_000))
def test_covers_everything_once(frames: int, most: int, size: int) -> None:
    index, limits = index_of(frames), limits_of(size, most, 8)
    chunks = plan_chunks(index, limits)
    assert chunks == plan_chunks(index, limits)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert chunks[0].start is None and chunks[-1].stop is None
    assert all(left.stop == right.start for left, right in pairwise(chunks))
    counts = [chunk.frames for chunk in chunks]
    assert sum(counts) == frames and max(counts) - min(counts) <= 1
    assert max(counts) <= max(8, min(most, size // 40_000))
    for chunk in chunks[1:]:
        assert chunk.start is not None
        inside = index.pts >= chunk.start
        if chunk.stop is not None:
            inside &= index.pts < chunk.stop
        assert np.count_nonzero(inside) == chunk.frames


def test_limits() -> None:
    index = index_of(
        100
    )  # 15,000 bytes a frame, as much again for the colour of the cutout, 10,000 for the matte
    assert len(plan_chunks(index, limits_of(10**9, 48, 8))) == 3
    assert len(plan_chunks(index, limits_of(400_000, 48, 8))) == 10
    assert len(plan_chunks(index, limits_of(160_000, 48, 8))) == 13  # the least number of frames wins
    wide = PixelLayout(100, 100, "444", depth=10, alpha=True)  # 80,000 bytes a frame
    assert len(plan_chunks(index, limits_of(1_050_000, 48, 8), wide)) == 10
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


@given(st.integers(1, 2000), st.integers(1, 300), st.booleans(), st.integers(1, 8))
def test_runs_cover_all_chunks_in_order(frames: int, every: int, sequential: bool, decoders: int) -> None:
    index = index_of(frames, every, sequential)
    chunks = plan_chunks(index, ChunkSettings())
    runs = cut_runs(index, chunks, decoders)
    assert [chunk for run in runs for chunk in run] == chunks
    assert all(runs) and len(runs) <= (1 if sequential else decoders)
    for first, *rest in runs:
        assert all(left.stop == right.start for left, right in pairwise([first, *rest]))


@pytest.mark.parametrize(
    ("frames", "every", "runs"), [(1000, 250, 2), (3000, 250, 3), (1000, 24, 3), (1000, 1000, 1)]
)
def test_more_decoders_only_where_starting_them_is_cheap(frames: int, every: int, runs: int) -> None:
    index = index_of(frames, every)
    chunks = plan_chunks(index, ChunkSettings())
    assert len(cut_runs(index, chunks, decoders=3)) == runs


def test_no_chunks_no_runs() -> None:
    assert cut_runs(index_of(10), [], decoders=3) == []


REQUEST = JobRequest("https://example.org/clip.mp4")


@pytest.mark.parametrize(
    "other",
    [
        {"segmenter": SegmenterSettings(checkpoint="another/network")},
        {"segmenter": SegmenterSettings(dtype="float32")},
        {"segmenters": {Variant.LIGHT: SegmenterSettings(revision="2")}},
        {"picture": PictureSettings(snap_matte=False)},
    ],
)
def test_settings_that_change_a_piece_change_its_recipe(other: dict[str, Any]) -> None:
    before, after = (recipe(REQUEST, index_of(50), Settings(**fields)) for fields in ({}, other))
    assert before != after


@pytest.mark.parametrize(
    "other", [{"quality": Quality.LOW}, {"output_type": OutputType.WEBM}, {"refine_foreground": False}]
)
def test_requests_that_differ_have_other_recipes(other: dict[str, Any]) -> None:
    assert recipe(REQUEST, index_of(50), Settings()) != recipe(
        replace(REQUEST, **other), index_of(50), Settings()
    )


def test_a_recipe_does_not_depend_on_where_the_service_is(tmp_path: Path) -> None:
    elsewhere = Settings(data_dir=tmp_path, database="postgresql://db/jobs")
    assert recipe(REQUEST, index_of(50), Settings()) == recipe(REQUEST, index_of(50), elsewhere)
