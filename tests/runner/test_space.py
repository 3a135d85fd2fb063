"""Jobs that do not fit on the disk are refused before they begin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.artifacts.store import Artifacts
from serve_app.errors import StorageFull
from serve_app.fal import OutputType, Quality
from serve_app.jobs.request import JobRequest
from serve_app.picture import PixelLayout
from serve_app.runner.space import check_space, space_needed
from tests.runner.test_plan import index_of

MOV = JobRequest("", output_type=OutputType.MOV)


def test_the_figures_are_named(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    small = index_of(50)
    check_space(artifacts, MOV, small)
    huge = replace(small, layout=PixelLayout(1 << 20, 1 << 20))
    with pytest.raises(
        StorageFull, match=r"50 frames of 1048576x1048576 need about \d+\.\d+ MB in .*, but only .* are free"
    ):
        check_space(artifacts, MOV, huge)


def test_what_takes_more() -> None:
    index = index_of(50)
    assert space_needed(MOV, index) > space_needed(JobRequest(""), index) > 0
    assert space_needed(replace(MOV, output_mask=True), index) > space_needed(MOV, index)
    assert space_needed(replace(MOV, quality=Quality.LOW), index) < space_needed(MOV, index)
