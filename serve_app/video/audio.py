"""Adds the source's audio to the output: copied if the container supports the codec, else re-encoded.

All steps are generators, so the memory does not depend on the duration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeAlias, cast

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from serve_app.errors import UnsupportedVideo
from serve_app.protocols import AudioInfo
from serve_app.video.audio_survey import RESET_S
from serve_app.video.formats import OutputFormat
from serve_app.video.source import audio_stream, codec_name, only, unsupported

AudioPacket: TypeAlias = "Packet[AudioStream]"  # PyAV can be subscripted in annotations only

# Channel layouts that encoders and players support, by channel count. 5.1(side), as in AC-3 and DTS, is rejected
# by libopus and makes AAC write a custom channel table: it becomes 5.1, which has the same speakers.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# AAC has no quad (the fifth channel stays silent), no 6.1, and a 7.1 with other speakers: 6.1 and 7.1 are downmixed.
_AAC_LAYOUTS = _LAYOUTS | {4: "5.0", 7: "5.1", 8: "5.1"}
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_OPUS_RATE = 48000
_BITS_PER_CHANNEL = 80_000
_JITTER_S = Fraction(2, 100)  # containers round timestamps; a larger difference is a gap or an overlap
_KEPT_TAGS = ("language", "title", "handler_name")


class AudioTrack:
    """Writes the audio of a source to `out`. Create it before anything is muxed; iterate `packets` once.

    `origin`: the time of the source, in seconds, that becomes time 0.
    """

    def __init__(
        self,
        source: InputContainer,
        out: OutputContainer,
        form: OutputFormat,
        origin: Fraction,
        info: AudioInfo,
    ) -> None:
        stream = audio_stream(source)
        assert stream is not None, "the index lists an audio track"
        self._source, self._in, self._origin, self._resets = source, stream, origin, info.resets
        only(source, stream)
        # The decoder's preroll may lie before time 0, which only MP4 and MOV can express.
        self._preroll = form.is_quicktime
        codec = codec_name(stream)
        # Copied PCM would lose its gaps, as its packets have no timestamps. Re-encoded, gaps are filled with silence.
        pcm = codec.startswith("pcm_")
        self._copies = codec in form.copied_audio and not pcm
        if self._copies:
            self.stream = out.add_stream_from_template(stream)
        else:
            self.stream = self._encoder(
                out, codec if pcm and codec in form.copied_audio else form.audio_encoder
            )
        tags = {key.lower(): value for key, value in stream.metadata.items()}
        self.stream.metadata.update({key: tags[key] for key in _KEPT_TAGS if key in tags})

    def packets(self) -> Iterator[AudioPacket]:
        """Yield the output's packets in order. Raises `UnsupportedVideo` if the track cannot be decoded."""
        last: int | None = None
        for packet in self._copied() if self._copies else self._encoded():
            if packet.pts is None or (last is not None and packet.pts <= last):
                continue  # a stutter in the source: muxers require increasing timestamps
            last = packet.dts = packet.pts
            packet.stream = self.stream
            yield packet

    def _copied(self) -> Iterator[AudioPacket]:
        time_base = self._in.time_base or Fraction(1, 1)
        shift = round(self._origin / time_base)
        try:
            for packet in self._demuxed():
                if not packet.size or packet.pts is None:
                    continue
                packet.pts -= shift
                if self._preroll or packet.pts + (packet.duration or 0) > 0:
                    yield packet
        except FFmpegError as error:
            raise self._failed(error) from error

    def _demuxed(self) -> Iterator[AudioPacket]:
        """The source's packets. After a jump back of their timestamps they are shifted like the video's."""
        resets = iter(self._resets)
        last, shift = Fraction(0), Fraction(0)
        for packet in self._source.demux(self._in):
            if packet.pts is not None and packet.size:
                time = packet.pts * packet.time_base
                if time < last - RESET_S:
                    shift = Fraction(next(resets, float(shift)))
                last = time
                packet.pts += round(shift / packet.time_base)
            yield packet

    def _encoder(self, out: OutputContainer, name: str) -> AudioStream:
        context = self._in.codec_context
        rate, layouts = _supported(name, context.sample_rate)
        stream = cast(AudioStream, out.add_stream(name, rate=rate))
        stream.codec_context.layout = layouts.get(context.layout.nb_channels, "stereo")
        if not name.startswith("pcm"):
            stream.codec_context.bit_rate = _BITS_PER_CHANNEL * stream.codec_context.layout.nb_channels
        stream.codec_context.flags |= Flags.bitexact
        stream.codec_context.time_base = Fraction(1, rate)
        return stream

    def _encoded(self) -> Iterator[AudioPacket]:
        context = self.stream.codec_context
        resampler: av.AudioResampler | None = None
        form: tuple[str, str, int] | None = None
        for frame in _contiguous(self._decoded()):
            if form != (form := (frame.format.name, frame.layout.name, frame.sample_rate)):
                # At the first frame, as the encoder's frame size is known by then, and at each change of the
                # channel layout in a broadcast.
                resampler = av.AudioResampler(
                    context.format, context.layout, context.sample_rate, frame_size=context.frame_size or None
                )
            assert resampler is not None
            for part in resampler.resample(frame):
                yield from context.encode(part)
        if resampler is not None:
            for rest in resampler.resample(None):
                yield from context.encode(rest)
            yield from context.encode(None)

    def _decoded(self) -> Iterator[AudioFrame]:
        """Frames with the output's timestamps, without those before its start."""
        decoder, any_decoded = self._in.codec_context, False
        last: FFmpegError | None = None
        for packet in self._demuxed():
            try:
                frames = decoder.decode(packet if packet.size else None)
            except FFmpegError as error:
                last = error  # a damaged packet becomes silence; only a fully damaged track is an error
                continue
            for frame in frames:
                any_decoded = True
                if frame.pts is None or frame.time_base is None:
                    continue
                frame.pts = frame.pts - round(self._origin / frame.time_base)
                if frame.pts * frame.time_base + Fraction(frame.samples, frame.sample_rate) > 0:
                    yield frame
        if last is not None and not any_decoded:
            raise self._failed(last) from last

    def _failed(self, error: FFmpegError) -> UnsupportedVideo:
        return unsupported(
            f"The audio track ({codec_name(self._in)}) cannot be decoded: {error.strerror or error}."
        )


