"""Palettes: exact where they can be, near where they cannot, and the same however the counting was split."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.video.gif.paint import Painter
from serve_app.video.gif.palette import BINS, Histogram, bins_of, make_palette, middles, nearest

PLAIN = {"dither": "0", "slack": "0"}


def counted(pixels: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(*np.ascontiguousarray(pixels.reshape(-1, 3).T))
    return histogram


def picture(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    """A smooth picture with noise, [H, W, 3] uint8."""
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 4, y * 5, (x + y) * 2], -1) % 256
    return np.clip(smooth + np.random.default_rng(seed).normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def painted(image: np.ndarray, palette: np.ndarray, dials: dict[str, str]) -> np.ndarray:
    painter = Painter(palette, counted(image), dials)
    return painter.paint(tuple(np.ascontiguousarray(image[..., k]) for k in range(3)), (0, 0))


def error(image: np.ndarray, palette: np.ndarray, dials: dict[str, str]) -> float:
    return float(np.mean((palette[painted(image, palette, dials)].astype(int) - image) ** 2.0))


@settings(max_examples=25)
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=60))
def test_few_colours_are_kept(colours: list[tuple[int, int, int]]) -> None:
    """As long as no two fall into one bin."""
    pixels = np.array(colours, np.uint8)
    bins = bins_of(*pixels.T)
    alone = pixels[np.sort(np.unique(bins, return_index=True)[1])]
    palette = make_palette(counted(np.repeat(alone, 3, axis=0)), 64)
    assert {tuple(colour) for colour in palette.tolist()} == {tuple(colour) for colour in alone.tolist()}
    assert np.array_equal(palette[painted(alone[None], palette, PLAIN)[0]], alone)


@pytest.mark.parametrize("cuts", [2, 7])
def test_counting_may_be_split(cuts: int) -> None:
    image = picture(1)
    total = Histogram()
    for part in np.array_split(image, cuts):
        total.add_packed(counted(part).packed())
    whole = counted(image)
    assert np.array_equal(total.counts, whole.counts)
    assert np.array_equal(make_palette(total, 63), make_palette(whole, 63))
    assert int(whole.counts[0].sum()) == image.size // 3


def test_more_colours_are_nearer() -> None:
    image = picture(2)
    errors = [error(image, make_palette(counted(image), size), PLAIN) for size in (2, 15, 63, 127, 255)]
    assert all(more < 0.8 * fewer for fewer, more in pairwise(errors))


def test_what_is_frequent_counts_more() -> None:
    rare, frequent = np.array([[250, 0, 0], [254, 8, 0]]), np.array([[0, 0, 100], [0, 9, 140]])
    pixels = np.concatenate([rare, np.repeat(frequent, 500, axis=0)]).astype(np.uint8)
    palette = make_palette(counted(pixels), 3).tolist()
    assert [0, 0, 100] in palette and [0, 9, 140] in palette and [252, 4, 0] in palette


def test_bins_and_their_middles() -> None:
    bins = np.arange(BINS, dtype=np.int32)
    assert np.array_equal(bins_of(*middles(bins).astype(np.uint8).T), bins)


def test_nearest_is_nearest() -> None:
    rng = np.random.default_rng(3)
    points, palette = rng.integers(0, 256, (9000, 3)), rng.integers(0, 256, (97, 3)).astype(np.uint8)
    squares = ((points[:, None] - palette[None].astype(int)) ** 2).sum(2)
    assert np.array_equal(nearest(points, palette), squares.argmin(1))


def test_dither_keeps_the_mean() -> None:
    """A grey between two colours becomes a pattern of both, in proportion."""
    palette = np.array([[96, 96, 96], [160, 160, 160]], np.uint8)
    image = np.full((32, 32, 3), 120, np.uint8)
    assert len(np.unique(painted(image, palette, PLAIN))) == 1
    shown = palette[painted(image, palette, {"dither": "1.3", "slack": "0"})]
    assert abs(shown.mean() - 120) < 6


def test_slack_makes_runs_within_its_bound() -> None:
    image = picture(4)
    palette = make_palette(counted(image), 31)
    plain, eased = painted(image, palette, PLAIN), painted(image, palette, {"dither": "0", "slack": "1"})
    changes = [np.count_nonzero(np.diff(indices.astype(int))) for indices in (plain, eased)]
    assert changes[1] < 0.9 * changes[0]
    squares = [((palette[indices].astype(int) - image) ** 2).sum(2) for indices in (plain, eased)]
    assert (squares[1] - squares[0]).max() <= 3 * error(image, palette, PLAIN) * 1.2 + 1
    for width in range(1, 6):
        narrow = np.ascontiguousarray(image[:, :width])
        assert painted(narrow, palette, {"dither": "0.5", "slack": "1"}).shape == (40, width)
