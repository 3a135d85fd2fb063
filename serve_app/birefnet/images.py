"""Image processing around the network, on tensors: what the official usage does with an image library."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def to_network(rgb: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """N 3 H W float32, 0..1, to normalised network input of `size` = (height, width).

    The aspect ratio is not kept: plain stretching is how the checkpoints were trained.
    """
    if tuple(rgb.shape[-2:]) != size:
        rgb = F.interpolate(rgb, size=size, mode="bilinear", antialias=True, align_corners=False)
    mean = torch.tensor(MEAN, device=rgb.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=rgb.device).view(1, 3, 1, 1)
    return ((rgb - mean) / std).to(dtype)


def to_matte(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits N 1 h w to a matte N 1 H W uint8: sigmoid in float32, 8 bits by truncation, bicubic resize."""
    matte = (logits.float().sigmoid() * 255).floor()
    # Rows, then columns, with 8 bits between: the library's own order, in which overshoot is cut off twice.
    for step in ((matte.shape[-2], size[1]), size):
        if tuple(matte.shape[-2:]) != step:
            matte = F.interpolate(matte, size=step, mode="bicubic", antialias=True, align_corners=False)
            matte = matte.round().clamp(0, 255)
    return matte.to(torch.uint8)
