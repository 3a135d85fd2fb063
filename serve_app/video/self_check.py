"""Verifies a finished file against the plan and the source's index.

Pieces must have the digests of the encoded bytes. The written file must have the planned number of frames, the first
and last frame of each piece at their times, the source's duration, and the audio in its place; and its first, middle
and last frame must be decodable, with their alpha.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from serve_app.errors import EncodingFailed
from serve_app.protocols import JoinPiece, JoinRequest, MediaFile
from serve_app.video.audio_survey import AudioSurvey
from serve_app.video.formats import OutputFormat
from serve_app.video.source import decoder_of, tagged_end

_AUDIO_START_S = 0.05  # one codec frame, or the encoder's delay
_AUDIO_END_S = 0.25  # the last packets of a track may be cut with the video
_GIF_TICKS = 2  # hundredths of a second: rounding, and the shortest duration of an image


def check_plan(request: JoinRequest) -> None:
    """Raise `EncodingFailed` unless the pieces match the plan."""
    pieces, expected = request.pieces, request.expected
    if not pieces:
        raise EncodingFailed("There is nothing to join: no piece has a frame.")
    frames = sum(piece.frames for piece in pieces)
    _agree("frames in the pieces", frames, expected.frames)
    _agree("time of the first frame", pieces[0].first_pts, expected.first_pts)
    _agree("time of the last frame", pieces[-1].last_pts, expected.last_pts)


def verified_pieces(paths: Iterable[Path], request: JoinRequest) -> Iterator[tuple[JoinPiece, Path]]:
    """Yield the pieces with their paths after verifying their digests. Raises `EncodingFailed`."""
    for piece, path in zip(request.pieces, paths, strict=True):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != piece.sha256:
            raise EncodingFailed(
                f"The piece {piece.name} was changed after it was encoded (SHA-256 {digest[:12]}…, not "
                f"{piece.sha256[:12]}…). Check the disk or the bucket of the artifacts, and send the request again."
            )
        yield piece, path


def check_count(piece: JoinPiece, frames: int) -> None:
    """Raise `EncodingFailed` if a piece does not have the number of encoded frames."""
    _agree(f"frames in the piece {piece.name}", frames, piece.frames)


def check_video(path: Path, request: JoinRequest, form: OutputFormat) -> MediaFile:
    """Verify a finished file and return its properties. Raises `EncodingFailed` if they are not as expected."""
    with _reading(path) as container:
        stream = container.streams.video[0]
        figures = _Figures.of(container, stream, request, form)
        _check_times(figures, request)
        _check_audio(figures, request)
        _check_pictures(container, stream, request, form)
        return figures.media(path, stream, request, form)


def check_gif(path: Path, request: JoinRequest, form: OutputFormat, images: int) -> MediaFile:
    """Verify a GIF with `images` images, which are fewer than the frames of a fast source."""
    expected = request.expected
    with _reading(path) as container:
        stream = container.streams.video[0]
        # Each image can be decoded alone: the canvas is cleared or overwritten before it.
        shown = {0, images // 2, images - 1}
        found, ticks = 0, 0
        for packet in container.demux(stream):
            if packet.size:
                if found in shown:
                    for frame in stream.codec_context.decode(packet):
                        shown.discard(found)
                        _check_picture(frame, form)
                found, ticks = found + 1, ticks + (packet.duration or 0)
        _agree("images in the GIF", found, images)
        _agree("images that cannot be decoded", len(shown), 0)
        wanted = (expected.end - expected.first_pts) * request.settings.time_base
        if abs(ticks * (stream.time_base or 0) - wanted) > _GIF_TICKS * Fraction(1, 100):
            raise _differs("duration in seconds", float(ticks / 100), float(wanted))
        figures = _Figures(found, [], Fraction(0), ticks * Fraction(1, 100), Fraction(1, 100), None)
        return figures.media(path, stream, request, form)


@dataclass(frozen=True, slots=True)
class _Figures:
    """Properties from one pass over a file's packets, in seconds. `edges`: first and last frame time of each piece."""

    frames: int
    edges: list[tuple[Fraction, Fraction]]
    start: Fraction
    end: Fraction
    tick: Fraction
    audio: AudioSurvey | None

    @classmethod
    def of(
        cls, container: InputContainer, stream: VideoStream, request: JoinRequest, form: OutputFormat
    ) -> _Figures:
        tick = stream.time_base or Fraction(1, 1000)
        usual = round(request.expected.frame_duration * request.settings.time_base / tick)
        audio = AudioSurvey(container.streams.audio[0]) if container.streams.audio else None
        edges: list[tuple[Fraction, Fraction]] = []
        counts = (piece.frames for piece in request.pieces)
        frames, left, end = 0, 0, Fraction(0)
        for packet in container.demux():
            if not packet.size or packet.pts is None:
                continue
            if audio and packet.stream_index == audio.stream.index:
                audio.packet(packet)
            elif packet.stream_index == stream.index:
                time = packet.pts * tick
                if not left:  # the frames of a piece are contiguous, but not in presentation order
                    left = next(counts, 0)
                    edges.append((time, time))
                edges[-1] = min(edges[-1][0], time), max(edges[-1][1], time)
                left, frames = left - 1, frames + 1
                end = max(end, time + (packet.duration or usual) * tick)
        # Packet durations are in decoding order or missing, so the end comes from the edit list or a tag.
        if form.is_quicktime:
            end = ((stream.start_time or 0) + (stream.duration or 0)) * tick
        else:
            end = tagged_end(stream) or end
        return cls(frames, edges, edges[0][0] if edges else Fraction(0), end, tick, audio)

    def media(self, path: Path, stream: VideoStream, request: JoinRequest, form: OutputFormat) -> MediaFile:
        duration = self.end - self.start
        rate = request.settings.rate  # unless the file differs by more than the rounding of its times
        if duration and abs(self.frames / rate - duration) > 2 * self.tick:
            rate = self.frames / duration
        return MediaFile(
            name=request.output,
            content_type=form.content_type,
            file_name=Path(request.output).name,
            file_size=path.stat().st_size,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            fps=round(float(rate), 6),
            duration=round(float(duration), 6),
            num_frames=self.frames,
        )