def _contiguous(frames: Iterable[AudioFrame]) -> Iterator[AudioFrame]:
    """Fill gaps between the frames with silence, and drop frames that overlap others."""
    end: Fraction | None = None
    for frame in frames:
        assert frame.pts is not None and frame.time_base is not None
        start = frame.pts * frame.time_base
        if end is None:
            end = start
        if start < end - _JITTER_S:
            continue
        while start > end + _JITTER_S:
            silence = _silence(frame, min(start - end, Fraction(1)))
            yield _placed(silence, end)
            end += Fraction(silence.samples, silence.sample_rate)
        yield _placed(frame, end)
        end += Fraction(frame.samples, frame.sample_rate)


def _silence(like: AudioFrame, seconds: Fraction) -> AudioFrame:
    samples = max(1, round(seconds * like.sample_rate))
    frame = AudioFrame(format=like.format.name, layout=like.layout.name, samples=samples)
    frame.sample_rate = like.sample_rate
    zero = b"\x80" if like.format.name.startswith("u8") else b"\x00"
    planes = frame.layout.nb_channels if frame.format.is_planar else 1
    for plane in frame.planes[:planes]:  # PyAV reports one plane too many for eight channels
        plane.update(zero * plane.buffer_size)
    return frame


def _placed(frame: AudioFrame, start: Fraction) -> AudioFrame:
    frame.time_base = Fraction(1, frame.sample_rate)
    frame.pts = round(start * frame.sample_rate)
    return frame


def _supported(encoder: str, rate: int) -> tuple[int, dict[int, str]]:
    """The sample rate nearest to `rate`, and the channel layouts, that an encoder supports."""
    if encoder == "libopus":
        return _OPUS_RATE, _LAYOUTS
    if encoder == "aac":
        return min(_AAC_RATES, key=lambda known: abs(known - rate)), _AAC_LAYOUTS
    return rate, _LAYOUTS
