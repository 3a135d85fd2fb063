"""VP9's alpha: what is far from the subject is not there at all, at any quality and write mode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.dials import cutout
from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.protocols import Cutout
from serve_app.video.encode import encode_piece
from serve_app.video.planes import view
from tests.video.pipeline import never
from tests.video.test_encode import SETTINGS, decoded

FAR = 40  # pixels


@pytest.fixture(scope="module")
def film() -> Cutout:
    return cutout(OutputType.WEBM, 12, 640, 360)


def distance_from(matte: np.ndarray) -> Any:
    """Lower bound of each pixel's distance from the subject, which is one blob: from the box around it."""
    rows, columns = np.flatnonzero(matte.any(1)), np.flatnonzero(matte.any(0))
    y, x = np.mgrid[0 : matte.shape[0], 0 : matte.shape[1]]
    return np.maximum.reduce([rows[0] - y, y - rows[-1], columns[0] - x, x - columns[-1]])


@pytest.mark.parametrize("mode", list(WriteMode))
@pytest.mark.parametrize("quality", list(Quality))
def test_nothing_far_from_the_subject(
    film: Cutout, tmp_path: Path, quality: Quality, mode: WriteMode
) -> None:
    settings = replace(SETTINGS, output_type=OutputType.WEBM, quality=quality, write_mode=mode)
    encode_piece(film, replace(settings, origin=0), tmp_path / "piece", never)
    worst, looked_at = 0, 0
    for frame, matte in zip(decoded(tmp_path / "piece", "libvpx-vp9"), film.matte, strict=True):
        far = view(frame.planes[3], "u1")[distance_from(matte) > FAR]
        worst, looked_at = max(worst, int(far.max())), looked_at + far.size
    assert looked_at > 100_000
    assert worst == 0
