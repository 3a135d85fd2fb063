"""The network against the stored results, on any device and in any precision."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from serve_app.birefnet.configuration import BiRefNetConfig
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation
from tests.birefnet import reference

GOLDENS = ("swin_v1_t_256x256_b2", "swin_v1_t_320x224", "swin_v1_l_256x256")


@dataclass(frozen=True)
class Errors:
    """Of logits: the largest, the mean one (RMS) as a share of their deviation, the largest after the sigmoid."""

    max_abs: float
    relative_rms: float
    sigmoid: float

    @classmethod
    def of(cls, found: np.ndarray, golden: np.ndarray) -> Errors:
        difference = found - golden
        return cls(
            float(np.abs(difference).max()),
            float(np.sqrt((difference**2).mean()) / golden.std()),
            float(np.abs(_sigmoid(found) - _sigmoid(golden)).max()),
        )

    def within(self, bounds: Errors) -> bool:
        return (
            self.max_abs <= bounds.max_abs
            and self.relative_rms <= bounds.relative_rms
            and self.sigmoid <= bounds.sigmoid
        )


# Half precision: twice the largest errors of all goldens on a CPU, which also sums products in float32 (measured:
# 0.41, 0.061, 0.076 in bfloat16; 0.066, 0.0079, 0.012 in float16). The weights here are random: with these logits
# half of the matte is neither black nor white, and an error shows more than with a trained network.
BOUNDS = {
    torch.float32: Errors(1.5e-3, 1e-4, 2.5e-4),
    torch.bfloat16: Errors(0.82, 0.12, 0.15),
    torch.float16: Errors(0.13, 0.016, 0.025),
}


def backbone_of(golden: str) -> str:
    return golden[: len("swin_v1_t")]


def make_network(backbone: str) -> BiRefNetForImageSegmentation:
    """A network with the reference weights: float32, on the CPU."""
    network: BiRefNetForImageSegmentation
    network = BiRefNetForImageSegmentation(BiRefNetConfig.for_backbone(backbone)).eval()
    network.load_state_dict({k: torch.from_numpy(v) for k, v in reference.state_dict(backbone).items()})
    return network


def errors(network: BiRefNetForImageSegmentation, name: str) -> Errors:
    """Of the network, on its own device and in its own precision, on the input of a golden."""
    golden = load_golden(name)
    meta = json.loads(str(golden["meta"]))
    parameter = next(network.parameters())
    pixels = torch.from_numpy(reference.image(meta["image_seed"], tuple(meta["shape"])))
    with torch.inference_mode():
        logits = network(pixels.to(parameter)).logits
    return Errors.of(logits.float().cpu().numpy(), golden["logits"])


@cache
def load_golden(name: str) -> dict[str, Any]:
    return dict(np.load(reference.DATA / f"golden_{name}.npz"))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))
