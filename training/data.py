"""Batches of real pictures with pseudo-labels and of composites, augmented on the fly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.labels import TRAIN_FILE
from training.teacher import MEAN, STD


def normalised(images: Tensor) -> Tensor:
    """RGB in 0..1 as the network takes it."""
    return (images - MEAN) / STD


def split(samples: np.ndarray) -> tuple[Tensor, Tensor]:
    """N x H x W x 4 of 8 bits as images N x 3 x H x W and mattes N x 1 x H x W in 0..1."""
    tensor = torch.from_numpy(np.ascontiguousarray(samples)).permute(0, 3, 1, 2).float() / 255
    return tensor[:, :3], tensor[:, 3:]


def _view(rng: np.random.Generator, size: int) -> Tensor:
    """A random crop, mirrored half of the time, as the 2x3 matrix of `affine_grid`."""
    share = rng.uniform(0.65, 1.0) if rng.random() < 0.7 else rng.uniform(1.0, 1.25)
    wide, high = share * rng.uniform(0.9, 1.1), share * rng.uniform(0.9, 1.1)
    shift_x = rng.uniform(-1, 1) * abs(1 - wide)
    shift_y = rng.uniform(-1, 1) * abs(1 - high)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    return torch.tensor(((mirror * wide, 0.0, shift_x), (0.0, high, shift_y)))


def _recoloured(rng: np.random.Generator, images: Tensor) -> Tensor:
    """Per image: brightness, contrast, colour cast, saturation, gamma; sometimes noise."""
    count = len(images)

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, channels, 1, 1))).float()

    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * draw(0.5, 1.35)
    images = images * draw(0.7, 1.25) * draw(0.92, 1.08, 3)
    level = images.mean(dim=(1, 2, 3), keepdim=True)
    images = ((images - level) * draw(0.8, 1.2) + level).clamp(1e-3, 1) ** draw(0.8, 1.25)
    seed = int(rng.integers(2**31))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + noise * draw(-0.02, 0.025).clamp_min(0)).clamp(0, 1)


class Samples:
    """Draws batches from the cached arrays. All randomness comes from `rng`, so that a run can be resumed."""

    def __init__(self, shards: list[Path], rng: np.random.Generator) -> None:
        self.real = np.load(TRAIN_FILE)
        self.composites = [np.load(path, mmap_mode="r") for path in shards]
        self.rng = rng

    def _one(self, real: float) -> np.ndarray:
        if self.rng.random() < real:
            return self.real[self.rng.integers(len(self.real))]
        shard = self.composites[self.rng.integers(len(self.composites))]
        return np.asarray(shard[self.rng.integers(len(shard))])

    def batch(self, count: int, size: int, real: float) -> tuple[Tensor, Tensor]:
        """Normalised images and their mattes; `real` is the chance of each to be a real picture.

        The teacher is sure of few real scenes: a large share is soon learnt by heart.
        """
        samples = torch.cat(split(np.stack([self._one(real) for _ in range(count)])), dim=1)
        views = torch.stack([_view(self.rng, size) for _ in range(count)])
        grid = F.affine_grid(views, [count, 4, size, size], align_corners=False)
        # Reflection keeps views that reach over the edge free of black bars.
        samples = F.grid_sample(samples, grid, padding_mode="reflection", align_corners=False)
        return normalised(_recoloured(self.rng, samples[:, :3])), samples[:, 3:].clamp(0, 1)
