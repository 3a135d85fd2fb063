"""The engine on the embedded checkpoint: what a cutout promises, whatever the source's format."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serve_app.errors import JobCancelled
from serve_app.fal import OutputType, Variant
from serve_app.picture import PixelLayout
from serve_app.segmentation.processing import CutoutEngine, make_engine
from serve_app.settings import SegmenterSettings
from tests.segmentation.frame_path import BASE, BOUNDS, Distance, cut_out, engine_on, frames_of, options_for


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> CutoutEngine:
    return make_engine(Variant.LIGHT, SegmenterSettings(cache=tmp_path_factory.mktemp("engines")))


@pytest.fixture(scope="module")
def in_torch() -> CutoutEngine:
    return engine_on("cpu")


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
    wanted = options_for(layout, refine_foreground=refine)
    cutout = engine.cut_out(frames_of(layout), wanted, lambda: False)
    assert [p.shape for p in cutout.colour.planes] == [(3, *size) for size in wanted.layout.plane_sizes]
    assert {p.dtype for p in (*cutout.colour.planes, cutout.matte)} == {np.dtype(np.uint8)}
    assert cutout.matte.shape == (3, 63, 97)
    assert cutout.colour.pts.tolist() == [0, 40, 80]


def test_opaque_pixels_are_the_sources_own(engine: CutoutEngine) -> None:
    frames = frames_of(BASE)
    cutout = engine.cut_out(frames, options_for(BASE), lambda: False)
    opaque = cutout.matte == 255
    assert opaque.any()
    assert np.array_equal(cutout.colour.planes[0][opaque], frames.planes[0][opaque])


def test_straight_and_unrefined_is_the_source(engine: CutoutEngine) -> None:
    frames = frames_of(BASE)
    cutout = engine.cut_out(frames, options_for(BASE, refine_foreground=False), lambda: False)
    assert all(np.array_equal(a, b) for a, b in zip(cutout.colour.planes, frames.planes, strict=True))


def test_over_black_the_background_is_black(engine: CutoutEngine) -> None:
    cutout = engine.cut_out(frames_of(BASE), options_for(BASE, over_black=True), lambda: False)
    assert (cutout.colour.planes[0][cutout.matte == 0] == 16).all()


def test_what_the_source_hides_stays_hidden(engine: CutoutEngine) -> None:
    layout = replace(BASE, alpha=True)
    frames = frames_of(layout)
    hidden = replace(frames, planes=(*frames.planes[:3], np.zeros_like(frames.planes[3])))
    assert not engine.cut_out(hidden, options_for(layout), lambda: False).matte.any()


def test_frames_do_not_depend_on_their_neighbours(engine: CutoutEngine) -> None:
    frames = frames_of(BASE, 4)
    together = engine.cut_out(frames, options_for(BASE), lambda: False)
    one = replace(frames, planes=tuple(p[2:3] for p in frames.planes), pts=frames.pts[2:3])
    alone = engine.cut_out(one, options_for(BASE), lambda: False)
    assert np.array_equal(together.matte[2:3], alone.matte)
    assert all(
        np.array_equal(a[2:3], b) for a, b in zip(together.colour.planes, alone.colour.planes, strict=True)
    )


def test_no_frames_give_no_frames(engine: CutoutEngine) -> None:
    cutout = engine.cut_out(frames_of(BASE, 0), options_for(BASE), lambda: False)
    assert len(cutout.colour) == 0
    assert cutout.matte.shape == (0, 63, 97)


def test_the_embedded_checkpoint_clamps_and_says_so(engine: CutoutEngine) -> None:
    cutout = engine.cut_out(frames_of(BASE, 1), options_for(BASE, operating_size=2048), lambda: False)
    assert cutout.provenance.size == (256, 256)
    assert cutout.provenance.checkpoint == "embedded birefnet-mini"
    assert cutout.provenance.engine == "openvino float32"


def test_cancel_is_heard_between_frames(engine: CutoutEngine) -> None:
    with pytest.raises(JobCancelled):
        engine.cut_out(frames_of(BASE), options_for(BASE), lambda: True)


@pytest.fixture(scope="module")
def batched() -> CutoutEngine:
    """An engine on the CPU that goes the way of a GPU: frames in batches, foreground everywhere."""
    made = engine_on("cpu")
    made._on_cpu = False
    return made


@pytest.mark.parametrize(
    ("output_type", "frames"),
    [(OutputType.MP4, 18), (OutputType.WEBM, 3), (OutputType.MOV, 3), (OutputType.GIF, 3)],
)
def test_batches_give_what_single_frames_give(
    in_torch: CutoutEngine, batched: CutoutEngine, output_type: OutputType, frames: int
) -> None:
    """16 frames are a batch at this size."""
    layout = replace(BASE, subsampling="422", depth=10, alpha=True)
    found, expected = (cut_out(one, layout, output_type, frames) for one in (batched, in_torch))
    distance = Distance.between(found, expected)
    assert distance.within(BOUNDS["float32"]), distance


def test_half_precision_is_within_its_bounds(in_torch: CutoutEngine) -> None:
    """On a CPU, with the same steps as on a GPU."""
    found = cut_out(engine_on("cpu", "bfloat16"), BASE, OutputType.MP4)
    distance = Distance.between(found, cut_out(in_torch, BASE, OutputType.MP4))
    assert distance.within(BOUNDS["bfloat16"]), distance
    assert not distance.within(BOUNDS["float32"]), distance


def test_the_distance_tells_cutouts_apart(in_torch: CutoutEngine) -> None:
    expected = cut_out(in_torch, BASE, OutputType.WEBM)
    y, blue, red = expected.colour.planes
    swapped = replace(expected, colour=replace(expected.colour, planes=(y, red, blue)))
    next_frame = replace(expected, matte=np.roll(expected.matte, 1, axis=0))
    for wrong in (swapped, next_frame, replace(expected, matte=255 - expected.matte)):
        assert not Distance.between(wrong, expected).within(BOUNDS["float16"])
