"""Clips whose alpha is exact: a drawn figure over drawn scenes, the same in every run.

A figure is drawn at three times the size and shrunk, so that its alpha has the fractions that an outline has; what
moves fast is the mean of eight instants, as behind a shutter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

WIDTH, HEIGHT, FRAMES = 640, 360, 40
SCALE = 3
INSTANTS = 8


@dataclass(frozen=True)
class Clip:
    """speed, drift: of the figure and of the camera, pixels a frame. rocks: stones of the figure's own colour."""

    name: str
    seed: int
    speed: float
    rocks: int = 0
    drift: float = 0.0
    grain: float = 2.0


CLIPS = (
    Clip("calm", 1, speed=1.0),
    Clip("rocks", 2, speed=0.0, rocks=7, drift=0.7),
    Clip("fast", 3, speed=11.0, grain=5.0),
)


def _noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise in -1..1, H x W x 1."""
    coarse = rng.uniform(-1, 1, (cells, cells * 16 // 9)).astype(np.float32)
    return cv2.resize(coarse, (WIDTH + 80, HEIGHT), interpolation=cv2.INTER_CUBIC)[..., None]


def _scene(clip: Clip, rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """The background, wider than a frame: sky, ground, shrubs, and rocks."""
    height = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    sky, ground = np.array((150, 180, 210), np.float32), np.array((90, 120, 60), np.float32)
    picture = np.where(height < 0.6, sky + 40 * height, ground * (0.6 + 0.6 * height))
    picture = np.broadcast_to(picture, (HEIGHT, WIDTH + 80, 3)) + 12 * _noise(rng, 5) + 10 * _noise(rng, 60)
    picture = np.ascontiguousarray(np.clip(picture, 0, 255), np.float32)
    for _ in range(clip.rocks):
        centre = rng.integers((20, 200), (WIDTH + 60, HEIGHT - 10))
        angles = np.sort(rng.uniform(0, 2 * np.pi, 11))
        reach = rng.uniform(18, 55) * rng.uniform(0.7, 1.1, (11, 1))
        points = centre + np.column_stack((1.4 * np.cos(angles), np.sin(angles))) * reach
        mask = np.zeros((HEIGHT, WIDTH + 80), np.uint8)
        cv2.fillPoly(mask, [points.astype(np.int32)], 255, cv2.LINE_AA)
        cover = mask[..., None].astype(np.float32) / 255
        stone = np.clip(colour * (1 + 0.25 * _noise(rng, 9) + 0.15 * _noise(rng, 70)), 0, 255)
        picture = picture * (1 - cover) + stone * cover
    return picture


def _figure(at: float, phase: float, hair: np.ndarray) -> np.ndarray:
    """Alpha of a person with their feet on the ground, their middle at `at` pixels: H x W in 0..1."""
    mask = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)

    def point(x: float, y: float) -> tuple[int, int]:
        return int((at + x) * SCALE), int(y * SCALE)

    swing = 16 * np.sin(phase)
    for side in (-1, 1):
        cv2.line(mask, point(side * 14, 235), point(side * (16 + swing), 345), 255, 26 * SCALE, cv2.LINE_AA)
        cv2.line(mask, point(side * 34, 140), point(side * (62 - swing), 215), 255, 17 * SCALE, cv2.LINE_AA)
        cv2.circle(mask, point(side * (64 - swing), 222), 11 * SCALE, 255, -1, cv2.LINE_AA)
    cv2.ellipse(mask, point(0, 185), (44 * SCALE, 68 * SCALE), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cv2.line(mask, point(0, 100), point(0, 130), 255, 22 * SCALE, cv2.LINE_AA)
    cv2.ellipse(mask, point(0, 78), (27 * SCALE, 34 * SCALE), 0, 0, 360, 255, -1, cv2.LINE_AA)
    for angle, length in hair:
        root = (27 * np.cos(angle), 78 + 34 * np.sin(angle))
        tip = (root[0] + length * np.cos(angle), root[1] + length * np.sin(angle) + 4)
        cv2.line(mask, point(*root), point(*tip), 255, 2, cv2.LINE_AA)
    small = cv2.resize(mask, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def frames(clip: Clip) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """RGB H x W x 3 and alpha H x W of every frame, both of 8 bits."""
    rng = np.random.default_rng(clip.seed)
    colour = rng.uniform(70, 150, 3).astype(np.float32)
    scene = _scene(clip, rng, colour)
    cloth = np.clip(colour * (1 + 0.25 * _noise(rng, 6) + 0.08 * _noise(rng, 50)), 0, 255)[:, :WIDTH]
    skin = np.array((205, 160, 130), np.float32) * (1 + 0.1 * _noise(rng, 6)[:, :WIDTH])
    cloth = np.where(np.arange(HEIGHT)[:, None, None] < 120, skin, cloth)
    hair = np.column_stack((rng.uniform(np.pi, 2 * np.pi, 70), rng.uniform(4, 16, 70)))
    start = WIDTH / 2 - clip.speed * FRAMES / 2
    count = INSTANTS if clip.speed > 4 else 1
    for number in range(FRAMES):
        instants = [number + i / count for i in range(count)]
        walking = 0.35 if clip.speed else 0.0
        poses = [_figure(start + clip.speed * t, walking * t, hair) for t in instants]
        alpha = np.mean(poses, axis=0)[..., None]
        left = int(clip.drift * number)
        image = scene[:, left : left + WIDTH] * (1 - alpha) + cloth * alpha
        image = image + rng.normal(0, clip.grain, (HEIGHT, WIDTH, 1))
        yield np.clip(image, 0, 255).astype(np.uint8), (alpha[..., 0] * 255).round().astype(np.uint8)


def write(clip: Clip, path: Path) -> np.ndarray:
    """The clip as H.264 at a high quality; its alpha, N x H x W of 8 bits."""
    alphas = []
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=Fraction(25), options={"crf": "12", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image, alpha in frames(clip):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            alphas.append(alpha)
        target.mux(stream.encode(None))
    return np.stack(alphas)
