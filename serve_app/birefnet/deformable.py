"""Modulated deformable convolution (Zhu et al., CVPR 2019) and the pyramid that BiRefNet builds of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Samples of one step are held in memory: bound them, the 7x7 kernel would take gigabytes at 2304x2304.
MAX_SAMPLE_BYTES = 256 << 20


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


class DeformableConv2d(nn.Module):
    """k x k, stride 1: bilinear samples at learnt offsets, each scaled by 2 * sigmoid of a learnt modulation."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        taps, padding = kernel * kernel, kernel // 2
        self.offset_conv = nn.Conv2d(in_channels, 2 * taps, kernel, padding=padding)
        self.modulator_conv = nn.Conv2d(in_channels, taps, kernel, padding=padding)
        self.regular_conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        taps = self.kernel * self.kernel
        grid = sample_positions(self.offset_conv(x), self.kernel)
        scale = 2 * torch.sigmoid(self.modulator_conv(x).float())
        weight = self.regular_conv.weight.view(-1, channels, taps)
        source = x.float()  # the sampling weights stay in float32 with the positions
        step = max(1, MAX_SAMPLE_BYTES // (n * channels * height * width * 4))
        out: Tensor | None = None
        for first in range(0, taps, step):
            part = slice(first, min(first + step, taps))
            count = part.stop - part.start
            samples = F.grid_sample(
                source,
                grid[:, part].reshape(n, count * height, width, 2),
                mode="bilinear",
                padding_mode="zeros",
                align_corners=False,
            ).view(n, channels, count, height, width)
            samples = (samples * scale[:, None, part]).to(x.dtype)
            kernel = weight[:, :, part].reshape(-1, channels * count, 1, 1)
            term = F.conv2d(samples.reshape(n, channels * count, height, width), kernel)
            out = term if out is None else out + term
        assert out is not None
        return out


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
        mixed = mixed + F.conv2d(self.global_avg_pool(x), self.conv1.weight[:, split:])
        return F.relu(self.bn1(mixed))
