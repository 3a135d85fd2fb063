"""Opening a source: which files are let in, which stream is the video, which decoder reads it."""

from __future__ import annotations

from collections.abc import Iterator
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

# Only demuxers that read one file: a playlist (HLS, DASH, concat, SDP) could name other files and addresses.
_DEMUXERS = ("mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,mxf,gif,nut,ivf,"
             "h264,hevc,m4v,mjpeg,yuv4mpegpipe,dv,apng,av1,obu,mp3,aac,wav,flac")  # fmt: skip
OPENING = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}  # for FFmpeg's avformat_open_input
DECODING_ORDER = ("avi", "asf", "mxf")  # some files of these give a frame the time of its turn in decoding
_NOT_A_VIDEO = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
_ALPHA_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}  # FFmpeg's own decoders drop the alpha plane


def unsupported(message: str) -> UnsupportedVideo:
    """The error for a source that cannot be used; `message` says what is wrong with it."""
    return UnsupportedVideo(message, context={"supported_formats": SUPPORTED_FORMATS})


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """The file as a container, closed at the end. Raises `UnsupportedVideo` for what is none."""
    container = open_container(path)
    try:
        yield container
    finally:
        container.close()


def open_container(path: Path) -> InputContainer:
    """Opens a file for demuxing. Raises `UnsupportedVideo`; `FileNotFoundError` when there is no file."""
    if path.stat().st_size == 0:
        raise unsupported("The file is empty.")
    try:
        # Names and titles may be in any encoding: what is not UTF-8 is replaced, sign by sign.
        return av.open(str(path), "r", container_options=dict(OPENING), metadata_errors="replace")
    except (FFmpegError, ValueError) as error:
        with path.open("rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp":
            raise unsupported("The file is truncated: it ends before its index (the 'moov' box).") from error
        raise unsupported(
            "The file is not a video in a supported format, or its header is damaged."
        ) from error


def video_stream(container: InputContainer) -> VideoStream:
    """The best video track: the one marked as default, else the largest; cover art and thumbnails do not count."""
    tracks = [stream for stream in container.streams.video if not stream.disposition & _NOT_A_VIDEO]
    usable = [stream for stream in tracks if stream.codec_context is not None]
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
    """The first audio track that can be decoded, if any. One without a rate never delivered a sample."""
    for stream in container.streams.audio:
        if stream.codec_context is not None and stream.codec_context.sample_rate:
            return stream
    return None


def only(container: InputContainer, wanted: Stream) -> None:
    """Spares the demuxer reading the other tracks."""
    for stream in container.streams:
        if stream.index != wanted.index:
            stream.discard = Discard.all


def codec_name(stream: VideoStream | AudioStream) -> str:
    """The codec's own name, whichever decoder reads it ("mp3", not "mp3float")."""
    return stream.codec_context.codec.canonical_name


def tagged_end(stream: VideoStream) -> Fraction | None:
    """The second at which a track ends by Matroska's DURATION tag ("00:01:02.345"), if it has one."""
    tags = {key.upper(): value for key, value in stream.metadata.items()}
    try:
        hours, minutes, seconds = tags.get("DURATION", "").strip("\0 ").split(":")
        return (int(hours) * 60 + int(minutes)) * 60 + Fraction(seconds)
    except ValueError:
        return None


def decoder_of(stream: VideoStream, threads: int) -> VideoCodecContext:
    """A decoder for `stream`, not opened yet; one that knows alpha where the container announces it."""
    context: VideoCodecContext = stream.codec_context
    alpha = stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE"))
    name = _ALPHA_DECODERS.get(codec_name(stream))
    if alpha == "1" and name is not None:
        plain, context = context, CodecContext.create(name, "r")  # type: ignore[assignment]
        context.extradata = plain.extradata
        context.color_primaries, context.color_trc = plain.color_primaries, plain.color_trc
    context.thread_count = threads
    context.thread_type = "AUTO"
    return context
