"""The pieces of a GIF: what the join needs to make one palette for all, and to paint with it.

A piece is an uncompressed zip archive of the pixels without loss (a NUT file) and of the colours that were
counted. The join goes through the pieces twice: for the colours, then for the pixels, one frame at a time.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.container import InputContainer

from serve_app.errors import EncodingFailed
from serve_app.picture import Plane
from serve_app.protocols import Cutout, EncodeSettings, JoinPiece
from serve_app.video.formats import output_format
from serve_app.video.gif.palette import Bytes, Histogram
from serve_app.video.mask import mask_layout, mask_pictures
from serve_app.video.planes import view
from serve_app.video.self_check import check_count
from serve_app.video.writer import Picture, PieceWriter

SEEN_FROM = 128  # the matte's value from which a pixel is there
_CONTAINER = "nut"  # keeps any time base
_PIXELS, _COLOURS = "frames.nut", "colours.npy"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same piece, the same bytes


def write_gif_piece(
    cutout: Cutout, settings: EncodeSettings, path: Path, cancelled: Callable[[], bool], threads: int
) -> None:
    """Writes a cutout, or its matte, to `path`. Raises what `PieceWriter.write` does."""
    form = output_format(settings.output_type, settings.mask)
    histogram = Histogram()
    layout = cutout.colour.layout
    if settings.mask:
        layout = mask_layout(layout, form)
    pictures = mask_pictures(cutout, layout) if settings.mask else _seen(cutout, histogram)
    frames = path.with_name(path.name + "-frames")
    try:
        PieceWriter(form, settings, layout, threads, _CONTAINER, {}).write(frames, pictures, cancelled)
        with zipfile.ZipFile(path, "w") as archive:
            with frames.open("rb") as source, _entry(archive, _PIXELS) as target:
                while part := source.read(1 << 20):
                    target.write(part)
            with _entry(archive, _COLOURS) as target:
                np.save(target, histogram.packed())
    finally:
        frames.unlink(missing_ok=True)


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(zipfile.ZipInfo(name, _LONG_AGO), "w", force_zip64=True)


def _seen(cutout: Cutout, histogram: Histogram) -> Iterator[Picture]:
    """Each frame as G, B, R and an alpha of 0 or 255, black where nothing is seen; counts the colours seen."""
    for row, pts in enumerate(cutout.colour.pts):
        seen = cutout.matte[row] >= SEEN_FROM
        planes = [np.where(seen, plane[row], 0).astype(np.uint8) for plane in cutout.colour.planes]
        red, green, blue = planes
        histogram.add(red[seen], green[seen], blue[seen])
        alpha: Plane = np.where(seen, 255, 0).astype(np.uint8)
        yield int(pts), [green, blue, red, alpha]


def read_colours(pieces: Iterable[tuple[JoinPiece, Path]]) -> Histogram:
    """The sum of the colours of all pieces."""
    histogram = Histogram()
    for _, path in pieces:
        with zipfile.ZipFile(path) as archive, archive.open(_COLOURS) as file:
            histogram.add_packed(np.load(file))
    return histogram


def read_frames(pieces: Iterable[tuple[JoinPiece, Path]]) -> Iterator[tuple[Fraction, list[Bytes]]]:
    """All frames in order: seconds since the origin, and planes as they were written. Raises `EncodingFailed`
    where pieces do not fit together, or lack frames.
    """
    size: tuple[int, int] | None = None
    last: int | None = None
    for wanted, path in pieces:
        frames = 0
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(_PIXELS) as file,
            av.open(file, "r", _CONTAINER) as container,
        ):
            assert isinstance(container, InputContainer)
            for frame in container.decode(video=0):
                if size is not None and size != (frame.width, frame.height):
                    raise EncodingFailed("The pieces were not encoded alike and cannot be joined.")
                assert frame.pts is not None and frame.time_base is not None
                if last is not None and frame.pts <= last:
                    raise EncodingFailed("The times of the pieces overlap: they cannot be joined.")
                size, last = (frame.width, frame.height), frame.pts
                frames += 1
                yield frame.pts * frame.time_base, [view(plane, "u1") for plane in frame.planes]
        check_count(wanted, frames)
