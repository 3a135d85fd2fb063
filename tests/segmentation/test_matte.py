"""The ends of a matte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from serve_app.fal import OutputType, Variant
from serve_app.segmentation.matte import ENDS, snap_ends
from serve_app.segmentation.processing import CutoutEngine, make_engine
from serve_app.settings import SegmenterSettings
from serve_app.video.formats import cutout_layout
from tests.segmentation.frame_path import BASE, frames_of, options_for


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> CutoutEngine:
    return make_engine(Variant.LIGHT, SegmenterSettings(cache=tmp_path_factory.mktemp("engines")))


def test_levels() -> None:
    """Both ends are reached, nothing jumps by more than the stretch needs, and the order stays."""
    levels = snap_ends(torch.arange(256, dtype=torch.uint8)).int()
    low, high = ENDS
    assert levels.dtype == torch.int32 and snap_ends(torch.zeros(1, dtype=torch.uint8)).dtype == torch.uint8
    assert (levels[: low + 1] == 0).all() and levels[low + 1] > 0
    assert (levels[high:] == 255).all() and levels[high - 1] < 255
    assert set(levels[low:high].diff().tolist()) <= {1, 2}
    assert (levels - torch.arange(256)).abs().max() <= 5


def test_the_inside_of_a_subject_is_opaque_and_the_sources_own(engine: CutoutEngine) -> None:
    """By the reference's arithmetic next to nothing is: 254 is its most certain level."""
    frames = frames_of(BASE)
    snapped, plain = (
        engine.cut_out(frames, options_for(BASE, snap_matte=snap), lambda: False) for snap in (True, False)
    )
    sure = plain.matte >= 250
    assert sure.mean() > 0.1 and (plain.matte == 255).mean() < 0.1 * sure.mean()
    assert (snapped.matte[sure] == 255).all()
    assert (snapped.matte[plain.matte <= 5] == 0).all()
    for cutout in (snapped, plain):
        opaque = cutout.matte == 255
        assert np.array_equal(cutout.colour.planes[0][opaque], frames.planes[0][opaque])


def test_off_is_the_references_arithmetic(engine: CutoutEngine) -> None:
    """Snapping is all that lies between."""
    frames = frames_of(BASE)
    plain = engine.cut_out(frames, options_for(BASE, snap_matte=False), lambda: False)
    snapped = engine.cut_out(frames, options_for(BASE), lambda: False)
    assert np.array_equal(snap_ends(torch.from_numpy(plain.matte)).numpy(), snapped.matte)


def test_samples_that_are_not_square_are_scaled(engine: CutoutEngine) -> None:
    layout = replace(cutout_layout(BASE, OutputType.WEBM), width=130)
    cutout = engine.cut_out(frames_of(BASE), replace(options_for(BASE), layout=layout), lambda: False)
    assert cutout.matte.shape == (3, 63, 130)
    assert [plane.shape[1:] for plane in cutout.colour.planes] == [(63, 130), (32, 65), (32, 65)]
    whole = engine.cut_out(frames_of(BASE), options_for(BASE), lambda: False)
    columns = np.arange(130) * 97 // 130
    assert np.abs(cutout.matte.astype(int) - whole.matte[:, :, columns]).mean() < 6
