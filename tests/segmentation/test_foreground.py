"""Foreground estimation against the stored tensor form, and its box means against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from serve_app.segmentation.foreground import (
    TILE,
    cpu_box_mean,
    estimate_foreground,
    estimate_where_needed,
    summed_box_mean,
)
from tests.birefnet import reference

BoxMean = Callable[[torch.Tensor, int], torch.Tensor]
Example = tuple[torch.Tensor, torch.Tensor]
Golden = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def example() -> Example:
    rgb, alpha = reference.rgb_alpha(301, 96, 128)
    return (
        torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255,
        torch.from_numpy(alpha)[None, None].float() / 255,
    )


@pytest.fixture(scope="module")
def golden() -> Golden:
    return dict(np.load(reference.DATA / "golden_foreground_96x128.npz"))


@pytest.mark.parametrize(("key", "radius"), [("tensor_float", 90), ("tensor_float_r30", 30)])
def test_equals_the_golden(example: Example, golden: Golden, key: str, radius: int) -> None:
    image, alpha = example
    found = estimate_foreground(image, alpha, radii=(radius, 6))[0].permute(1, 2, 0).numpy()
    seen = example[1][0, 0].numpy() > 0
    assert np.abs(found - golden[key])[seen].max() < 1e-5


def test_eight_bits_equal_the_golden(example: Example, golden: Golden) -> None:
    found = (estimate_foreground(*example)[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy().astype(int)
    seen = example[1][0, 0].numpy() > 0
    assert np.abs(found - golden["tensor_uint8"])[seen].max() <= 1
    assert (found == golden["tensor_uint8"])[seen].mean() > 0.999


def test_float32_equals_float64(example: Example) -> None:
    image, alpha = example
    single = estimate_foreground(image, alpha)
    double = estimate_foreground(image.double(), alpha.double())
    assert (single - double).abs().max() < 1e-6


@pytest.mark.parametrize("radius", [1, 2, 6, 7, 30, 90])
@pytest.mark.parametrize("box_mean", [summed_box_mean, cpu_box_mean])
def test_box_mean_is_average_pooling_over_a_repeated_border(box_mean: BoxMean, radius: int) -> None:
    x = torch.rand(2, 3, 40, 53, dtype=torch.float64)
    left, right = radius // 2 - 1 + radius % 2, radius // 2
    padded = F.pad(x, (left, right, left, right), mode="replicate")
    pooled = F.avg_pool2d(padded, radius, stride=1)
    assert torch.allclose(box_mean(x, radius), pooled, atol=1e-12)
    assert torch.allclose(box_mean(x.float(), radius).double(), pooled, atol=1e-6)


def test_opaque_pixels_keep_their_colour(example: Example) -> None:
    image, alpha = example
    found = estimate_foreground(image, alpha)
    opaque = (alpha == 1).expand_as(image)
    assert (found - image)[opaque].abs().max() < 1e-4


def test_batch_equals_single(example: Example) -> None:
    image, alpha = (x.repeat(2, 1, 1, 1) for x in example)
    image[1] = image[1].flip(-1)
    together = estimate_foreground(image, alpha)
    assert torch.equal(together[1:], estimate_foreground(image[1:], alpha[1:]))


@pytest.mark.parametrize(
    "box", [(0, 40, 0, 30), (200, 230, 150, 300), (330, 500, 600, 900), (0, 500, 0, 900), (9, 9, 9, 9)]
)
def test_tiles_hold_the_numbers_of_the_whole_image(box: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = box
    image = torch.rand(1, 3, 500, 900, generator=torch.Generator().manual_seed(4))
    alpha = torch.zeros(1, 1, 500, 900)
    alpha[..., top:bottom, left:right] = torch.rand(1, 1, bottom - top, right - left)
    alpha[..., top : top + 60, left : left + 60] = 1.0
    found, whole = estimate_where_needed(image, alpha), estimate_foreground(image, alpha)
    seen = (alpha > 0).expand_as(image)
    assert torch.equal(found[seen], whole[seen])


def test_opaque_tiles_are_the_image_and_unseen_ones_black() -> None:
    image = torch.rand(1, 3, 2 * TILE, 2 * TILE, generator=torch.Generator().manual_seed(5))
    alpha = torch.zeros(1, 1, 2 * TILE, 2 * TILE)
    alpha[..., :TILE] = 1
    found = estimate_where_needed(image, alpha)
    assert torch.equal(found[..., :TILE], image[..., :TILE])
    assert not found[..., TILE:].any()
