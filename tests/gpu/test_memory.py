"""The peak of a replica's memory on CUDA, held against what the profile states of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from serve_app.fal import Variant
from serve_app.local.profile import Profile
from tests.segmentation.memory import PROFILE, Statement, peak_of_cuda, save_checkpoint, statements

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    directory = tmp_path_factory.mktemp("checkpoints")
    return cache(lambda network: save_checkpoint(directory / network, network))


@pytest.mark.parametrize("stated", statements(), ids=lambda one: f"{one.network} {one.size}")
def test_the_peak_is_within_the_statement(
    device: str, checkpoint: Callable[[str], Path], stated: Statement
) -> None:
    segmenter = Profile.load(PROFILE).settings.segmenter_for(Variant.DYNAMIC)
    peak = peak_of_cuda(checkpoint(stated.network), segmenter.dtype, stated.size, segmenter.batch)
    assert peak <= stated.peak
