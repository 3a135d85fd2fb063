"""What the student is asked for: the right pixels, the right shape, the right edge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_iou(probability: Tensor, target: Tensor) -> Tensor:
    """1 - intersection over union per picture, with soft sets; empty pictures count when something is found."""
    both = torch.minimum(probability, target).sum(dim=(1, 2, 3))
    either = torch.maximum(probability, target).sum(dim=(1, 2, 3))
    return (1 - (both + 1) / (either + 1)).mean()


def matting(logits: Tensor, target: Tensor) -> Tensor:
    """BCE, IoU and L1 at one resolution."""
    probability = logits.sigmoid()
    bce = F.binary_cross_entropy_with_logits(logits, target)
    return bce + 0.5 * soft_iou(probability, target) + F.l1_loss(probability, target)


def gradient(probability: Tensor, target: Tensor) -> Tensor:
    """L1 between the differences of neighbouring pixels: sharp edges in the right place."""
    error = probability - target
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def total(logits: Tensor, side_logits: Sequence[Tensor], target: Tensor) -> Tensor:
    """The final map counts in full, the coarse ones with a quarter each against the averaged matte."""
    loss = matting(logits, target) + 0.5 * gradient(logits.sigmoid(), target)
    for side in side_logits:
        loss = loss + 0.25 * matting(side, F.interpolate(target, size=side.shape[-2:], mode="area"))
    if not torch.isfinite(loss):
        raise FloatingPointError("the loss is not finite: resume from the last state with a lower rate")
    return loss
