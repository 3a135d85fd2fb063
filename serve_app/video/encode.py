"""Encodes a chunk as a piece: a file with one closed GOP and the source's timestamps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from serve_app.errors import EncodingFailed
from serve_app.picture import Plane
from serve_app.protocols import Cutout, EncodeSettings
from serve_app.video.figures import PieceFigures
from serve_app.video.formats import OutputFormat, output_format
from serve_app.video.gif.piece import write_gif_piece
from serve_app.video.mask import mask_layout, mask_pictures
from serve_app.video.mastering import write_mastering
from serve_app.video.writer import Picture, PieceWriter, complete_or_removed


def encode_piece(
    cutout: Cutout, settings: EncodeSettings, path: Path, cancelled: Callable[[], bool], threads: int = 1
) -> PieceFigures:
    """Write a cutout, or only its matte if `settings.mask`, to `path`. The same cutout, settings and `threads` give the
    same bytes.

    Raises `EncodingFailed`, `StorageFull` or `JobCancelled`, and then leaves no file at `path`.
    """
    form = output_format(settings.output_type, settings.mask)
    if not len(cutout.colour):
        raise EncodingFailed("A chunk without frames cannot be encoded.")
    _check_layout(cutout, form)
    with complete_or_removed(path):
        if form.is_gif:
            write_gif_piece(cutout, settings, path, cancelled, threads)
        else:
            layout = mask_layout(cutout.colour.layout, form) if settings.mask else cutout.colour.layout
            pictures = mask_pictures(cutout, layout) if settings.mask else _pictures(cutout, form)
            options = form.encoder_options(settings.quality, settings.write_mode)
            writer = PieceWriter(form, settings, layout, threads, form.container, options)
            writer.write(path, pictures, cancelled)
            if settings.hdr is not None and layout.hdr:
                write_mastering(path, settings.hdr)
    pts = cutout.colour.pts
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return PieceFigures(len(pts), int(pts[0]), int(pts[-1]), path.stat().st_size, digest)


def _check_layout(cutout: Cutout, form: OutputFormat) -> None:
    layout = cutout.colour.layout
    have = (layout.subsampling, layout.depth, layout.alpha, layout.matrix == "rgb")
    if have != (form.subsampling, form.depth, False, form.rgb) or (form.limited and layout.full_range):
        sampling = "RGB" if form.rgb else ":".join(form.subsampling)
        limited = " limited range" if form.limited else ""
        raise EncodingFailed(
            f"Colour must arrive as {form.depth}-bit {sampling}{limited} without alpha, not as {layout}."
        )


def _pictures(cutout: Cutout, form: OutputFormat) -> Iterator[Picture]:
    """The colour planes of each frame, with the matte as the alpha plane if the output has one."""
    for row, pts in enumerate(cutout.colour.pts):
        planes: list[Plane] = [plane[row] for plane in cutout.colour.planes]
        if form.alpha:
            planes.append(_with_depth(cutout.matte[row], form.depth))
        yield int(pts), planes


def _with_depth(matte: Plane, depth: int) -> Plane:
    """The matte with `depth` bits per sample. 255 becomes the maximum; dropping the new low bits restores the matte."""
    if depth == 8:
        return matte
    wide = matte.astype(np.uint16)
    return (wide << (depth - 8) | wide >> (16 - depth)).astype(np.uint16)
