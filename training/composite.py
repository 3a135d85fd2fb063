"""Composites with known alpha: subjects over backgrounds, with what cameras and codecs add."""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from training import sources
from training.backgrounds import SIZE, Backgrounds, smooth_noise
from training.labels import SCENERY_FILE, TRAIN_FILE
from training.subjects import Subjects

SHARD = 500


@cache
def _material(held_out: bool) -> tuple[Backgrounds, Subjects]:
    """The pictures to draw from, loaded once per process. Held-out composites use held-out renders alone."""
    real = np.load(TRAIN_FILE)
    cut_outs = None if held_out else real
    return Backgrounds(real, np.load(SCENERY_FILE)), Subjects(sources.renders(held_out), cut_outs)


def _shaded(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Other light and other clothes: tint, contrast, a soft light from one side; often dark, as suits are."""
    tint = rng.uniform(0.75, 1.25, 3) * rng.choice([0.35, 0.7, 1.0, 1.1], p=[0.12, 0.2, 0.5, 0.18])
    return np.clip(colour * tint * (1 + 0.25 * smooth_noise(rng, 3)), 0, 255)


def _shadow(rng: np.random.Generator, picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A soft shadow on the background, beside the figure or under its feet. It is no part of the matte."""
    mask = Image.fromarray((alpha[..., 0] * 255).astype(np.uint8))
    box = mask.getbbox()
    if box is None:
        return picture
    if rng.random() < 0.5:
        flat = mask.crop(box).resize((box[2] - box[0], max(3, (box[3] - box[1]) // int(rng.integers(4, 9)))))
        mask = Image.new("L", (SIZE, SIZE))
        mask.paste(flat, (box[0] + int(rng.normal(0, 8)), box[3] - flat.height * 2 // 3))
    else:
        mask = mask.transform(
            mask.size, Image.Transform.AFFINE, (1, 0, rng.normal(0, 9), 0, 1, -rng.uniform(0, 9))
        )
    soft = (
        np.asarray(mask.filter(ImageFilter.GaussianBlur(rng.uniform(2, 9))), dtype=np.float32)[..., None]
        / 255
    )
    return picture * (1 - rng.uniform(0.2, 0.7) * soft)


def _camera(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """One look over the whole: grading, blur, noise, compression."""
    picture = (picture / 255) ** rng.uniform(0.7, 1.4) * rng.uniform(0.7, 1.15, 3) * 255
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.5:
        noisy = np.asarray(image) + rng.normal(
            0, rng.uniform(1, 12), (SIZE, SIZE, 1 if rng.random() < 0.5 else 3)
        )
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(30, 95)))
        image = Image.open(buffer)
    return np.asarray(image)


def compose(seed: int, held_out: bool = False) -> np.ndarray:
    """Sample number `seed`: RGB and alpha, 8-bit. The same number always gives the same picture."""
    rng = np.random.default_rng((int(held_out), seed))
    backgrounds, subjects = _material(held_out)
    picture = backgrounds.draw(rng)
    matte = np.zeros((SIZE, SIZE, 1), dtype=np.float32)
    # Things that belong to the background: small, dim, out of focus, at the side.
    for _ in range(rng.choice(4, p=(0.55, 0.2, 0.15, 0.1))):
        side = rng.uniform(0.0, 0.15) if rng.random() < 0.5 else rng.uniform(0.85, 1.0)
        colour, alpha = subjects.layer(rng, rng.uniform(0.08, 0.3), (side, rng.uniform(0.1, 0.9)))
        layer = Image.fromarray(np.dstack((colour, alpha * 255)).astype(np.uint8), "RGBA")
        layer = layer.filter(ImageFilter.GaussianBlur(rng.uniform(2, 5)))
        values = np.asarray(layer, dtype=np.float32)
        opacity = rng.uniform(0.4, 0.8)
        picture = picture * (1 - opacity * values[..., 3:] / 255) + opacity * 0.8 * values[..., :3]
    count = rng.choice(3, p=(0.03, 0.77, 0.20))
    for index in range(count):
        across = rng.uniform(0.3, 0.7) if count == 1 else (0.28, 0.72)[index] + rng.normal(0, 0.06)
        share = rng.uniform(0.35, 1.15) if count == 1 else rng.uniform(0.4, 0.9)
        down = rng.uniform(0.4, 0.6) if share < 0.8 else rng.uniform(0.5, 0.75)
        colour, alpha = subjects.layer(rng, share, (across, down))
        if rng.random() < 0.6:
            picture = _shadow(rng, picture, alpha)
        picture = picture * (1 - alpha) + np.minimum(_shaded(rng, colour), 255 * alpha)
        matte = matte + alpha * (1 - matte)
    return np.dstack((_camera(rng, picture), (matte * 255).round().astype(np.uint8)))


def _render(path: Path, first: int, held_out: bool) -> None:
    samples = np.stack([compose(seed, held_out) for seed in range(first, first + SHARD)])
    partial = path.with_suffix(".part.npy")
    np.save(partial, samples)
    partial.rename(path)  # a shard exists entirely or not at all, so an interrupted run goes on where it was


def prepare(count: int, held_out: bool = False, workers: int = 2) -> list[Path]:
    """Render shards of composites that do not exist yet; return all of them."""
    name = "held-out" if held_out else "train"
    paths = [sources.WORK / f"composites-{name}-{first:05d}.npy" for first in range(0, count, SHARD)]
    missing = [(path, index * SHARD, held_out) for index, path in enumerate(paths) if not path.exists()]
    with ProcessPoolExecutor(workers) as pool:
        for task in [pool.submit(_render, *arguments) for arguments in missing]:
            task.result()
    return paths
