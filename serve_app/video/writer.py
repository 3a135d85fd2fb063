"""Encodes and muxes pictures: the part of encoding that all pieces share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import ENOSPC
from functools import cache
from pathlib import Path

import av
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from serve_app.errors import EncodingFailed, JobCancelled, StorageFull
from serve_app.picture import PixelLayout, Plane
from serve_app.protocols import EncodeSettings
from serve_app.video import colour_tags as colour
from serve_app.video.formats import Options, OutputFormat
from serve_app.video.planes import fill

Picture = tuple[int, list[Plane]]  # PTS of the source, and planes in the encoder's order


class PieceWriter:
    """Writes the pictures of one piece, given in `layout`, with the source's timestamps."""

    def __init__(
        self,
        form: OutputFormat,
        settings: EncodeSettings,
        layout: PixelLayout,
        threads: int,
        container: str,
        options: Options,
    ) -> None:
        self._form, self._settings, self._layout = form, settings, layout
        self._threads, self._container, self._options = threads, container, options

    def write(self, path: Path, pictures: Iterable[Picture], cancelled: Callable[[], bool]) -> None:
        """Write the file. Raises `FFmpegError` or `JobCancelled`, and may then leave a partial file."""
        muxing = self._form.muxer_options(self._settings.time_base)
        with av.open(str(path), "w", self._container, container_options=muxing) as out:
            stream = self._stream(out)
            for pts, planes in pictures:
                if cancelled():
                    raise JobCancelled("The job was cancelled while its video was being encoded.")
                out.mux(stream.encode(self._frame(stream, pts, planes)))
            out.mux(stream.encode(None))

    def _stream(self, out: OutputContainer) -> VideoStream:
        form, settings, layout = self._form, self._settings, self._layout
        options = dict(self._options)
        if layout.subsampling == "420":
            options["chroma_sample_location"] = layout.chroma_site
        if form.codec == "libx264" and has_avx512():
            options["x264-params"] = "asm=avx2"
        stream: VideoStream = out.add_stream(form.codec, rate=settings.rate, options=options)  # type: ignore[assignment]
        context = stream.codec_context
        step = 2 if form.even else 1
        context.width, context.height = -(-layout.width // step) * step, -(-layout.height // step) * step
        context.pix_fmt = form.pixel_format
        context.time_base = settings.time_base
        context.sample_aspect_ratio = settings.sample_aspect
        context.thread_count = self._threads
        context.flags |= Flags.bitexact
        context.colorspace = colour.matrix_code(layout)
        context.color_range = colour.range_code(layout)
        context.color_primaries, context.color_trc = layout.primaries, layout.transfer
        if form.alpha:
            stream.metadata["alpha_mode"] = "1"
        return stream

    def _frame(self, stream: VideoStream, pts: int, planes: list[Plane]) -> VideoFrame:
        context = stream.codec_context
        frame = VideoFrame(context.width, context.height, context.pix_fmt or "")
        for target, samples in zip(frame.planes, planes, strict=True):
            fill(target, samples)
        frame.pts = pts - self._settings.origin
        frame.time_base = self._settings.time_base
        frame.colorspace, frame.color_range = context.colorspace, context.color_range
        frame.color_primaries, frame.color_trc = context.color_primaries, context.color_trc
        return frame


@contextmanager
def complete_or_removed(path: Path) -> Iterator[None]:
    """Remove a partial file at `path` on failure. Converts FFmpeg's errors and a full disk to `ServiceError`."""
    try:
        yield
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, FFmpegError) or (isinstance(error, OSError) and error.errno == ENOSPC):
            raise writing_failed(error) from error
        raise


def writing_failed(error: FFmpegError | OSError) -> EncodingFailed | StorageFull:
    """The `ServiceError` for an error of FFmpeg or the system while writing."""
    with suppress(AttributeError):
        if error.errno == ENOSPC:
            return StorageFull("The disk is full: free space or lower the number of concurrent jobs.")
    return EncodingFailed(f"The output could not be written: {error.strerror or error}.")


@cache
def has_avx512() -> bool:
    """x264 (core 165) with AVX-512 reads uninitialised memory in its macroblock tree, so the same frames give
    different bytes from run to run. Up to AVX2 it does not, and all levels give the same bytes.
    """
    cpus = Path("/proc/cpuinfo")
    return cpus.exists() and "avx512" in cpus.read_text()
