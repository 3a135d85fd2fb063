"""Writes and reads the pieces of a GIF.

A piece is an uncompressed zip archive with the lossless frames (a NUT file) and their colour histogram. The join reads
all pieces twice: first the histograms, then the frames, one at a time.
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

VISIBLE_FROM = 128  # matte value from which a pixel is visible
_CONTAINER = "nut"  # supports any time base
_PIXELS, _COLOURS = "frames.nut", "colours.npy"
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # constant, for reproducible files


def write_gif_piece(
    cutout: Cutout, settings: EncodeSettings, path: Path, cancelled: Callable[[], bool], threads: int
) -> None:
    """Write a cutout, or its matte, to `path`. Raises as `PieceWriter.write`."""
    form = output_format(settings.output_type, settings.mask)
    histogram = Histogram()
    layout = cutout.colour.layout
    if settings.mask:
        layout = mask_layout(layout, form)
    pictures = mask_pictures(cutout, layout) if settings.mask else _visible(cutout, histogram)
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
    return archive.open(zipfile.ZipInfo(name, _TIMESTAMP), "w", force_zip64=True)


def _visible(cutout: Cutout, histogram: Histogram) -> Iterator[Picture]:
    """Yield G, B, R and an alpha of 0 or 255 for each frame, black where transparent; counts visible colours."""
    for row, pts in enumerate(cutout.colour.pts):
        visible = cutout.matte[row] >= VISIBLE_FROM
        planes = [np.where(visible, plane[row], 0).astype(np.uint8) for plane in cutout.colour.planes]
        red, green, blue = planes
        histogram.add(red[visible], green[visible], blue[visible])
        alpha: Plane = np.where(visible, 255, 0).astype(np.uint8)
        yield int(pts), [green, blue, red, alpha]


def read_colours(pieces: Iterable[tuple[JoinPiece, Path]]) -> Histogram:
    """The sum of the histograms of all pieces."""
    histogram = Histogram()
    for _, path in pieces:
        with zipfile.ZipFile(path) as archive, archive.open(_COLOURS) as file:
            histogram.add_packed(np.load(file))
    return histogram


def read_frames(pieces: Iterable[tuple[JoinPiece, Path]]) -> Iterator[tuple[Fraction, list[Bytes]]]:
    """Yield all frames in order: seconds since the origin, and the planes. Raises `EncodingFailed` if pieces are
    incompatible or incomplete.
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
                    raise EncodingFailed("The pieces have different encoder settings and cannot be joined.")
                assert frame.pts is not None and frame.time_base is not None
                if last is not None and frame.pts <= last:
                    raise EncodingFailed("The timestamps of the pieces overlap: they cannot be joined.")
                size, last = (frame.width, frame.height), frame.pts
                frames += 1
                yield frame.pts * frame.time_base, [view(plane, "u1") for plane in frame.planes]
        check_count(wanted, frames)
