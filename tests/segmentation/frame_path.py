"""From planes to a cutout on any device: sources in every layout, and how far two cutouts are apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Any, Literal

import numpy as np

from serve_app.fal import OutputType, Variant
from serve_app.picture import Frames, PixelLayout, Plane
from serve_app.protocols import CutOptions, Cutout
from serve_app.segmentation.processing import CutoutEngine, make_engine
from serve_app.settings import SegmenterSettings
from serve_app.video.formats import cutout_layout

BASE = PixelLayout(97, 63)
_SUBSAMPLING: tuple[Literal["420", "422", "444"], ...] = ("420", "422", "444")
_DEPTH: tuple[Literal[8, 10], ...] = (8, 10)
_YUV = [
    replace(
        BASE, subsampling=subsampling, depth=depth, matrix="bt2020" if depth == 10 else "bt709", alpha=alpha
    )
    for subsampling, depth, alpha in product(_SUBSAMPLING, _DEPTH, (False, True))
]
_RGB = [
    replace(BASE, subsampling="444", depth=depth, matrix="rgb", full_range=True, alpha=alpha)
    for depth, alpha in product(_DEPTH, (False, True))
]
_FULL = [
    replace(BASE, matrix="bt601", full_range=True, chroma_site="center"),
    replace(BASE, subsampling="444", full_range=True, chroma_site="topleft"),
]
LAYOUTS = [*_YUV, *_RGB, *_FULL]


def layout_name(layout: PixelLayout) -> str:
    marks = " full range" * layout.full_range + " with alpha" * layout.alpha
    return f"{layout.matrix} {layout.subsampling} {layout.depth} bit{marks}"


def frames_of(layout: PixelLayout, count: int = 3) -> Frames:
    """A bright disc that moves before a dark gradient, in any layout."""
    scale = 1 << (layout.depth - 8)
    planes: list[Plane] = []
    for number, (height, width) in enumerate(layout.plane_sizes):
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        disc = (x - 0.02 * np.arange(count)[:, None, None]) ** 2 + y**2 < 0.4
        values = np.where(disc, (200, 90, 150, 255)[number], (60 + 20 * x, 128, 128, 255)[number])
        values = values * scale
        planes.append(values.astype(np.uint8) if layout.depth == 8 else values.astype(np.uint16))
        planes[-1].flags.writeable = False  # as arrays arrive from the object store
    return Frames(tuple(planes), layout, np.arange(count) * 40, Fraction(1, 1000))


def options_for(layout: PixelLayout, output_type: OutputType = OutputType.WEBM, **changes: Any) -> CutOptions:
    """At the embedded checkpoint's size, with refined colours."""
    over_black = output_type is OutputType.MP4
    return replace(CutOptions(256, True, over_black, cutout_layout(layout, output_type)), **changes)


def engine_on(device: str, dtype: str = "float32", batch: int = 1) -> CutoutEngine:
    """The embedded checkpoint, by torch itself."""
    settings = SegmenterSettings(engine="torch", device=device, dtype=dtype, batch=batch)
    return make_engine(Variant.LIGHT, settings)


def cut_out(engine: CutoutEngine, layout: PixelLayout, output_type: OutputType, frames: int = 3) -> Cutout:
    return engine.cut_out(frames_of(layout, frames), options_for(layout, output_type), lambda: False)


@dataclass(frozen=True)
class Distance:
    """Between two cutouts of one source, in levels of 255: the largest and the mean one. Colours count by what is seen
    of them, so by their alpha: behind an alpha of nearly nothing they are anyone's guess.
    """

    matte_max: float
    matte_mean: float
    colour_max: float
    colour_mean: float

    @classmethod
    def between(cls, found: Cutout, expected: Cutout) -> Distance:
        assert found.colour.layout == expected.colour.layout
        assert np.array_equal(found.colour.pts, expected.colour.pts)
        level = 1 << (expected.colour.layout.depth - 8)
        matte = _difference(found.matte, expected.matte)
        colour = []
        for plane, wanted in zip(found.colour.planes, expected.colour.planes, strict=True):
            down, across = (-(-a // b) for a, b in zip(matte.shape[1:], wanted.shape[1:], strict=True))
            seen = expected.matte[:, ::down, ::across] / 255
            colour.append(_difference(plane, wanted) * seen / level)
        return cls(
            float(matte.max()),
            float(matte.mean()),
            max(float(plane.max()) for plane in colour),
            max(float(plane.mean()) for plane in colour),
        )

    def within(self, bounds: Distance) -> bool:
        return (
            self.matte_max <= bounds.matte_max
            and self.matte_mean <= bounds.matte_mean
            and self.colour_max <= bounds.colour_max
            and self.colour_mean <= bounds.colour_mean
        )


def _difference(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    return np.asarray(np.abs(found.astype(int) - expected))


# Of the embedded checkpoint. float32: what a resize or a truncation makes of sums in another order. Half precision:
# twice the largest distances over all layouts and types on a CPU (measured: 66, 1.14, 47, 0.34 in bfloat16, for which
# this network was not trained; 7, 0.046, 3.6, 0.012 in float16).
BOUNDS = {
    "float32": Distance(2.0, 0.02, 2.0, 0.02),
    "bfloat16": Distance(132.0, 2.3, 94.0, 0.7),
    "float16": Distance(14.0, 0.1, 7.5, 0.025),
}
