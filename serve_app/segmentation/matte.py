"""What becomes of a matte after the network: its ends, and another size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

ENDS = (5, 250)  # of 255: 2 % at either end


def snap_ends(matte: Tensor) -> Tensor:
    """A uint8 matte whose levels up to 5 are 0 and from 250 are 255; those between are stretched over the range.

    A network is hardly ever certain, and the reference cuts its answer to 8 bits by truncation, so that next to
    nothing would be opaque: inside a subject most pixels are 254.
    """
    low, high = ENDS
    return ((matte.float() - low) * (255 / (high - low))).round().clamp_(0, 255).to(torch.uint8)


def resized(colour: Tensor, matte: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A cutout at `size` = (height, width): colour N 3 H W float32, 0..1, and its uint8 matte N 1 H W."""
    colour = F.interpolate(colour, size=size, mode="bicubic", antialias=True, align_corners=False)
    smooth = F.interpolate(matte.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
    return colour.clamp_(0, 1), smooth.round().to(torch.uint8)
