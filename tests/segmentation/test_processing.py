"""The engine on the embedded checkpoint: what a cutout promises, whatever the source's format."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from serve_app.errors import JobCancelled
from serve_app.fal import OutputType, Variant
from serve_app.picture import Frames, PixelLayout, Plane
from serve_app.protocols import CutOptions
from serve_app.segmentation.processing import CutoutEngine, make_engine
from serve_app.settings import SegmenterSettings
from serve_app.video.formats import cutout_layout

BASE = PixelLayout(97, 63)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> CutoutEngine:
    return make_engine(Variant.LIGHT, SegmenterSettings(cache=tmp_path_factory.mktemp("engines")))


def frames_of(layout: PixelLayout, count: int = 3) -> Frames:
    """A bright disc before a dark gradient, in any layout."""
    scale = 1 << (layout.depth - 8)
    planes: list[Plane] = []
    for number, (height, width) in enumerate(layout.plane_sizes):
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        disc = (x**2 + y**2 < 0.4)[None].repeat(count, 0)
        values = np.where(disc, (200, 90, 150, 255)[number], (60 + 20 * x, 128, 128, 255)[number])
        values = values * scale
        planes.append(values.astype(np.uint8) if layout.depth == 8 else values.astype(np.uint16))
        planes[-1].flags.writeable = False  # as arrays arrive from the object store
    return Frames(tuple(planes), layout, np.arange(count) * 40, Fraction(1, 1000))


def options(layout: PixelLayout, **changes: Any) -> CutOptions:
    return replace(CutOptions(256, True, False, cutout_layout(layout, OutputType.WEBM)), **changes)


@pytest.mark.parametrize(
    "layout",
    [
        BASE,
        replace(BASE, subsampling="422"),
        replace(BASE, subsampling="444", full_range=True),
        replace(BASE, depth=10, matrix="bt2020"),
        replace(BASE, subsampling="444", matrix="rgb", full_range=True),
        replace(BASE, alpha=True),
    ],
    ids=["420", "422", "444 full", "10 bit", "rgb", "alpha"],
)
@pytest.mark.parametrize("refine", [True, False])
def test_any_source_gives_eight_bit_planes_and_a_matte(
    engine: CutoutEngine, layout: PixelLayout, refine: bool
) -> None:
    wanted = options(layout, refine_foreground=refine)
    cutout = engine.cut_out(frames_of(layout), wanted, lambda: False)
    assert [p.shape for p in cutout.colour.planes] == [(3, *size) for size in wanted.layout.plane_sizes]
    assert {p.dtype for p in (*cutout.colour.planes, cutout.matte)} == {np.dtype(np.uint8)}
    assert cutout.matte.shape == (3, 63, 97)
    assert cutout.colour.pts.tolist() == [0, 40, 80]


def test_opaque_pixels_are_the_sources_own(engine: CutoutEngine) -> None:
    frames = frames_of(BASE)
    cutout = engine.cut_out(frames, options(BASE), lambda: False)
    opaque = cutout.matte == 255
    assert opaque.any()
    assert np.array_equal(cutout.colour.planes[0][opaque], frames.planes[0][opaque])


def test_straight_and_unrefined_is_the_source(engine: CutoutEngine) -> None:
    frames = frames_of(BASE)
    cutout = engine.cut_out(frames, options(BASE, refine_foreground=False), lambda: False)
    assert all(np.array_equal(a, b) for a, b in zip(cutout.colour.planes, frames.planes, strict=True))


def test_over_black_the_background_is_black(engine: CutoutEngine) -> None:
    cutout = engine.cut_out(frames_of(BASE), options(BASE, over_black=True), lambda: False)
    assert (cutout.colour.planes[0][cutout.matte == 0] == 16).all()


def test_what_the_source_hides_stays_hidden(engine: CutoutEngine) -> None:
    layout = replace(BASE, alpha=True)
    frames = frames_of(layout)
    hidden = replace(frames, planes=(*frames.planes[:3], np.zeros_like(frames.planes[3])))
    assert not engine.cut_out(hidden, options(layout), lambda: False).matte.any()


def test_frames_do_not_depend_on_their_neighbours(engine: CutoutEngine) -> None:
    frames = frames_of(BASE, 4)
    together = engine.cut_out(frames, options(BASE), lambda: False)
    one = replace(frames, planes=tuple(p[2:3] for p in frames.planes), pts=frames.pts[2:3])
    alone = engine.cut_out(one, options(BASE), lambda: False)
    assert np.array_equal(together.matte[2:3], alone.matte)
    assert all(
        np.array_equal(a[2:3], b) for a, b in zip(together.colour.planes, alone.colour.planes, strict=True)
    )


def test_no_frames_give_no_frames(engine: CutoutEngine) -> None:
    cutout = engine.cut_out(frames_of(BASE, 0), options(BASE), lambda: False)
    assert len(cutout.colour) == 0
    assert cutout.matte.shape == (0, 63, 97)


def test_the_embedded_checkpoint_clamps_and_says_so(engine: CutoutEngine) -> None:
    cutout = engine.cut_out(frames_of(BASE, 1), options(BASE, operating_size=2048), lambda: False)
    assert cutout.provenance.size == (256, 256)
    assert cutout.provenance.checkpoint == "embedded birefnet-mini"
    assert cutout.provenance.engine == "openvino float32"


def test_cancel_is_heard_between_frames(engine: CutoutEngine) -> None:
    with pytest.raises(JobCancelled):
        engine.cut_out(frames_of(BASE), options(BASE), lambda: True)
