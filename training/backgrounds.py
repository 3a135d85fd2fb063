"""Backgrounds for composites: procedural ones, textures, and parts of real pictures without a subject."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.sources import TEXTURES, sample_image

SIZE = 256


def colour(rng: np.random.Generator) -> np.ndarray:
    """A random colour, grey ones being the most common as they are in the world."""
    value = rng.uniform(20, 235)
    return np.clip(value + rng.normal(0, rng.choice([6, 25, 60]), 3), 0, 255)


def smooth_noise(rng: np.random.Generator, cells: int, channels: int = 1) -> np.ndarray:
    """Noise of a given coarseness in -1..1, H x W x channels."""
    planes = []
    for _ in range(channels):
        coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
        planes.append(np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)))
    return np.stack(planes, axis=-1)


def gradient(rng: np.random.Generator) -> np.ndarray:
    """Two or three colours along a direction: skies, studio walls."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1) - 0.5
    along = np.clip((x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.8, 1.6) + 0.5, 0, 1)[..., None]
    picture = colour(rng) * (1 - along) + colour(rng) * along
    return picture + smooth_noise(rng, 4, 3) * rng.uniform(0, 20)


def clutter(rng: np.random.Generator) -> np.ndarray:
    """Several octaves of coloured noise: foliage, crowds, rock."""
    picture = np.broadcast_to(colour(rng), (SIZE, SIZE, 3)).copy()
    strength = rng.uniform(15, 70)
    for cells in (4, 9, 20, 48, 110):
        picture += smooth_noise(rng, cells, 3 if rng.random() < 0.4 else 1) * strength * rng.uniform(0.3, 1)
    return picture


def room(rng: np.random.Generator) -> np.ndarray:
    """A wall, a floor and some furniture-like boxes, lines and lamps."""
    image = Image.new("RGB", (SIZE, SIZE), tuple(colour(rng).astype(int)))
    draw = ImageDraw.Draw(image)
    horizon = int(rng.uniform(0.45, 0.85) * SIZE)
    tilt = int(rng.normal(0, 12))
    floor = [(0, horizon), (SIZE, horizon + tilt), (SIZE, SIZE), (0, SIZE)]
    draw.polygon(floor, fill=tuple(colour(rng).astype(int)))
    for _ in range(rng.integers(2, 12)):
        left, top = rng.integers(-40, SIZE, 2)
        right, bottom = left + rng.integers(8, 130), top + rng.integers(8, 130)
        fill = tuple(colour(rng).astype(int))
        kind = rng.random()
        if kind < 0.6:
            draw.rectangle((left, top, right, bottom), fill=fill)
        elif kind < 0.75:
            draw.ellipse((left, top, right, bottom), fill=fill)
        else:
            draw.line((left, top, right, bottom), fill=fill, width=int(rng.integers(1, 9)))
    picture = np.asarray(image, dtype=np.float32)
    return picture * (1 + 0.25 * smooth_noise(rng, 3)) + smooth_noise(rng, 64) * rng.uniform(0, 8)


class Backgrounds:
    """Draws backgrounds: `scenery` are pictures without a subject, `real` labelled ones with empty parts."""

    def __init__(self, real: np.ndarray, scenery: np.ndarray) -> None:
        self.real, self.scenery = real, scenery
        self.textures = [np.asarray(sample_image(name)) for name in TEXTURES]

    def texture(self, rng: np.random.Generator) -> np.ndarray:
        """A crop of a photographed surface, tinted."""
        whole = self.textures[rng.integers(len(self.textures))]
        side = int(rng.uniform(0.3, 0.9) * min(whole.shape[:2]))
        top, left = rng.integers(0, whole.shape[0] - side), rng.integers(0, whole.shape[1] - side)
        crop = Image.fromarray(whole[top : top + side, left : left + side]).resize((SIZE, SIZE))
        tint = colour(rng) / 128
        return np.asarray(crop, dtype=np.float32) * (0.4 + 0.6 * tint)

    def landscape(self, rng: np.random.Generator) -> np.ndarray:
        """A crop of a picture without a subject."""
        item = self.scenery[rng.integers(len(self.scenery))]
        height, width = rng.integers(90, SIZE + 1, 2)
        top, left = rng.integers(0, SIZE - height + 1), rng.integers(0, SIZE - width + 1)
        crop = Image.fromarray(np.ascontiguousarray(item[top : top + height, left : left + width]))
        return np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32)

    def photograph(self, rng: np.random.Generator) -> np.ndarray:
        """A part of a real picture that the teacher calls empty, or else the whole, out of focus."""
        item = self.real[rng.integers(len(self.real))]
        for _ in range(8):
            height, width = rng.integers(80, 240, 2)
            top, left = rng.integers(0, SIZE - height), rng.integers(0, SIZE - width)
            part = item[top : top + height, left : left + width]
            if part[..., 3].mean() < 3:
                image = Image.fromarray(np.ascontiguousarray(part[..., :3]))
                return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32)
        image = Image.fromarray(np.ascontiguousarray(item[..., :3]))
        return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(8, 24))), dtype=np.float32)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """H x W x 3 in 0..255, float32."""
        kinds = (gradient, clutter, room, self.texture, self.landscape, self.photograph)
        picture = kinds[rng.choice(len(kinds), p=(0.12, 0.13, 0.2, 0.12, 0.2, 0.23))](rng)
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        if rng.random() < 0.35:
            image = Image.fromarray(np.ascontiguousarray(picture))
            picture = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 6))))
        return picture.astype(np.float32)
