"""Encoding one chunk into a piece: a file of its own with a closed group of pictures at the source's times."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from serve_app.errors import EncodingFailed, JobCancelled, StorageFull
from serve_app.protocols import Cutout, EncodeSettings, PixelLayout, even

from . import colour
from .formats import OutputFormat, output_format
from .planes import fill


@dataclass(frozen=True, slots=True)
class PieceFigures:
    """What is known of a piece once it is written. PTS are ticks of the source; `size` is in bytes."""

    frames: int
    first_pts: int
    last_pts: int
    size: int
    sha256: str


def encode_piece(
    cutout: Cutout, settings: EncodeSettings, path: Path, cancelled: Callable[[], bool], threads: int = 1
) -> PieceFigures:
    """Writes a cutout to `path`. The same cutout, settings and `threads` give the same bytes.

    Raises `EncodingFailed`, `StorageFull`, and `JobCancelled`; nothing is left at `path` then.
    """
    layout, count = cutout.colour.layout, len(cutout.colour)
    if count == 0:
        raise EncodingFailed("A chunk without frames cannot be encoded.")
    if (layout.subsampling, layout.depth, layout.alpha) != ("420", 8, False) or layout.matrix == "rgb":
        raise EncodingFailed(f"Colour must arrive as 8-bit 4:2:0 without alpha, not as {layout}.")
    form = output_format(settings.output_type)
    try:
        with av.open(
            str(path), "w", form.container, container_options=form.muxer_options(settings.time_base)
        ) as out:
            stream = _video_stream(out, form, settings, layout, threads)
            for row in range(count):
                if cancelled():
                    raise JobCancelled("The job was cancelled while its video was being encoded.")
                out.mux(stream.encode(_frame(cutout, row, stream, settings)))
            out.mux(stream.encode(None))
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, FFmpegError):
            raise writing_failed(error) from error
        raise
    pts = cutout.colour.pts
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return PieceFigures(count, int(pts[0]), int(pts[-1]), path.stat().st_size, digest)


def writing_failed(error: FFmpegError) -> EncodingFailed | StorageFull:
    """Our error for one of FFmpeg's while writing."""
    with suppress(AttributeError):
        if error.errno == 28:  # ENOSPC
            return StorageFull("The disk is full: free space or lower the number of concurrent jobs.")
    return EncodingFailed(f"The output could not be written: {error.strerror or error}.")


def _video_stream(
    out: OutputContainer, form: OutputFormat, settings: EncodeSettings, layout: PixelLayout, threads: int
) -> VideoStream:
    options = form.encoder_options(settings.quality, settings.write_mode)
    options["chroma_sample_location"] = layout.chroma_site
    if form.codec == "libx264" and _has_avx512():
        options["x264-params"] = "asm=avx2"
    stream: VideoStream = out.add_stream(form.codec, rate=settings.rate, options=options)  # type: ignore[assignment]
    size = even(layout) if form.even else layout
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = size.width, size.height, form.pixel_format
    context.time_base = settings.time_base
    context.sample_aspect_ratio = settings.sample_aspect
    context.thread_count = threads
    context.flags |= Flags.bitexact
    context.colorspace = colour.matrix_code(layout)
    context.color_range = colour.range_code(layout)
    context.color_primaries, context.color_trc = layout.primaries, layout.transfer
    if form.alpha:
        stream.metadata["alpha_mode"] = "1"
    return stream


@cache
def _has_avx512() -> bool:
    """x264 (core 165) with AVX-512 reads memory that it never wrote in its macroblock tree: the same frames
    give other bytes from run to run. Up to AVX2 it does not, and all levels up to there agree.
    """
    cpus = Path("/proc/cpuinfo")
    return cpus.exists() and "avx512" in cpus.read_text()


def _frame(cutout: Cutout, row: int, stream: VideoStream, settings: EncodeSettings) -> VideoFrame:
    context = stream.codec_context
    frame = VideoFrame(context.width, context.height, context.pix_fmt or "")
    planes = [plane[row] for plane in cutout.colour.planes]
    if len(frame.planes) == 4:
        planes.append(cutout.matte[row])
    for target, samples in zip(frame.planes, planes, strict=True):
        fill(target, samples)
    frame.pts = int(cutout.colour.pts[row]) - settings.origin
    frame.time_base = settings.time_base
    frame.colorspace, frame.color_range = context.colorspace, context.color_range
    frame.color_primaries, frame.color_trc = context.color_primaries, context.color_trc
    return frame
