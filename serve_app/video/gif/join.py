"""A GIF from its pieces: one palette for all frames, then one frame at a time through one writer."""

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
    """Writes `out`; the number of images in it. Raises `EncodingFailed`, `OSError` and `JobCancelled`."""
    settings, expected = request.settings, request.expected

    def polled(items: Iterable[T]) -> Iterator[T]:
        for item in items:
            if cancelled():
                raise JobCancelled("The job was cancelled while its video was being joined.")
            yield item

    ink: _Greys | _Cutouts = _Greys() if settings.mask else _Cutouts(read_colours(polled(pieces())), settings)
    writer: GifWriter | None = None
    frames = paced(polled(read_frames(pieces())), (expected.end - expected.last_pts) * settings.time_base)
    with out.open("wb") as file:
        for planes, ticks in frames:
            if writer is None:
                height, width = planes[0].shape
                writer = GifWriter(file, (width, height), ink.palette, ink.transparent)
            writer.add(ink.image(planes), ticks)
        if writer is None:
            raise EncodingFailed("There is nothing to join: no piece holds a frame.")
        writer.close()
    return writer.images


class _Greys:
    """A mask as it is: a GIF holds all its levels."""

    palette: Colours = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    transparent = None

    def image(self, planes: list[Bytes]) -> Image:
        return Image(planes[0], (0, 0))


class _Cutouts:
    """What is seen, in the colours that all frames share; the box around it, as the rest is cleared anyway."""

    def __init__(self, histogram: Histogram, settings: EncodeSettings) -> None:
        dials = output_format(settings.output_type).dials(settings.quality, settings.write_mode)
        self.palette = make_palette(histogram, int(dials["colours"]) - 1)
        self.transparent = len(self.palette)
        self._painter = Painter(self.palette, histogram, dials)

    def image(self, planes: list[Bytes]) -> Image:
        seen = planes[3] > 0
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        if not len(rows):
            return Image(np.full((1, 1), self.transparent, np.uint8), (0, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        green, blue, red = (plane[box] for plane in planes[:3])
        corner = int(rows[0]), int(columns[0])
        indices = self._painter.paint((red, green, blue), corner)
        return Image(np.where(seen[box], indices, self.transparent).astype(np.uint8), corner)
