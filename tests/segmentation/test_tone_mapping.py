"""Tone mapping against the formulas of the standards in float64, colour by colour."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from serve_app.picture import PixelLayout
from serve_app.segmentation.tone_mapping import hlg_to_nits, nits_to_pq, pq_to_nits, to_sdr
from tests.video import colour_reference as reference

SIGNALS = [
    *product((0.0, 0.05, 0.3, 0.5, 0.58, 0.75, 1.0), repeat=3),
    *np.random.default_rng(2).random((40, 3)).tolist(),
]
PIXELS = torch.tensor(SIGNALS, dtype=torch.float32).T.reshape(1, 3, 1, -1)
WIDE = PixelLayout(len(SIGNALS), 1, "444", 10, "bt2020", primaries=9)


@pytest.mark.parametrize("peak", [100.0, 203.0, 400.0, 1000.0, 4000.0, 10000.0])
@pytest.mark.parametrize("primaries", [9, 12])
def test_pq(primaries: int, peak: float) -> None:
    layout = PixelLayout(len(SIGNALS), 1, "444", 10, "bt2020", primaries=primaries, transfer=16)
    wanted = [reference.sdr(np.array(signal), primaries, 16, max(peak, 203)) for signal in SIGNALS]
    found = to_sdr(PIXELS, layout, peak)[0, :, 0].T.numpy()
    assert np.abs(found - wanted).max() < 0.25 / 255


def test_hlg_has_a_peak_of_its_own() -> None:
    layout = PixelLayout(len(SIGNALS), 1, "444", 10, "bt2020", primaries=9, transfer=18)
    wanted = [reference.sdr(np.array(signal), 9, 18, 1000) for signal in SIGNALS]
    for peak in (400.0, 1000.0):
        found = to_sdr(PIXELS, layout, peak)[0, :, 0].T.numpy()
        assert np.abs(found - wanted).max() < 0.25 / 255


def test_wide_gamut_without_hdr() -> None:
    wanted = [reference.sdr(np.array(signal), 9, 14, 0) for signal in SIGNALS]
    layout = PixelLayout(len(SIGNALS), 1, "444", 10, "bt2020", primaries=9, transfer=14)
    assert np.abs(to_sdr(PIXELS, layout, 0.0)[0, :, 0].T.numpy() - wanted).max() < 0.25 / 255


def test_bt709_is_left_alone() -> None:
    assert to_sdr(PIXELS, PixelLayout(len(SIGNALS), 1, primaries=1, transfer=1), 1000.0) is PIXELS


def test_known_points() -> None:
    """Of BT.2100 and BT.2408: 10000 cd/m² at 1, 100 at 0.508; reference white, 203, at 0.58 in PQ and 0.75 in HLG."""
    assert pq_to_nits(torch.tensor([0.0, 0.508, 0.5806, 1.0])).tolist() == pytest.approx(
        [0, 100, 203, 10000], rel=0.004
    )
    assert nits_to_pq(torch.tensor([203.0])).item() == pytest.approx(0.5806, abs=0.0002)
    grey = hlg_to_nits(torch.tensor([0.75, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    assert grey[:, 0, 0, 0].tolist() == pytest.approx([203, 1000], rel=0.003)


def test_brightness_rises_and_hues_stay() -> None:
    """Grey stays grey and grows brighter with the signal; white is reached at the source's peak."""
    ramp = torch.linspace(0, 0.7518, 400).view(1, 1, 1, -1).expand(1, 3, 1, -1)  # up to 1000 cd/m²
    out = to_sdr(ramp, PixelLayout(400, 1, primaries=9, transfer=16), 1000.0)[0, :, 0]
    assert (out.amax(0) - out.amin(0)).max() < 0.001
    assert (out[0].diff() >= -1e-6).all()
    assert out[0, -1] == pytest.approx(1, abs=0.002) and out[0, -40] < 0.995
