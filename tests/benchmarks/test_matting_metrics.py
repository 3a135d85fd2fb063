"""The measures of `benchmarks.quality`, on mattes whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.known_alpha import CLIPS, FRAMES, HEIGHT, WIDTH, frames
from benchmarks.matting_metrics import MEASURES, connectivity, dtssd, e_measure, gradient, mad, mse, s_measure

LIKENESS = ("s_measure", "e_measure")


def disc(x: float, radius: float = 20) -> np.ndarray:
    """A soft disc, H x W."""
    rows, columns = np.mgrid[0:96, 0:128]
    return np.asarray(np.clip(radius + 0.5 - np.hypot(columns - x, rows - 48), 0, 1))


@pytest.mark.parametrize("name", MEASURES)
def test_the_truth_itself_is_perfect_and_its_opposite_is_not(name: str) -> None:
    truth = np.stack([disc(40), disc(44)])
    perfect, opposite = (MEASURES[name](found, truth) for found in (truth, 1 - truth))
    if name in LIKENESS:
        assert perfect == pytest.approx(1, abs=0.02)
        assert opposite < 0.5
    else:
        assert perfect == pytest.approx(0, abs=1e-6)
        # What is wrong in every frame alike does not flicker, but its changes have the wrong sign.
        assert opposite > 0


def test_a_constant_error_has_the_size_that_it_has() -> None:
    truth = np.stack([disc(40) * 0.5] * 3)
    assert mad(truth + 0.1, truth) == pytest.approx(100)
    assert mse(truth + 0.1, truth) == pytest.approx(10)
    assert gradient(truth + 0.1, truth) == pytest.approx(0, abs=1e-6)
    assert dtssd(truth + 0.1, truth) == pytest.approx(0, abs=1e-6)


def test_flicker_counts_and_following_the_motion_does_not() -> None:
    truth = np.stack([disc(30 + 3 * i) for i in range(6)])
    late = np.stack([disc(30 + 3 * max(0, i - 1)) for i in range(6)])
    flickering = truth * np.array((1, 0.8) * 3)[:, None, None]
    assert dtssd(truth, truth) == 0
    assert dtssd(late, truth) > 1
    assert dtssd(flickering, truth) > 1


def test_an_island_costs_connectivity_and_likeness() -> None:
    truth = disc(40)[None]
    with_island = np.maximum(truth, disc(100, radius=8))
    assert connectivity(with_island, truth) > 0.1
    assert s_measure(with_island, truth) < s_measure(truth, truth)
    assert e_measure(with_island, truth) < e_measure(truth, truth)


def test_the_clips_are_the_same_in_every_run_and_have_soft_outlines() -> None:
    clip = CLIPS[-1]
    once, again = (list(frames(clip)) for _ in range(2))
    assert len(once) == FRAMES
    for (image, alpha), (other, repeated) in zip(once, again, strict=True):
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert np.array_equal(image, other)
        assert np.array_equal(alpha, repeated)
        assert 0.03 < (alpha == 255).mean() < 0.3
        assert ((alpha > 0) & (alpha < 255)).any()
