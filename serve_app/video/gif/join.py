"""Joins the pieces of a GIF: derives one palette for all frames, then writes them one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from serve_app.errors import EncodingFailed, JobCancelled
from serve_app.protocols import EncodeSettings, JoinPiece, JoinRequest
from serve_app.video.formats import output_format
from serve_app.video.gif.paint import Painter
from serve_app.video.gif.palette import Bytes, Colours, Histogram, make_palette
from serve_app.video.gif.piece import read_colours, read_frames
from serve_app.video.gif.writer import GifWriter, Image, paced

T = TypeVar("T")


def join_gif(
    pieces: Callable[[], Iterable[tuple[JoinPiece, Path]]],
    request: JoinRequest,
    out: Path,
    cancelled: Callable[[], bool],
) -> int:
    """Write `out` and return its number of images. Raises `EncodingFailed`, `OSError` or `JobCancelled`."""
    settings, expected = request.settings, request.expected

    def polled(items: Iterable[T]) -> Iterator[T]:
        for item in items:
            if cancelled():
                raise JobCancelled("The job was cancelled while its video was being joined.")
            yield item

    renderer: _Greys | _Cutouts = (
        _Greys() if settings.mask else _Cutouts(read_colours(polled(pieces())), settings)
    )
    writer: GifWriter | None = None
    frames = paced(polled(read_frames(pieces())), (expected.end - expected.last_pts) * settings.time_base)
    with out.open("wb") as file:
        for planes, ticks in frames:
            if writer is None:
                height, width = planes[0].shape
                writer = GifWriter(file, (width, height), renderer.palette, renderer.transparent)
            writer.add(renderer.image(planes), ticks)
        if writer is None:
            raise EncodingFailed("There is nothing to join: no piece has a frame.")
        writer.close()
    return writer.images


class _Greys:
    """Renders masks without quantisation: a palette holds all 256 levels."""

    palette: Colours = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    transparent = None

    def image(self, planes: list[Bytes]) -> Image:
        return Image(planes[0], (0, 0))


class _Cutouts:
    """Renders the visible part of each frame in the shared palette, cropped to its bounding box."""

    def __init__(self, histogram: Histogram, settings: EncodeSettings) -> None:
        options = output_format(settings.output_type).encoder_options(settings.quality, settings.write_mode)
        self.palette = make_palette(histogram, int(options["colours"]) - 1)
        self.transparent = len(self.palette)
        self._painter = Painter(self.palette, histogram, options)

    def image(self, planes: list[Bytes]) -> Image:
        visible = planes[3] > 0
        rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        if not len(rows):
            return Image(np.full((1, 1), self.transparent, np.uint8), (0, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        green, blue, red = (plane[box] for plane in planes[:3])
        corner = int(rows[0]), int(columns[0])
        indices = self._painter.paint((red, green, blue), corner)
        return Image(np.where(visible[box], indices, self.transparent).astype(np.uint8), corner)
