"""What a request makes of a source: the chunks, and the options of each stage.

Pure functions of request, index and settings, so that every runner computes the same, and so does the function that
needs no runner (`serve_app.in_process`).
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from serve_app.jobs.request import JobRequest
from serve_app.picture import UNKNOWN_PEAK, PixelLayout
from serve_app.protocols import (
    SEEKS,
    Chunk,
    CutOptions,
    EncodeSettings,
    Expected,
    Index,
    IndexBrief,
    JoinPiece,
    JoinRequest,
)
from serve_app.settings import ChunkSettings, PictureSettings, Settings
from serve_app.video.formats import cutout_layout, has_alpha, output_aspect

MIN_FRAMES_BYTES = 8  # a chunk of `min_frames` may be so many times larger than `max_bytes`
REPEATED = 0.3  # of the frames may be decoded twice, so that several decoders can work on one source


class FrameBytes(NamedTuple):
    """Bytes of a frame in the object store: decoded, and as a cutout (colour and matte)."""

    source: int
    cutout: int

    @classmethod
    def of(cls, source: PixelLayout, cutout: PixelLayout) -> FrameBytes:
        return cls(source.frame_bytes, cutout.frame_bytes + cutout.width * cutout.height)

    @property
    def total(self) -> int:
        return self.source + self.cutout


def as_requested(index: Index, request: JobRequest, settings: Settings) -> Index:
    """The index, without the audio if it is to be dropped."""
    if request.drop_audio or settings.drop_audio:
        return replace(index, audio=None, origin=int(index.pts[0]))
    return index


def plan_chunks(index: Index, limits: ChunkSettings, cutout: PixelLayout | None = None) -> list[Chunk]:
    """Divide the whole source into chunks with nearly equal numbers of frames, none above the limits.

    cutout: layout of the cutouts, where it is not that of the source.
    """
    total = len(index.pts)
    if total == 0:
        return []
    frame_bytes = FrameBytes.of(index.layout, cutout or index.layout).total
    fitting = min(limits.max_frames, limits.max_bytes // frame_bytes)
    few = min(limits.min_frames, MIN_FRAMES_BYTES * limits.max_bytes // frame_bytes)
    count = -(-total // max(few, fitting, 1))
    edges = [number * total // count for number in range(count + 1)]
    chunks = []
    for number, (first, end) in enumerate(pairwise(edges)):
        start = int(index.pts[first]) if number else None
        stop = int(index.pts[end]) if end < total else None
        chunks.append(Chunk(number, start, stop, _seeks(index, start), end - first))
    return chunks


def _seeks(index: Index, start: int | None) -> tuple[int, ...]:
    """Keyframes to start from, nearest first: one earlier than needed, because frames around a keyframe may
    reference the preceding GOP, then 2, 4, 8, ... earlier, for containers with inexact seeking.
    """
    if start is None or index.sequential:
        return ()
    nearest = int(np.searchsorted(index.keyframes, start, side="right")) - 1
    back = (nearest - (1 << step) for step in range(SEEKS))
    return tuple(int(index.keyframes[at]) for at in back if at >= 0)


def cut_runs(index: Index, chunks: list[Chunk], decoders: int) -> list[list[Chunk]]:
    """Divide chunks into runs of consecutive ones. A decoder reads a run without a seek; `decoders` read at once.

    Starting a run decodes everything since the keyframe that it starts from. There are as many runs as decoders, of
    nearly equal length, each starting where that is cheap, as long as at most `REPEATED` of the frames are decoded in
    vain. A source that can only be read in order is one run.
    """
    frames = sum(chunk.frames for chunk in chunks)
    for count in range(1 if index.sequential else min(decoders, len(chunks)), 1, -1):
        reach = len(chunks) // (4 * count)
        cuts = [
            min(range(even - reach, even + reach + 1), key=lambda at: _start_cost(index, chunks[at]))
            for even in (number * len(chunks) // count for number in range(1, count))
        ]
        if sum(_start_cost(index, chunks[at]) for at in cuts) <= REPEATED * frames:
            return [chunks[first:end] for first, end in pairwise([0, *cuts, len(chunks)])]
    return [chunks] if chunks else []


def _start_cost(index: Index, chunk: Chunk) -> int:
    """The frames that are decoded before the first one of the chunk, with a decoder that is not there yet."""
    begin = int(np.searchsorted(index.pts, chunk.seek[0])) if chunk.seek else 0
    return 0 if chunk.start is None else int(np.searchsorted(index.pts, chunk.start)) - begin


def output_layout(request: JobRequest, index: Index, picture: PictureSettings) -> PixelLayout:
    """The pixel layout of a job's cutouts."""
    return cutout_layout(index.layout, request.output_type, index.sample_aspect, picture.keep_hdr)


def cut_options(request: JobRequest, index: Index, picture: PictureSettings) -> CutOptions:
    return CutOptions(
        operating_size=request.operating_size,
        refine_foreground=request.refine_foreground,
        over_black=not has_alpha(request.output_type),
        layout=output_layout(request, index, picture),
        snap_matte=picture.snap_matte,
        peak_nits=index.hdr.peak_nits if index.hdr else UNKNOWN_PEAK,
    )


def encode_settings(request: JobRequest, index: Index, picture: PictureSettings) -> EncodeSettings:
    return EncodeSettings(
        output_type=request.output_type,
        quality=request.quality,
        write_mode=request.write_mode,
        time_base=index.time_base,
        origin=index.origin,
        rate=index.average_rate,
        sample_aspect=output_aspect(request.output_type, index.sample_aspect),
        hdr=index.hdr if output_layout(request, index, picture).hdr else None,
    )


def recipe(request: JobRequest, index: Index, settings: Settings) -> str:
    """A digest of all that decides about a piece besides its chunk: decoding, network, cutting out, encoding.

    Pieces of different recipes must not be joined.
    """
    segmenter = settings.segmenter_for(request.variant)
    network = (segmenter.checkpoint, segmenter.revision, segmenter.engine, segmenter.dtype, segmenter.device)
    parts = (
        IndexBrief.of(index),
        request.variant,
        network,
        cut_options(request, index, settings.picture),
        encode_settings(request, index, settings.picture),
        request.output_mask,
        settings.encoder.threads,
    )
    return sha256(repr(parts).encode()).hexdigest()


def join_request(
    settings: EncodeSettings,
    index: Index,
    pieces: tuple[JoinPiece, ...],
    expected: Expected,
    source: str,
    output: str,
    mask: bool = False,
) -> JoinRequest:
    """The join of the output, with the source's audio, or of the mask. `settings`: of the output's pieces."""
    return JoinRequest(
        pieces=pieces,
        source=source,
        audio=None if mask else index.audio,
        settings=replace(settings, mask=mask),
        expected=expected,
        output=output,
    )