def _check_times(found: _Figures, request: JoinRequest) -> None:
    settings, expected = request.settings, request.expected
    _agree("frames in the file", found.frames, expected.frames)

    def seconds(pts: int) -> Fraction:
        return (pts - settings.origin) * settings.time_base

    for number, (piece, edges) in enumerate(zip(request.pieces, found.edges, strict=True)):
        for what, pts, time in zip(("first", "last"), (piece.first_pts, piece.last_pts), edges, strict=True):
            if abs(time - seconds(pts)) > found.tick:
                raise _differs(
                    f"time of the {what} frame of piece {number}", float(time), float(seconds(pts))
                )
    if abs(found.end - seconds(expected.end)) > 2 * found.tick:
        raise _differs("end in seconds", float(found.end), float(seconds(expected.end)))


def _check_audio(found: _Figures, request: JoinRequest) -> None:
    settings, source, track = request.settings, request.audio, found.audio
    if settings.mask or source is None:
        _agree("audio tracks", int(track is not None), 0)
        return
    origin = float(settings.origin * settings.time_base)
    start, end = source.start_s - origin, min(source.end_s - origin, float(found.end))
    written = track.describe(()) if track else None
    if source.damaged or end - start < _AUDIO_END_S:  # its audible part is unknown
        return
    if written is None:
        raise _differs("packets of audio", 0, source.packets)
    if written.damaged:
        raise _differs("packets of audio that cannot be decoded", written.damaged, 0)
    if abs(written.start_s - start) > _AUDIO_START_S:
        raise _differs("start of the audio in seconds", written.start_s, start)
    if written.end_s < end - _AUDIO_END_S:
        raise _differs("end of the audio in seconds", written.end_s, end)


def _check_pictures(
    container: InputContainer, stream: VideoStream, request: JoinRequest, form: OutputFormat
) -> None:
    """Decode the first frame, the first of the middle piece, and the last."""
    pieces, settings = request.pieces, request.settings
    first, middle, last = pieces[0], pieces[len(pieces) // 2], pieces[-1]
    tick = stream.time_base or Fraction(1, 1000)
    decoder = decoder_of(stream, threads=1)
    for piece, pts in ((first, first.first_pts), (middle, middle.first_pts), (last, last.last_pts)):
        start, wanted = (
            round((at - settings.origin) * settings.time_base / tick) for at in (piece.first_pts, pts)
        )
        container.seek(start, stream=stream)
        if decoder.is_open:
            decoder.flush_buffers()
        frames = (
            frame
            for packet in container.demux(stream)
            for frame in decoder.decode(packet if packet.size else None)
            if frame.pts is not None and abs(frame.pts - wanted) <= 1
        )
        frame = next(frames, None)
        if frame is None:
            raise EncodingFailed(
                f"The frame at {float(wanted * tick):.3f} s of the written file cannot be decoded."
            )
        _check_picture(frame, form)


def _check_picture(frame: VideoFrame, form: OutputFormat) -> None:
    if frame.is_corrupt:
        raise EncodingFailed(f"The frame at {frame.time:.3f} s of the written file is damaged.")
    alpha = any(component.is_alpha for component in frame.format.components)
    if form.alpha and not alpha:
        raise EncodingFailed(f"The frame at {frame.time:.3f} s of the written file has no alpha.")


@contextmanager
def _reading(path: Path) -> Iterator[InputContainer]:
    """Open the written file. Raises `EncodingFailed` if it cannot be read."""
    try:
        with av.open(str(path), "r") as container:
            yield container
    except FFmpegError as error:
        raise EncodingFailed(f"The written file cannot be read: {error.strerror or error}.") from error


def _agree(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise _differs(what, found, wanted)


def _differs(what: str, found: float, wanted: float) -> EncodingFailed:
    return EncodingFailed(
        f"The output failed verification: {what}: {found:g}, expected {wanted:g}. Send the request again; if it fails "
        "again, report it as a bug of the service."
    )
