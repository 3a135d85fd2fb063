"""A light engine for tests that need no network: the matte is a fixed disc, and each frame takes a set time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from serve_app.errors import JobCancelled
from serve_app.fal import Variant
from serve_app.picture import Frames
from serve_app.protocols import CutOptions, Cutout, Provenance
from serve_app.settings import SegmenterSettings
from tests.video.pipeline import in_layout

FRAME_S = "LIGHT_ENGINE_FRAME_S"
ENVIRONMENT = {"BIREFNET_SEGMENTER__ENGINE": "tests.cluster.light:make_engine"}


class LightEngine:
    """Passes colours through unchanged, or grey where the output has another layout."""

    def __init__(self, frame_s: float) -> None:
        self._frame_s = frame_s

    def cut_out(self, frames: Frames, options: CutOptions, cancelled: Callable[[], bool]) -> Cutout:
        started = time.perf_counter()
        for _ in range(len(frames)):
            if cancelled():
                raise JobCancelled("cancelled while segmenting")
            time.sleep(self._frame_s)
        height, width = options.layout.height, options.layout.width
        y, x = np.mgrid[:height, :width]
        disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
        matte = np.repeat((255 * disc).astype(np.uint8)[None], len(frames), axis=0)
        return Cutout(
            in_layout(frames, options.layout),
            matte,
            Provenance("light", "cpu", "disc", (height, width)),
            time.perf_counter() - started,
        )


def make_engine(variant: Variant, settings: SegmenterSettings) -> LightEngine:
    return LightEngine(float(os.environ.get(FRAME_S, "0")))
