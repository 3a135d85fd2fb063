"""The weight rule of the reference results: tensors that follow from their name and shape alone.

SplitMix64 over a key made of SHA-256("<seed>:<name>"), mapped to a uniform value of mean 0 and variance 1,
scaled per kind of entry so that activations keep their size through the whole network.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent.parent / "data" / "golden"

# (part of the name, gain over 1/sqrt(fan in)); the first that fits counts.
GAINS = (
    ("patch_embed.proj.weight", 0.02),
    (".attn.qkv.weight", 1.4),
    (".mlp.fc", 1.2),
    (".offset_conv.weight", 1.6),
    (".modulator_conv.weight", 1.2),
    (".ipt_blk", 1.0),
    ("gdt_convs_attn_", 0.6),
    ("conv_out1.0.weight", 1.0),
)


def uniform(key: str, count: int) -> np.ndarray:
    """float64 [count] in [-sqrt(3), sqrt(3)), exact on every platform."""
    start = np.frombuffer(hashlib.sha256(key.encode()).digest()[:8], "<u8")[0]
    with np.errstate(over="ignore"):
        z = start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    unit: np.ndarray = (z >> np.uint64(40)).astype(np.float64) * 2.0**-24 * 2.0 - 1.0
    return unit * 1.7320508075688772


def tensor(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """One state-dict entry."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("relative_position_index"):
        side = round(shape[0] ** 0.5)
        row, col = np.divmod(np.arange(shape[0], dtype=np.int64), side)
        d_row = row[:, None] - row + side - 1
        d_col = col[:, None] - col + side - 1
        index: np.ndarray = d_row * (2 * side - 1) + d_col
        return index
    mean, std = _moments(name, shape)
    values = uniform(f"{seed}:{name}", int(np.prod(shape)))
    return (values * std + mean).astype(np.float32).reshape(shape)


def _moments(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if name.endswith("running_mean"):
        return 0.0, 0.2
    if name.endswith("running_var"):
        return 1.0, 0.25
    if name.endswith("relative_position_bias_table"):
        return 0.0, 0.6
    if len(shape) >= 2:
        default = 1.4 if len(shape) == 4 else 1.0
        gain = next((gain for part, gain in GAINS if part in name), default)
        return 0.0, gain / (int(np.prod(shape)) // shape[0]) ** 0.5
    if name.endswith("patch_embed.proj.bias"):
        return 0.0, 0.002
    if name.endswith(".bias"):
        return 0.0, 0.4 if "offset_conv" in name else 0.1
    return 1.0, 0.15


def manifest(backbone: str) -> list[dict[str, Any]]:
    """Entries of the published state dict, in order."""
    entries: list[dict[str, Any]] = json.loads((DATA / f"manifest_{backbone}.json").read_text())["entries"]
    return entries


@cache
def state_dict(backbone: str, seed: int = 0) -> dict[str, np.ndarray]:
    """All entries; made once per run, the large network has 220 million values."""
    return {e["name"]: tensor(e["name"], tuple(e["shape"]), seed) for e in manifest(backbone)}


def image(seed: int, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Normalised network input: flat 16x16 tiles, flat 4x4 tiles, noise."""
    n, c, h, w = shape
    out = np.zeros(shape)
    for tag, cell, gain in (("coarse", 16, 0.75), ("middle", 4, 0.5), ("fine", 1, 0.25)):
        rows, cols = -(-h // cell), -(-w // cell)
        grid = uniform(f"{seed}:image:{tag}", n * c * rows * cols).reshape(n, c, rows, cols)
        out += grid.repeat(cell, axis=2).repeat(cell, axis=3)[:, :, :h, :w] * gain
    return out.astype(np.float32)


def rgb_alpha(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 RGB [H, W, 3] and alpha [H, W]: an ellipse with a soft, noisy rim."""
    rgb = np.zeros((3, height, width))
    for tag, cell, gain in (("coarse", 24, 0.22), ("middle", 6, 0.12), ("fine", 1, 0.05)):
        rows, cols = -(-height // cell), -(-width // cell)
        grid = uniform(f"{seed}:rgb:{tag}", 3 * rows * cols).reshape(3, rows, cols)
        rgb += gain * grid.repeat(cell, axis=1).repeat(cell, axis=2)[:, :height, :width]
    y = (np.arange(height)[:, None] - (height - 1) / 2) / (0.36 * height)
    x = (np.arange(width)[None, :] - (width - 1) / 2) / (0.30 * width)
    rim = uniform(f"{seed}:alpha:rim", height * width).reshape(height, width)
    alpha = np.clip((1.25 - (y * y + x * x)) / 0.9 + 0.06 * rim, 0, 1)
    tint = np.array([0.25, 0.10, -0.15]).reshape(3, 1, 1)
    rgb = np.clip(0.5 + rgb + tint * (alpha[None] * 2 - 1), 0, 1)
    return np.floor(rgb * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0), np.floor(alpha * 255 + 0.5).astype(
        np.uint8
    )


def positions(tag: str, count: int, limit: int = 4096) -> np.ndarray:
    """Flat positions at which an intermediate map was sampled."""
    if count <= limit:
        return np.arange(count)
    unit = uniform(f"0:sample:{tag}:{count}", limit) / 1.7320508075688772
    return np.minimum(((unit + 1.0) * 0.5 * count).astype(np.int64), count - 1)
