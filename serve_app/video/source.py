"""Opens sources: accepted formats, selection of the streams, and choice of the decoder."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from serve_app.errors import UnsupportedVideo
from serve_app.video.codecs import AUDIO_DECODERS, DECODERS, DEMUXERS, VIDEO_DECODERS
from serve_app.video.sample_tables import check_sample_tables

SUPPORTED_FORMATS = [
    "mp4",
    "mov",
    "m4v",
    "webm",
    "mkv",
    "avi",
    "ts",
    "mpg",
    "flv",
    "wmv",
    "ogv",
    "3gp",
    "mxf",
    "gif",
]

_DECODERS = ",".join(sorted(DECODERS))
OPENING = {  # for FFmpeg's avformat_open_input, which opens decoders too
    "format_whitelist": DEMUXERS,
    "protocol_whitelist": "file",
    "codec_whitelist": _DECODERS,
}
# No decoder allocates a larger picture, whatever headers say; opening a file decodes some, too.
MAX_PIXELS = 1 << 26
_DECODING = {"max_pixels": str(MAX_PIXELS), "codec_whitelist": _DECODERS}
DECODING_ORDER = ("avi", "asf", "mxf")  # files may have timestamps in decoding order
_NOT_A_VIDEO = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
_ALPHA_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}  # FFmpeg's own decoders drop the alpha plane


def unsupported(message: str) -> UnsupportedVideo:
    """The error for an unusable source, with the list of supported formats."""
    return UnsupportedVideo(message, context={"supported_formats": SUPPORTED_FORMATS})


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a file for demuxing and close it at the end. Raises as `open_container`."""
    container = open_container(path)
    try:
        yield container
    finally:
        container.close()


def open_container(path: Path) -> InputContainer:
    """Open a file for demuxing. Raises `UnsupportedVideo` or `FileNotFoundError`."""
    if path.stat().st_size == 0:
        raise unsupported("The file is empty.")
    check_sample_tables(path)
    try:
        # Metadata may have any encoding: bytes that are not UTF-8 are replaced.
        return av.open(
            str(path),
            "r",
            options=dict(_DECODING),
            container_options=dict(OPENING),
            metadata_errors="replace",
        )
    except (FFmpegError, ValueError) as error:
        with path.open("rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp":
            raise unsupported("The file is truncated: it ends before its index (the 'moov' box).") from error
        raise unsupported(
            "The file is not a video in a supported format, or its header is damaged."
        ) from error


def video_stream(container: InputContainer) -> VideoStream:
    """The best video track: the default, else the largest. Ignores cover art and thumbnails."""
    tracks = [stream for stream in container.streams.video if not stream.disposition & _NOT_A_VIDEO]
    usable = [stream for stream in tracks if _decodable(stream, VIDEO_DECODERS)]
    if usable:
        return max(usable, key=_rank)
    if tracks:
        raise unsupported("The video track is in a codec that cannot be decoded.")
    raise unsupported(
        "The file has no video track, only audio."
        if container.streams.audio
        else "The file has no video track."
    )


def _rank(stream: VideoStream) -> tuple[bool, int]:
    context = stream.codec_context
    return bool(stream.disposition & Disposition.default), context.width * context.height


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The first decodable audio track, or None. A track without a sample rate has no samples."""
    for stream in container.streams.audio:
        if _decodable(stream, AUDIO_DECODERS) and stream.codec_context.sample_rate:
            return stream
    return None


def _decodable(stream: VideoStream | AudioStream, decoders: Container[str]) -> bool:
    return stream.codec_context is not None and stream.codec_context.codec.name in decoders


def only(container: InputContainer, wanted: Stream) -> None:
    """Make the demuxer skip all other tracks."""
    for stream in container.streams:
        if stream.index != wanted.index:
            stream.discard = Discard.all


def codec_name(stream: VideoStream | AudioStream) -> str:
    """The codec's name, independent of the decoder ("mp3", not "mp3float")."""
    return stream.codec_context.codec.canonical_name


def tagged_end(stream: VideoStream) -> Fraction | None:
    """The end of a track in seconds, from Matroska's DURATION tag ("00:01:02.345"), or None."""
    tags = {key.upper(): value for key, value in stream.metadata.items()}
    try:
        hours, minutes, seconds = tags.get("DURATION", "").strip("\0 ").split(":")
        return (int(hours) * 60 + int(minutes)) * 60 + Fraction(seconds)
    except ValueError:
        return None


def decoder_of(stream: VideoStream, threads: int) -> VideoCodecContext:
    """A decoder for `stream`, not yet opened; it supports alpha if the container declares alpha."""
    context: VideoCodecContext = stream.codec_context
    alpha = stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE"))
    name = _ALPHA_DECODERS.get(codec_name(stream))
    if alpha == "1" and name is not None:
        plain, context = context, CodecContext.create(name, "r")  # type: ignore[assignment]
        context.extradata = plain.extradata
        context.color_primaries, context.color_trc = plain.color_primaries, plain.color_trc
    context.options = dict(_DECODING)
    context.thread_count = threads
    context.thread_type = "AUTO"
    return context
