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


def scaled(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """N C H W float32 at `size` = (height, width); the same tensor where it is of that size."""
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size=size, mode=mode, antialias=True, align_corners=False)
