"""Foreground colour estimation of half-transparent pixels, after Forte, "Approximate Fast Foreground Colour
Estimation", ICIP 2021: the two-pass blur fusion that BiRefNet's official tensor code uses.

A box mean of width r covers x - r//2 + 1 … x + r//2 of an image whose border pixels are repeated.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-5
CACHED = 128 << 10  # samples


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


def _blocks(size: int, other: int, device: torch.device) -> Iterator[slice]:
    """Slices of a side of `size`, the other side being `other`: on a CPU, what stays in its cache between additions."""
    step = max(1, CACHED // other) if device.type == "cpu" else size
    for first in range(0, size, step):
        yield slice(first, min(first + step, size))


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over radius x radius windows of N C H W, borders repeated, same size."""
    left, right = radius // 2 - 1 + radius % 2, radius // 2
    padded = F.pad(x, (left, right, left, right), mode="replicate")
    rows, width = padded.shape[2], x.shape[3]
    across = x.new_empty((*x.shape[:2], rows, width))
    out = torch.empty_like(x)
    for part in _blocks(rows, padded.shape[3], x.device):
        across[:, :, part] = _box_sum(padded[:, :, part], radius, 3)
    for part in _blocks(width, rows, x.device):
        out[..., part] = _box_sum(across[..., part], radius, 2).div_(radius * radius)
    return out


def _blend_pass(
    image: Tensor, front: Tensor, back: Tensor, alpha: Tensor, radius: int
) -> tuple[Tensor, Tensor]:
    """One pass: (estimate of the foreground, mean of the background). All N C H W, 0..1. Colour by colour: the maps of
    one colour are what a CPU can hold near itself.
    """
    rest = 1 - alpha
    weight = box_mean(alpha, radius)
    front_weight, back_weight = weight + EPSILON, 1 - weight + EPSILON
    estimates, means = [], []
    for one, before, behind in zip(*(torch.split(x, 1, dim=1) for x in (image, front, back)), strict=True):
        front_mean = box_mean(before * alpha, radius).div_(front_weight)
        back_mean = box_mean(behind * rest, radius).div_(back_weight)
        residual = (one - alpha * front_mean).sub_(rest * back_mean)
        estimates.append(front_mean.add_(residual.mul_(alpha)).clamp_(0, 1))
        means.append(back_mean)
    return torch.cat(estimates, dim=1), torch.cat(means, dim=1)


def estimate_foreground(image: Tensor, alpha: Tensor, radii: tuple[int, int] = (90, 6)) -> Tensor:
    """Pure foreground colour of each pixel.

    image: N 3 H W float32, 0..1; alpha: N 1 H W float32, 0..1. Radii are pixels of the image, as published:
    they do not grow with it. Where alpha is 1 the image comes back; where a whole window is 0, near black.
    """
    front, back = _blend_pass(image, image, image, alpha, radii[0])
    return _blend_pass(image, front, back, alpha, radii[1])[0]


def estimate_where_seen(image: Tensor, alpha: Tensor, radii: tuple[int, int] = (90, 6)) -> Tensor:
    """`estimate_foreground`, with the same numbers, computed only where alpha reaches. For single images on a CPU.

    Beyond the reach of both windows from any alpha the estimate is exactly 0, and a border of zero alpha adds
    nothing to the foreground's means, so the rest can be left out.
    """
    rows = alpha.amax(dim=(0, 1, 3)).nonzero().flatten()
    cols = alpha.amax(dim=(0, 1, 2)).nonzero().flatten()
    out = torch.zeros_like(image)
    if len(rows):
        reach = radii[0] // 2 + radii[1] // 2 + 2
        top, left = max(0, int(rows[0]) - reach), max(0, int(cols[0]) - reach)
        box = (..., slice(top, int(rows[-1]) + reach + 1), slice(left, int(cols[-1]) + reach + 1))
        out[box] = estimate_foreground(image[box], alpha[box], radii)
    return out
