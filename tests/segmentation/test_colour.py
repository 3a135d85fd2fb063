"""Planes to RGB and back, against swscale's accurate path and against themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch

from serve_app.picture import PixelLayout
from serve_app.segmentation.colour import from_rgb, keep_source, opaque_blocks, to_rgb

SITES: list[tuple[bool, Literal["left", "center", "topleft"]]] = [
    (False, "left"),
    (True, "center"),
    (False, "topleft"),
]
BASE = PixelLayout(33, 17)
LAYOUTS = [
    replace(BASE, subsampling=subsampling, depth=depth, matrix=matrix, full_range=full, chroma_site=site)
    for subsampling in ("420", "422", "444")
    for depth in (8, 10)
    for matrix in ("bt601", "bt709", "bt2020")
    for full, site in SITES
]


def planes_of(layout: PixelLayout, values: tuple[int, int, int]) -> tuple[torch.Tensor, ...]:
    dtype = torch.uint8 if layout.depth == 8 else torch.int16
    return tuple(
        torch.full((2, *size), v, dtype=dtype) for size, v in zip(layout.plane_sizes, values, strict=False)
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_grey_levels_are_exact(layout: PixelLayout) -> None:
    scale = 1 << (layout.depth - 8)
    top = (1 << layout.depth) - 1
    black, white = (0, top) if layout.full_range else (16 * scale, 235 * scale)
    for level, luma in ((0.0, black), (1.0, white)):
        rgb = to_rgb(planes_of(layout, (luma, 128 * scale, 128 * scale)), layout)
        assert torch.allclose(rgb, torch.full_like(rgb, level), atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_flat_colours_survive_the_round_trip(layout: PixelLayout) -> None:
    rgb = torch.rand(2, 3, 1, 1, generator=torch.Generator().manual_seed(3)).expand(2, 3, 17, 33)
    made = from_rgb(rgb.contiguous(), layout)
    assert [tuple(p.shape[1:]) for p in made] == list(layout.plane_sizes)
    bound = 1.5 / 219 if layout.depth == 8 else 1.5 / 876
    assert (to_rgb(made, layout) - rgb).abs().max() < bound * 1.9


def test_primaries_of_bt709() -> None:
    """Values of BT.709 limited range, as any table of colour bars gives them (100 % red, green, blue)."""
    layout = PixelLayout(2, 2, "444")
    for rgb, expected in (
        ((1, 0, 0), (63, 102, 240)),
        ((0, 1, 0), (173, 42, 26)),
        ((0, 0, 1), (32, 240, 118)),
    ):
        colour = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 2, 2)
        assert tuple(int(p[0, 0, 0]) for p in from_rgb(colour, layout)) == expected


def test_chroma_is_sited_where_the_layout_says() -> None:
    """A step between two luma columns: co-sited chroma takes the even column, centred chroma the mean of both."""
    rgb = torch.zeros(1, 3, 4, 8)
    rgb[:, 0, :, 3:] = 1.0
    mixed = {
        site: from_rgb(rgb, PixelLayout(8, 4, "420", matrix="bt709", chroma_site=site))[2][0, 0].tolist()
        for site in ("left", "center")
    }
    assert mixed["center"][1] == round((128 + 240) / 2)
    assert mixed["left"][1] == round(128 + (240 - 128) * 0.25)


def test_odd_sizes_round_chroma_up() -> None:
    layout = PixelLayout(5, 3)
    y, cb, cr = from_rgb(torch.rand(1, 3, 3, 5), layout)
    assert (tuple(y.shape), tuple(cb.shape), tuple(cr.shape)) == ((1, 3, 5), (1, 2, 3), (1, 2, 3))
    assert tuple(to_rgb((y, cb, cr), layout).shape) == (1, 3, 3, 5)


def test_opaque_samples_are_the_sources_own() -> None:
    layout = PixelLayout(8, 4)
    generator = torch.Generator().manual_seed(1)
    source = tuple(
        torch.randint(0, 256, (1, *size), dtype=torch.uint8, generator=generator)
        for size in layout.plane_sizes
    )
    made = tuple(255 - plane for plane in source)
    opaque = torch.zeros(1, 4, 8, dtype=torch.bool)
    opaque[:, :, :5] = True
    kept = keep_source(made, layout, source, layout, opaque)
    assert torch.equal(kept[0][:, :, :5], source[0][:, :, :5])
    assert torch.equal(kept[0][:, :, 5:], made[0][:, :, 5:])
    assert torch.equal(kept[1][:, :, :2], source[1][:, :, :2])
    assert torch.equal(kept[1][:, :, 2:], made[1][:, :, 2:])  # column 2 covers luma 4 and 5


def test_another_matrix_keeps_nothing() -> None:
    layout, other = PixelLayout(4, 4), PixelLayout(4, 4, matrix="bt601")
    source = planes_of(layout, (100, 100, 100))
    made = planes_of(layout, (50, 50, 50))
    assert keep_source(made, layout, source, other, torch.ones(2, 4, 4, dtype=torch.bool)) is made


def test_ten_bit_luma_is_kept_at_eight() -> None:
    deep, flat = PixelLayout(4, 4, depth=10), PixelLayout(4, 4)
    source = planes_of(deep, (400, 512, 512))
    kept = keep_source(planes_of(flat, (1, 1, 1)), flat, source, deep, torch.ones(2, 4, 4, dtype=torch.bool))
    assert [int(p[0, 0, 0]) for p in kept] == [100, 128, 128]


def test_a_block_is_opaque_when_all_of_it_is() -> None:
    opaque = torch.ones(1, 3, 5, dtype=torch.bool)
    opaque[0, 0, 0] = False
    opaque[0, 2, 4] = False
    expected = [[False, True, True], [True, True, False]]
    assert opaque_blocks(opaque, PixelLayout(5, 3)).squeeze(0).tolist() == expected
