"""Resizing as an image library does it: compared with that library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from serve_app.segmentation.processing import MEAN, STD, to_matte, to_network


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (90, 133, 3), dtype=np.uint8).repeat(3, 0).repeat(2, 1)


@pytest.mark.parametrize("size", [(64, 96), (256, 256), (320, 512)])
def test_input_is_resized_as_pillow_does(picture: np.ndarray, size: tuple[int, int]) -> None:
    rgb = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    found = to_network(rgb, size)
    expected = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)) / 255
    expected = (expected - np.array(MEAN)) / np.array(STD)
    assert np.abs(found[0].permute(1, 2, 0).numpy() - expected).max() < 1.2 / 255 / min(STD)


@pytest.mark.parametrize("size", [(90, 133), (270, 266), (40, 31)])
def test_matte_is_resized_as_pillow_does(size: tuple[int, int]) -> None:
    logits = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1)) * 4
    small = (logits.sigmoid() * 255).to(torch.uint8)[0, 0].numpy()  # 8 bits by truncation, then resized
    expected = np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))
    found = to_matte(logits, size)
    assert found.dtype == torch.uint8
    assert tuple(found.shape) == (1, 1, *size)
    assert np.abs(found[0, 0].numpy().astype(int) - expected).max() <= 1


def test_matte_of_certain_logits_is_black_and_white() -> None:
    logits = torch.tensor([[-40.0, 40.0]]).repeat(2, 1).view(1, 1, 2, 2)
    assert to_matte(logits, (2, 2)).flatten().tolist() == [0, 255, 0, 255]


def test_half_precision_logits_do_not_overflow() -> None:
    logits = torch.tensor([60000.0, -60000.0]).half().view(1, 1, 1, 2)
    assert to_matte(logits, (1, 2)).flatten().tolist() == [255, 0]
