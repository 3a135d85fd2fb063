"""Modulated deformable convolution (Zhu et al., CVPR 2019) and the pyramid that BiRefNet builds of it.

The convolution is an operator of its own, `birefnet::deform_conv2d`: what is registered here is the reference, and an
inference engine that has the operation itself puts its own in its place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Samples of one strip of rows: on a CPU they should stay in its cache, on a card they fill it. All rows at once would
# take gigabytes for the 7x7 kernel at 2304x2304.
SAMPLE_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}


def sample_positions(offset: Tensor, kernel: int) -> Tensor:
    """Sampling grid N K H W 2 (x, y in -1..1, pixel centres) from offsets N 2K H W, (dy, dx) interleaved.

    float32 whatever the dtype of the network: half precision cannot name a pixel beyond column 256.
    """
    n, _, height, width = offset.shape
    offset = offset.float().view(n, kernel * kernel, 2, height, width)
    steps = torch.arange(kernel, device=offset.device, dtype=torch.float32) - kernel // 2
    d_row, d_col = torch.meshgrid(steps, steps, indexing="ij")
    row = torch.arange(height, device=offset.device, dtype=torch.float32)[:, None]
    col = torch.arange(width, device=offset.device, dtype=torch.float32)[None, :]
    y = offset[:, :, 0] + d_row.reshape(1, -1, 1, 1) + row
    x = offset[:, :, 1] + d_col.reshape(1, -1, 1, 1) + col
    return torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)


def deform_conv2d(x: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor) -> Tensor:
    """k x k, stride 1, same size: bilinear samples of `x` at learnt offsets, scaled, times the kernel.

    x: N C H W; offset: N 2K H W in pixels, (dy, dx) interleaved; modulation: N K H W; weight: O C k k, K = k * k.
    Outside of the map are zeros, with partial weights at its border.
    """
    n, channels, height, width = x.shape
    kernel = weight.shape[-1]
    taps = kernel * kernel
    grid = sample_positions(offset, kernel)
    matrix = weight.reshape(-1, channels * taps)
    source, modulation = (
        x.float(),
        modulation.float(),
    )  # the sampling weights stay in float32 with the positions
    row_bytes = n * channels * taps * width * 4
    step = max(1, SAMPLE_BYTES[x.device.type] // row_bytes)
    strips = []
    for first in range(0, height, step):
        rows = slice(first, min(first + step, height))
        count = rows.stop - rows.start
        samples = F.grid_sample(
            source,
            grid[:, :, rows].reshape(n, taps * count, width, 2),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        ).view(n, channels, taps, count, width)
        samples = samples.mul_(modulation[:, None, :, rows]).to(x.dtype)
        strip = matrix @ samples.view(n, channels * taps, count * width)
        strips.append(strip.view(n, -1, count, width))
    return torch.cat(strips, dim=2)


OPERATORS = torch.library.Library("birefnet", "DEF")  # type: ignore[no-untyped-call]
OPERATORS.define(  # type: ignore[no-untyped-call]
    "deform_conv2d(Tensor x, Tensor offset, Tensor modulation, Tensor weight) -> Tensor"
)
OPERATORS.impl("deform_conv2d", deform_conv2d, "CompositeImplicitAutograd")  # type: ignore[no-untyped-call]


class DeformableConv2d(nn.Module):
    """Offsets and modulation (2 * sigmoid) of the samples come from two ordinary convolutions."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        taps, padding = kernel * kernel, kernel // 2
        self.offset_conv = nn.Conv2d(in_channels, 2 * taps, kernel, padding=padding)
        self.modulator_conv = nn.Conv2d(in_channels, taps, kernel, padding=padding)
        self.regular_conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        modulation = 2 * torch.sigmoid(self.modulator_conv(x).float())
        weight, bias = self.regular_conv.weight, self.regular_conv.bias
        out: Tensor = torch.ops.birefnet.deform_conv2d(x, self.offset_conv(x), modulation, weight)
        return out if bias is None else out + bias.view(1, -1, 1, 1)


class DeformableBranch(nn.Module):
    """Deformable convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.atrous_conv = DeformableConv2d(in_channels, out_channels, kernel)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.atrous_conv(x)))


class DeformablePyramid(nn.Module):
    """Four deformable branches (1, 1, 3, 7) and a pooled one, 256 channels each, back to the input's width."""

    WIDTH = 256

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.aspp1 = DeformableBranch(channels, self.WIDTH, 1)
        self.aspp_deforms = nn.ModuleList(DeformableBranch(channels, self.WIDTH, k) for k in (1, 3, 7))
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d((1, 1)),
            nn.Conv2d(channels, self.WIDTH, 1, bias=False),
            nn.BatchNorm2d(self.WIDTH),
            nn.ReLU(),
        )
        self.conv1 = nn.Conv2d(self.WIDTH * 5, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.cat([self.aspp1(x), *(branch(x) for branch in self.aspp_deforms)], dim=1)
        # The pooled branch is constant over space: its share of the 1x1 convolution is one vector per image.
        split = self.WIDTH * 4
        mixed = F.conv2d(branches, self.conv1.weight[:, :split])
        mixed = mixed + F.conv2d(self.global_avg_pool(x), self.conv1.weight[:, split:], self.conv1.bias)
        return F.relu(self.bn1(mixed))
