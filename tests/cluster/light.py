"""A light engine for tests of what surrounds the network: the matte is a fixed disc, each frame takes a set time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from serve_app.errors import JobCancelled
from serve_app.fal import Variant
from serve_app.protocols import CutOptions, Cutout, Frames, Provenance
from serve_app.settings import SegmenterSettings

FRAME_S = "LIGHT_ENGINE_FRAME_S"
ENVIRONMENT = {"BIREFNET_SEGMENTER__ENGINE": "tests.cluster.light:make_engine"}


class LightEngine:
    """Sources of even size in 4:2:0 8 bit only: the colours go through as they are."""

    def __init__(self, frame_s: float) -> None:
        self._frame_s = frame_s

    def cut_out(self, frames: Frames, options: CutOptions, cancelled: Callable[[], bool]) -> Cutout:
        assert frames.layout.plane_sizes == options.layout.plane_sizes
        begun = time.perf_counter()
        for _ in range(len(frames)):
            if cancelled():
                raise JobCancelled("cancelled while segmenting")
            time.sleep(self._frame_s)
        height, width = options.layout.height, options.layout.width
        y, x = np.mgrid[:height, :width]
        disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
        matte = np.repeat((255 * disc).astype(np.uint8)[None], len(frames), axis=0)
        colour = Frames(frames.planes, options.layout, frames.pts, frames.time_base)
        return Cutout(
            colour, matte, Provenance("light", "cpu", "disc", (height, width)), time.perf_counter() - begun
        )


def make_engine(variant: Variant, settings: SegmenterSettings) -> LightEngine:
    return LightEngine(float(os.environ.get(FRAME_S, "0")))
