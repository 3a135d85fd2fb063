"""Foreground colour estimation of half-transparent pixels, after Forte, "Approximate Fast Foreground Colour
Estimation", ICIP 2021: the two-pass blur fusion that BiRefNet's official tensor code uses.

A box mean of width r covers x - r//2 + 1 … x + r//2 of an image whose border pixels are repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-5
TILE = 384  # pixels; with what its windows reach, it stays in a CPU's cache


def _factors(number: int) -> list[int]:
    """Prime factors, smallest first."""
    out, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            out.append(divisor)
            number //= divisor
        divisor += 1
    return out


def _box_sum(x: Tensor, radius: int, dim: int) -> Tensor:
    """Sums of `radius` neighbours along `dim`, in blocks: a run of 90 is 2 x 3 x 3 x 5 shifted additions.

    Only additions of like terms, so float32 keeps its digits; a running sum would not.
    """
    stride = 1
    for factor in _factors(radius):
        length = x.shape[dim] - stride * (factor - 1)
        total = x.narrow(dim, 0, length) + x.narrow(dim, stride, length)
        for i in range(2, factor):
            total += x.narrow(dim, i * stride, length)
        x, stride = total, stride * factor
    return x


def _before(radius: int) -> int:
    """How many pixels of a window lie before its own."""
    return radius // 2 - 1 + radius % 2


def summed_box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over radius x radius windows of N C H W, borders repeated, same size. For any device."""
    before, after = _before(radius), radius // 2
    padded = F.pad(x, (before, after, before, after), mode="replicate")
    return _box_sum(_box_sum(padded, radius, 3), radius, 2).div_(radius * radius)


def cpu_box_mean(x: Tensor, radius: int) -> Tensor:
    """The same by OpenCV's running sums in float64: a few additions a sample, whatever the radius."""
    window, own = (radius, radius), (_before(radius), _before(radius))
    out = torch.empty_like(x)
    for image, mean in zip(x.numpy(), out.numpy(), strict=True):
        side_by_side = cv2.merge(image)  # OpenCV is twice as fast with channels side by side
        cv2.split(cv2.blur(side_by_side, window, None, own, cv2.BORDER_REPLICATE), mean)
    return out


def _weighted_mean(colour: Tensor, weight: Tensor, radius: int) -> Tensor:
    """Mean colour of each window, N C H W, its pixels weighted by N 1 H W."""
    box_mean = cpu_box_mean if colour.device.type == "cpu" else summed_box_mean
    means = box_mean(torch.cat((colour * weight, weight), dim=1), radius)
    return means[:, :-1].div_(means[:, -1:] + EPSILON)


def _blend_pass(
    image: Tensor, front: Tensor, back: Tensor, alpha: Tensor, radius: int
) -> tuple[Tensor, Tensor]:
    """One pass: (estimate of the foreground, mean of the background). All N C H W, 0..1."""
    rest = 1 - alpha
    front_mean, back_mean = _weighted_mean(front, alpha, radius), _weighted_mean(back, rest, radius)
    residual = (image - alpha * front_mean).addcmul_(
        rest, back_mean, value=-1
    )  # exactly the image's if alpha is 1
    return front_mean.addcmul_(alpha, residual).clamp_(0, 1), back_mean


def estimate_foreground(image: Tensor, alpha: Tensor, radii: tuple[int, int] = (90, 6)) -> Tensor:
    """Pure foreground colour of each pixel.

    image: N 3 H W float32, 0..1; alpha: N 1 H W float32, 0..1. Radii are pixels of the image, as published:
    they do not grow with it. Where alpha is 1 the image comes back; where a whole window is 0, near black.
    """
    front, back = _blend_pass(image, image, image, alpha, radii[0])
    return _blend_pass(image, front, back, alpha, radii[1])[0]


def _tiles(side: int) -> Iterator[slice]:
    """Equal parts of a side, of at most TILE pixels."""
    count = -(-side // TILE)
    for number in range(count):
        yield slice(side * number // count, side * (number + 1) // count)


def estimate_where_needed(image: Tensor, alpha: Tensor, radii: tuple[int, int] = (90, 6)) -> Tensor:
    """`estimate_foreground`, computed only in the tiles that alpha varies in. For single images on a CPU.

    A tile is computed with all that its windows reach, so that its numbers are those of the whole image. An opaque
    tile is the image's own; one of which nothing is seen is black.
    """
    reach = sum(radius // 2 for radius in radii)
    out = torch.zeros_like(image)
    for rows, columns in product(*(list(_tiles(side)) for side in image.shape[2:])):
        tile = (..., rows, columns)
        lowest, highest = torch.aminmax(alpha[tile])
        if lowest == 1:
            out[tile] = image[tile]
        elif highest > 0:
            top, left = max(0, rows.start - reach), max(0, columns.start - reach)
            around = (..., slice(top, rows.stop + reach), slice(left, columns.stop + reach))
            found = estimate_foreground(image[around], alpha[around], radii)
            inner = (
                slice(rows.start - top, rows.stop - top),
                slice(columns.start - left, columns.stop - left),
            )
            out[tile] = found[..., *inner]
    return out
