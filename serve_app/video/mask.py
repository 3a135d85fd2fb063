"""Renders the matte as a grey video, white = subject.

It is tagged as BT.709 and, except in GIF, limited range, which all players expand; decoding it to grey restores the
matte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from serve_app.picture import PixelLayout, Plane
from serve_app.protocols import Cutout
from serve_app.video.formats import OutputFormat
from serve_app.video.writer import Picture

_BT709 = 1  # code point of primaries and of transfer
_BLACK, _SPAN = 16, 219  # limited range, 8 bits


def mask_layout(layout: PixelLayout, form: OutputFormat) -> PixelLayout:
    """The layout of the mask for cutouts in `layout`. It has neutral chroma, as few players support grey video."""
    return replace(layout, matrix="bt709", full_range=form.is_gif, primaries=_BT709, transfer=_BT709)


def mask_pictures(cutout: Cutout, layout: PixelLayout) -> Iterator[Picture]:
    """Pictures with luma from the matte and neutral chroma."""
    levels = _levels(layout)
    neutral: Plane = np.full(layout.chroma_size, 128 << (layout.depth - 8), levels.dtype)
    for pts, matte in zip(cutout.colour.pts, cutout.matte, strict=True):
        yield int(pts), [levels[matte], neutral, neutral]


def _levels(layout: PixelLayout) -> Plane:
    """The luma for each value of the matte."""
    matte = np.arange(256)
    if layout.full_range:
        return matte.astype(np.uint8)
    scale = 1 << (layout.depth - 8)
    luma = _BLACK * scale + (matte * _SPAN * scale + 127) // 255
    return luma.astype(np.uint8) if layout.depth == 8 else luma.astype(np.uint16)
