"""Indexes a source in one demux-only pass. Only one frame is decoded, for its format."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.stream import VideoStream

from serve_app.errors import FrameTooLarge, JobCancelled, VideoTooLong
from serve_app.picture import Geometry, PixelLayout, Ticks
from serve_app.protocols import Index, IndexBrief
from serve_app.settings import SourceLimits
from serve_app.video import colour_tags as colour
from serve_app.video.chroma_site import chroma_site_code
from serve_app.video.decode import FrameReader
from serve_app.video.geometry import geometry_of, hdr_metadata
from serve_app.video.planes import layout_of
from serve_app.video.source import audio_stream, codec_name, opened, unsupported, video_stream
from serve_app.video.survey import Survey, check_frames

DEFAULT_LIMITS = SourceLimits()


def probe(
    path: Path,
    limits: SourceLimits = DEFAULT_LIMITS,
    cancelled: Callable[[], bool] = lambda: False,
    decode: bool = False,
) -> Index:
    """Index a source.

    decode: determine the times by decoding all frames, for a source whose packets do not match its frames.
    cancelled: polled per packet, and per frame if the source is decoded.

    Raises `UnsupportedVideo` if the source has no decodable video, `FrameTooLarge` or `VideoTooLong` if it is over the
    limits, or `JobCancelled`.
    """
    with opened(path) as container:
        if len(container.streams) > limits.max_streams:
            raise unsupported(
                f"The file has {len(container.streams)} tracks; at most {limits.max_streams} are allowed."
            )
        stream, sound = video_stream(container), audio_stream(container)
        _check_size(stream.codec_context.width, stream.codec_context.height, limits)
        survey = Survey(path, container, stream, sound, limits.max_frames, cancelled)
        _check_size(survey.frame.width, survey.frame.height, limits)
        if container.streams.audio and sound is None:
            survey.damage.append("The audio is in a codec that cannot be decoded: it is left out.")
        codec, geometry = codec_name(stream), geometry_of(survey.frame, container, stream)
        layout = _with_chroma_site(layout_of(survey.frame, codec, geometry), path, stream.index, geometry)
        time_base = _time_base(stream)
        sequential = survey.sequential
        pts = survey.pts
        shifts: tuple[float, ...] = ()
        if sequential or decode:
            brief = IndexBrief(layout, geometry, time_base, sequential)
            pts, shifts = _decoded(path, brief, limits.max_frames, cancelled)
        rate = _rate(stream, pts, time_base)
        first, step = int(pts[0]), _typical_step(pts, rate, time_base)
        audio = survey.audio.describe(shifts) if survey.audio else None
        aspect = stream.sample_aspect_ratio or Fraction(1)
        origin = min(first, int(Fraction(audio.start_s) // time_base)) if audio else first
        last_duration = step if sequential else survey.last_duration or step
        _check_duration(float((int(pts[-1]) + last_duration - origin) * time_base), limits)
        return Index(
            layout=layout,
            geometry=geometry,
            sample_aspect=1 / aspect if geometry.sideways else aspect,
            time_base=time_base,
            pts=pts,
            keyframes=np.empty(0, np.int64) if sequential else survey.keyframes,
            frame_duration=step,
            last_duration=last_duration,
            average_rate=rate,
            origin=origin,
            sequential=sequential,
            audio=audio,
            codec=codec,
            damage=tuple(survey.damage),
            interlaced=survey.frame.interlaced_frame,
            hdr=hdr_metadata(survey.frame),
        )


def _check_size(width: int, height: int, limits: SourceLimits) -> None:
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise FrameTooLarge(
            f"The video is {width}x{height}; width and height are limited to {limits.max_side} pixels, and the whole "
            f"frame to {limits.max_pixels}.",
            context={"max_height": limits.max_side, "max_width": limits.max_side},
        )


def _check_duration(seconds: float, limits: SourceLimits) -> None:
    if seconds > limits.max_seconds:
        raise VideoTooLong(
            f"The video lasts {seconds:.0f} s, pauses included; at most {limits.max_seconds:g} s are allowed.",
            context={"max_duration": limits.max_seconds, "provided_duration": seconds},
        )


def _with_chroma_site(layout: PixelLayout, path: Path, stream: int, geometry: Geometry) -> PixelLayout:
    """The layout with the chroma site of the file, if it specifies one and needs no mirroring or rotation."""
    if layout.subsampling == "444" or geometry.mirrored or geometry.rotation:
        return layout
    site = colour.site_of_code(chroma_site_code(path, stream))
    return layout if site is None else replace(layout, chroma_site=site)


def _decoded(
    path: Path, brief: IndexBrief, max_frames: int, cancelled: Callable[[], bool]
) -> tuple[Ticks, tuple[float, ...]]:
    """The times of all decoded frames, and the corrections in seconds at each timestamp reset."""
    times = array("q")
    with closing(FrameReader(path, brief, threads=1)) as reader:
        while (timed := reader.next()) is not None:
            if cancelled():
                raise JobCancelled("The job was cancelled while its source was being indexed.")
            check_frames(len(times), max_frames)
            times.append(timed[0])
        if not times:
            raise unsupported("No frame of the video could be decoded.")
        shifts = tuple(float(shift * brief.time_base) for shift in reader.shifts)
        return np.array(times, np.int64), shifts


def _time_base(stream: VideoStream) -> Fraction:
    if not stream.time_base:
        raise unsupported("The video track has no time base.")
    return stream.time_base


def _rate(stream: VideoStream, pts: Ticks, time_base: Fraction) -> Fraction:
    """Frames per second: the declared rate if the timestamps confirm it, else the measured rate."""
    declared = stream.average_rate or stream.guessed_rate
    if len(pts) < 2:
        return declared or Fraction(25)
    measured = (len(pts) - 1) / ((int(pts[-1]) - int(pts[0])) * time_base)
    if declared and abs(declared / measured - 1) < 0.05:
        return declared
    # A frame in half an hour or more is rounded to none.
    return measured.limit_denominator(1001) or Fraction(1, round(1 / measured))


def _typical_step(pts: Ticks, rate: Fraction, time_base: Fraction) -> int:
    if len(pts) > 1:
        return max(1, int(np.median(np.diff(pts))))
    return max(1, round(1 / (rate * time_base)))
