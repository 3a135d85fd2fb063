"""Mastering metadata of an HDR source: read, and written beside HDR colour alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.fal import OutputType
from serve_app.picture import HdrMetadata, PixelLayout
from serve_app.video.encode import encode_piece
from serve_app.video.formats import cutout_layout
from serve_app.video.probe import probe
from tests.video.corpus_colour import CASES, make_case
from tests.video.pipeline import convert, never
from tests.video.test_encode import SETTINGS, moving

DISPLAY = HdrMetadata((35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450), (40_000_000, 50))
PQ = PixelLayout(64, 48, depth=10, matrix="bt2020", primaries=9, transfer=16)


def test_read(tmp_path: Path) -> None:
    assert probe(make_case(tmp_path / "4000.mp4", CASES["pq-4000.mp4"])).hdr == DISPLAY
    assert DISPLAY.peak_nits == 4000
    levels = probe(make_case(tmp_path / "cll.mp4", CASES["pq-cll.mp4"])).hdr
    assert levels == replace(DISPLAY, light=(600, 200)) and levels.peak_nits == 600
    assert probe(make_case(tmp_path / "plain.mkv", CASES["pq.mkv"])).hdr is None
    assert HdrMetadata(chromaticities=DISPLAY.chromaticities).peak_nits == 1000


@pytest.mark.parametrize(
    "hdr",
    [
        DISPLAY,
        replace(DISPLAY, light=(600, 200)),
        HdrMetadata(light=(70_000, 200)),
        HdrMetadata(chromaticities=DISPLAY.chromaticities),
    ],
    ids=["display", "both", "light", "half"],
)
def test_written_into_a_piece(tmp_path: Path, hdr: HdrMetadata) -> None:
    settings = replace(SETTINGS, output_type=OutputType.MOV, hdr=hdr)
    cutout = moving(cutout_layout(PQ, OutputType.MOV), 3)
    encode_piece(cutout, settings, tmp_path / "piece.mov", never)
    found = probe(tmp_path / "piece.mov")
    wanted = replace(hdr, light=(65_535, 200)) if hdr.light == (70_000, 200) else hdr
    assert found.hdr == (wanted if hdr.luminance or hdr.light else None)  # a display is described whole
    assert found.layout.hdr and len(found.pts) == 3


def test_kept_by_joining(tmp_path: Path) -> None:
    source = make_case(tmp_path / "cll.mp4", CASES["pq-cll.mp4"])
    index, out, _ = convert(source, tmp_path, OutputType.MOV, frames=1)
    assert index.hdr is not None and probe(out).hdr == index.hdr


def test_a_mask_is_not_hdr(tmp_path: Path) -> None:
    settings = replace(SETTINGS, output_type=OutputType.MOV, mask=True, hdr=DISPLAY)
    encode_piece(moving(cutout_layout(PQ, OutputType.MOV), 2), settings, tmp_path / "mask.mov", never)
    found = probe(tmp_path / "mask.mov")
    assert found.hdr is None and not found.layout.hdr
