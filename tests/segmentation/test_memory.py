"""The statements of `config/gpu.yaml` about memory: read here, measured in `tests/gpu`."""

from __future__ import annotations

from pathlib import Path

from serve_app.fal import Variant
from serve_app.local.profile import Profile
from tests.segmentation.memory import PROFILE, cut_out_a_batch, save_checkpoint, statements

CARD = 80e9  # bytes, of which the profile's `num_gpus` are shares


def test_the_statements_are_those_of_the_profile() -> None:
    """For every size that a network is asked for, at the batch of the profile, and within the share of the card."""
    settings = Profile.load(PROFILE).settings
    shares = {
        "large": settings.segmenter_for(Variant.DYNAMIC).num_gpus,
        "tiny": settings.segmenter_for(Variant.HEAVY).num_gpus,
    }
    stated = {(one.network, one.size): one for one in statements()}
    assert stated.keys() == {
        ("large", 1024),
        ("large", 2048),
        ("large", 2304),
        ("tiny", 1024),
        ("tiny", 2048),
    }
    batch = settings.segmenter_for(Variant.DYNAMIC).batch
    for (network, size), one in stated.items():
        assert one.frames == max(1, batch * 1024**2 // size**2)
        assert 1e9 < one.peak <= shares[network] * CARD


def test_the_work_that_is_measured_runs(tmp_path: Path) -> None:
    """On a CPU, with the tiny network at a small size."""
    checkpoint = save_checkpoint(tmp_path / "tiny", "tiny")
    cut_out_a_batch(checkpoint, "cpu", "float32", 512, 1)
