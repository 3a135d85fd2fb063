"""Real pictures with mattes of the teacher, cached as one array: RGB and matte, N x 256 x 256 x 4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training import sources
from training.teacher import Teacher, pseudo_label

SIZE = 256
TRAIN_FILE = sources.WORK / "real-train.npy"
HELD_OUT_FILE = sources.WORK / "real-held-out.npy"
DEMO_FILE = sources.WORK / "demo-clip.npy"
SCENERY_FILE = sources.WORK / "scenery.npy"
DEMO_FRAMES = range(0, 132, 6)
# Without title cards and landscapes: the teacher finds letters and clouds salient, a cut-out service must not.
# The landscapes at the beginning serve as backgrounds.
TRAILER_FRAMES = range(264, 1140, 8)
BAND_FRAMES = range(204, 1441, 10)
SCENERY_FRAMES = range(30, 258, 6)
MAX_DISAGREEMENT = 0.06
MAX_VAGUE = 0.7


def fingerprint(images: np.ndarray) -> np.ndarray:
    """A coarse grey thumbnail with mean 0 and length 1: the scalar product of two of them is their likeness."""
    grey = torch.from_numpy(images).float().mean(dim=-1, keepdim=True).permute(0, 3, 1, 2)
    small = torch.nn.functional.adaptive_avg_pool2d(grey, 16).flatten(1)
    small = small - small.mean(dim=1, keepdim=True)
    return torch.nn.functional.normalize(small, dim=1).numpy()


def resembling(images: np.ndarray, others: np.ndarray, threshold: float) -> np.ndarray:
    """Which pictures look like any of the others."""
    return (fingerprint(images) @ fingerprint(others).T).max(axis=1) > threshold


def photographs(rng: np.random.Generator, crops: int = 10) -> np.ndarray:
    """Random crops of the sample photographs of scikit-image."""
    result = []
    for name in sources.PHOTOGRAPHS:
        image = sources.sample_image(name)
        for index in range(crops):
            share = 1.0 if index == 0 else rng.uniform(0.6, 0.95)
            width, height = int(image.width * share), int(image.height * share)
            left, top = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
            box = image.crop((left, top, left + width, top + height))
            result.append(np.asarray(box.resize((SIZE, SIZE), Image.Resampling.BICUBIC)))
    return np.stack(result)


def label(teacher: Teacher, images: np.ndarray, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """RGB and matte as 8-bit, and how far the teacher's two views of each picture disagree; slow, so kept."""
    if cache.exists():
        with np.load(cache) as stored:
            return stored["samples"], stored["disagreement"]
    labelled, doubts = [], []
    for start in range(0, len(images), 4):
        batch = images[start : start + 4]
        matte, disagreement = pseudo_label(teacher, torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255)
        # The teacher never quite reaches 0 and 1; a student that copies that leaves a veil over the picture.
        matte = ((matte - 0.04) / 0.92).clamp(0, 1)
        alpha = (matte * 255).round().byte().permute(0, 2, 3, 1).numpy()
        labelled.append(np.concatenate((batch, alpha), axis=-1))
        doubts.append(disagreement.numpy())
    samples, doubt = np.concatenate(labelled), np.concatenate(doubts)
    np.savez_compressed(cache, samples=samples, disagreement=doubt)
    return samples, doubt


def confident(samples: np.ndarray, disagreement: np.ndarray) -> np.ndarray:
    """Only pictures with a subject of reasonable size, an outline rather than a cloud, and agreeing views."""
    matte = samples[..., 3] / 255
    area = (matte > 0.5).mean(axis=(1, 2))
    vague = ((matte > 0.15) & (matte < 0.85)).mean(axis=(1, 2))
    sure = (disagreement < MAX_DISAGREEMENT) & (area > 0.02) & (area < 0.8) & (vague < MAX_VAGUE * area)
    return samples[sure]


def decided(samples: np.ndarray) -> np.ndarray:
    """Mattes with more contrast: where the teacher leans to one side, the student shall say so."""
    matte = np.clip((samples[..., 3:].astype(np.float32) / 255 - 0.2) / 0.6, 0, 1)
    return np.concatenate((samples[..., :3], (matte * 255).round().astype(np.uint8)), axis=-1)


def prepare(teacher: Teacher) -> None:
    """Write the arrays unless they exist."""
    if SCENERY_FILE.exists():  # the last one to be written
        return
    teacher = teacher.to(memory_format=torch.channels_last)
    demo = sources.frames("demo-clip.mp4", DEMO_FRAMES, SIZE)
    trailer = sources.frames("trailer.mp4", TRAILER_FRAMES, SIZE)
    overlap = resembling(trailer, demo, 0.6)
    trailer = trailer[~overlap]
    band = sources.frames("band.mp4", BAND_FRAMES, SIZE)
    # The last fifth of the band's minute is held out as a block, so that no neighbouring frame was trained on.
    split = len(band) * 4 // 5
    # Frames before the cut that show the same picture as a held-out one would leak it.
    early = band[:split][~resembling(band[:split], band[split:], 0.97)]
    pictures = np.concatenate((photographs(np.random.default_rng(20)), trailer, early))
    print(
        f"{overlap.sum()} trailer frames resemble the demo clip and are left out, {len(trailer)} stay",
        flush=True,
    )
    held_out, doubt = label(teacher, band[split:], sources.WORK / "labels-held-out.npz")
    np.save(HELD_OUT_FILE, confident(held_out, doubt))
    np.save(DEMO_FILE, label(teacher, demo, sources.WORK / "labels-demo.npz")[0])
    train, doubt = label(teacher, pictures, sources.WORK / "labels-train.npz")
    kept = confident(train, doubt)
    np.save(TRAIN_FILE, decided(kept))
    np.save(SCENERY_FILE, sources.frames("trailer.mp4", SCENERY_FRAMES, SIZE))
    print(f"real pictures: {len(kept)} of {len(train)} are sure enough", flush=True)
