"""Which way up, which part, which shape: what the index says of it, and what a job's log does."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.errors import UnsupportedVideo
from serve_app.fal import OutputType
from serve_app.picture import Geometry, HdrMetadata, PixelLayout
from serve_app.protocols import IndexBrief
from serve_app.runner.log_lines import treatment
from serve_app.runner.plan import plan_chunks
from serve_app.video.decode import ChunkDecoder, linear
from serve_app.video.formats import cutout_layout, output_aspect
from serve_app.video.probe import probe
from tests.video.clips import X264, Clip, number_of
from tests.video.conftest import Clips
from tests.video.corpus_colour import CASES, TURNS, make_case, transformed
from tests.video.pipeline import limits, never
from tests.video.test_interlaced import assert_chunked_equals_linear, made

UPRIGHT = {
    "turned90": (False, 90),
    "turned180": (False, 180),
    "turned270": (False, 270),
    "mirrored": (True, 0),
    "upside-down": (True, 180),
    "transposed": (True, 270),
    "transversed": (True, 90),
}


@pytest.mark.parametrize("name", TURNS)
def test_display_matrices(tmp_path: Path, name: str) -> None:
    """A horizontal flip used to be turned by 180 degrees, a vertical one to be ignored."""
    geometry = probe(make_case(tmp_path / "clip.mp4", CASES[f"{name}.mp4"])).geometry
    assert (geometry.mirrored, geometry.rotation) == UPRIGHT[name]
    grid = np.arange(6).reshape(2, 3)
    mirrored = grid[:, ::-1] if geometry.mirrored else grid
    assert np.array_equal(np.rot90(mirrored, -geometry.rotation // 90), transformed(grid, TURNS[name]))


@pytest.mark.parametrize("name", ["cropped.mp4", "cropped.mkv"])
def test_cropping(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    index = probe(make_case(tmp_path / name, case))
    assert index.geometry.crop == case.crop
    left, right, top, bottom = case.crop or ()
    assert (index.layout.width, index.layout.height) == (96 - left - right, 72 - top - bottom)


@pytest.mark.parametrize("name", ["mirrored.mp4", "cropped.mkv", "transposed.mp4"])
def test_chunked_equals_linear(tmp_path: Path, name: str) -> None:
    path = make_case(tmp_path / name, CASES[name])
    assert_chunked_equals_linear(path, probe(path))


@pytest.mark.parametrize("name", ["raw.h264", "clip.ts"])
def test_a_change_of_size_is_an_error_with_its_time(clip: Clips, tmp_path: Path, name: str) -> None:
    """It used to be stretched in silence."""
    small = clip(Clip(f"small-{name}", options=X264, frames=50))
    large = clip(Clip(f"large-{name}", options=X264, width=128, height=96, pts=range(50, 70)))
    path = tmp_path / name
    path.write_bytes(small.read_bytes() + large.read_bytes())
    index = probe(path)
    decoder = ChunkDecoder(path, IndexBrief.of(index))
    chunks = plan_chunks(index, limits(10))
    assert [number_of(luma) for luma in decoder.decode(chunks[1], never).planes[0]] == list(range(10, 20))
    with pytest.raises(UnsupportedVideo, match=r"changes its size at [23]\.\d\d s, from 96x64 to 128x96"):
        decoder.decode(chunks[-1], never)
    decoder.close()
    with pytest.raises(UnsupportedVideo, match="changes its size"):
        list(linear(path, IndexBrief.of(index)))


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(4, 3), (128, 72)), (Fraction(8, 9), (96, 81)), (Fraction(1), (96, 72))]
)
def test_samples_become_square_where_the_container_cannot_say(
    aspect: Fraction, size: tuple[int, int]
) -> None:
    layout = PixelLayout(96, 72)
    for kind in OutputType:
        square = kind in (OutputType.WEBM, OutputType.GIF)
        scaled = cutout_layout(layout, kind, aspect)
        assert (scaled.width, scaled.height) == (size if square else (96, 72))
        assert output_aspect(kind, aspect) == (1 if square else aspect)


def test_the_log_says_what_is_done(tmp_path: Path, clip: Clips) -> None:
    def lines(path: Path, kind: OutputType, **changes: Any) -> list[str]:
        index = replace(probe(path), **changes)
        return treatment(index, cutout_layout(index.layout, kind, index.sample_aspect), kind)

    odd = clip("odd.mp4")
    assert lines(odd, OutputType.MP4) == [
        "padded to 96x64 by repeating the last column or row: H.264 requires even sizes"
    ]
    assert lines(odd, OutputType.WEBM) == lines(clip("closed.mp4"), OutputType.MP4) == []
    turned = make_case(tmp_path / "turned.mp4", CASES["cropped-turned.mp4"])
    assert lines(turned, OutputType.MOV) == [
        "cropped as the container specifies: left 8, right 4, top 6, bottom 2",
        "made upright: mirrored, rotated clockwise by 270 degrees",
    ]
    assert lines(made(tmp_path, "tff.mp4"), OutputType.MP4) == ["interlaced: each frame deinterlaced (bwdif)"]
    aspect = clip("aspect.mp4")
    assert lines(aspect, OutputType.GIF, geometry=Geometry()) == ["pixels of aspect 3:4 made square: 64x128"]
    hdr, metadata = clip("hdr.mp4"), HdrMetadata(light=(600, 100))
    assert lines(hdr, OutputType.MOV) == ["HDR: PQ kept in 10 bits"]
    assert lines(hdr, OutputType.MP4, hdr=metadata) == ["HDR: PQ mapped to BT.709 (BT.2390, peak 600 cd/m²)"]
