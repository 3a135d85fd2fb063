"""U²-Net-P without its last stage: the backbone of the small checkpoint that ships with the package.

Qin et al., "U²-Net: Going deeper with nested U-structure for salient object detection", 2020; small variant.
Batch norms are folded into the convolutions, so there is nothing here that behaves differently in training.
The parameter names follow the authors' code, with `conv` for the folded pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvRelu(nn.Module):
    """A 3x3 convolution that keeps the size, then ReLU."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


def halve(x: Tensor) -> Tensor:
    """Max pooling by two; an odd last row or column keeps a pixel of its own."""
    return F.max_pool2d(x, 2, stride=2, ceil_mode=True)


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear resize to the size of `reference`, with half pixel centres as the weights were trained."""
    return F.interpolate(x, size=reference.shape[-2:], mode="bilinear", align_corners=False)


class ResidualUBlock(nn.Module):
    """A small U-Net with a residual connection around it (RSU-4 to RSU-7 of the paper).

    `dilations` gives one entry per encoder convolution. With `pooled` each inner convolution but the last one
    works at half the size of the one before; without it (RSU-4F) the map keeps its size and the growing
    dilation widens the view instead.
    """

    def __init__(
        self, inputs: int, middle: int, outputs: int, dilations: Sequence[int], pooled: bool
    ) -> None:
        super().__init__()
        self.depth, self.pooled = len(dilations), pooled
        self.rebnconvin = ConvRelu(inputs, outputs)
        for level, dilation in enumerate(dilations, start=1):
            width = outputs if level == 1 else middle
            self.add_module(f"rebnconv{level}", ConvRelu(width, middle, dilation))
        for level in range(self.depth - 1, 0, -1):
            width = outputs if level == 1 else middle
            self.add_module(f"rebnconv{level}d", ConvRelu(2 * middle, width, dilations[level - 1]))

    def forward(self, x: Tensor) -> Tensor:
        entry: Tensor = self.rebnconvin(x)
        down: list[Tensor] = []
        hidden = entry
        for level in range(1, self.depth + 1):
            # The two lowest convolutions share one resolution: the last one only widens the view.
            if self.pooled and 1 < level < self.depth:
                hidden = halve(hidden)
            hidden = self.get_submodule(f"rebnconv{level}")(hidden)
            down.append(hidden)
        hidden = down.pop()
        for level in range(self.depth - 1, 0, -1):
            skip = down.pop()
            if hidden.shape[-2:] != skip.shape[-2:]:
                hidden = resize_like(hidden, skip)
            hidden = self.get_submodule(f"rebnconv{level}d")(torch.cat((hidden, skip), dim=1))
        return hidden + entry


def pooled_block(depth: int, inputs: int) -> ResidualUBlock:
    """RSU-`depth` in the widths of the small variant: 16 inside, 64 outside."""
    return ResidualUBlock(inputs, 16, 64, [1] * (depth - 1) + [2], pooled=True)


def dilated_block(inputs: int) -> ResidualUBlock:
    """RSU-4F in the widths of the small variant."""
    return ResidualUBlock(inputs, 16, 64, [1, 2, 4, 8], pooled=False)


class U2NetP(nn.Module):
    """Six encoder stages and the decoder stages 5d to 2d, used as a feature pyramid.

    The input is normalised with the ImageNet mean and deviation. The last decoder stage works at full
    resolution and costs the most, and the side outputs belong to the saliency head: both are left out.
    """

    channels: tuple[int, ...] = (64, 64, 64, 64)
    strides: tuple[int, ...] = (2, 4, 8, 16)

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = pooled_block(7, 3)
        self.stage2 = pooled_block(6, 64)
        self.stage3 = pooled_block(5, 64)
        self.stage4 = pooled_block(4, 64)
        self.stage5 = dilated_block(64)
        self.stage6 = dilated_block(64)
        self.stage5d = dilated_block(128)
        self.stage4d = pooled_block(4, 128)
        self.stage3d = pooled_block(5, 128)
        self.stage2d = pooled_block(6, 128)

    def pyramid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All maps a saliency head would need: stage 1, the decoder stages 2d to 5d, stage 6."""
        e1: Tensor = self.stage1(x)
        e2: Tensor = self.stage2(halve(e1))
        e3: Tensor = self.stage3(halve(e2))
        e4: Tensor = self.stage4(halve(e3))
        e5: Tensor = self.stage5(halve(e4))
        e6: Tensor = self.stage6(halve(e5))
        d5: Tensor = self.stage5d(torch.cat((resize_like(e6, e5), e5), dim=1))
        d4: Tensor = self.stage4d(torch.cat((resize_like(d5, e4), e4), dim=1))
        d3: Tensor = self.stage3d(torch.cat((resize_like(d4, e3), e3), dim=1))
        d2: Tensor = self.stage2d(torch.cat((resize_like(d3, e2), e2), dim=1))
        return e1, d2, d3, d4, d5, e6

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Maps of 64 channels at strides 2, 4, 8 and 16."""
        _, d2, d3, d4, d5, _ = self.pyramid(x)
        return d2, d3, d4, d5
