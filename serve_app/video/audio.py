"""The source's audio for the output: copied where the container takes the codec, else encoded again.

Everything is a generator, so an hour of sound needs no more memory than a second.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from serve_app.video.formats import OutputFormat
from serve_app.video.source import audio_stream, codec_name, only, unsupported

AudioPacket: TypeAlias = "Packet[AudioStream]"  # PyAV can be subscripted in annotations only

# Speaker layouts that encoders and players agree on, by channel count. 5.1(side), which AC-3 and DTS bring,
# is refused by libopus and costs AAC a private channel table: it becomes 5.1, the same speakers.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"}
_AAC_LAYOUTS = _LAYOUTS | {4: "5.0"}  # AAC has no quad: the fifth stays silent
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_OPUS_RATE = 48000
_BITS_PER_CHANNEL = 80_000


class AudioTrack:
    """The audio of a source, being written into `out`; create it before anything is muxed.

    `origin`: the second of the source that becomes second 0. `packets` may be iterated once.
    """

    def __init__(
        self, source: InputContainer, out: OutputContainer, form: OutputFormat, origin: Fraction
    ) -> None:
        stream = audio_stream(source)
        assert stream is not None, "the index said that there is an audio track"
        self._source, self._in, self._origin = source, stream, origin
        only(source, stream)
        # What a decoder needs before the first sample may lie before second 0; only MP4 and MOV can say that.
        self._preroll = form.is_quicktime
        self._copies = codec_name(stream) in form.copied_audio
        if self._copies:
            self.stream = out.add_stream_from_template(stream)
        else:
            self.stream = self._encoder(out, form)

    def packets(self) -> Iterator[AudioPacket]:
        """Packets for the output, in order. Raises `UnsupportedVideo` where the track cannot be decoded."""
        last: int | None = None
        for packet in self._copied() if self._copies else self._encoded():
            if packet.pts is None or (last is not None and packet.pts <= last):
                continue  # a stutter in the source: muxers refuse times that do not grow
            last = packet.dts = packet.pts
            packet.stream = self.stream
            yield packet

    def _copied(self) -> Iterator[AudioPacket]:
        time_base = self._in.time_base or Fraction(1, 1)
        shift = round(self._origin / time_base)
        try:
            for packet in self._source.demux(self._in):
                if not packet.size or packet.pts is None:
                    continue
                packet.pts -= shift
                if self._preroll or packet.pts + (packet.duration or 0) > 0:
                    yield packet
        except FFmpegError as error:
            raise self._failed(error) from error

    def _encoder(self, out: OutputContainer, form: OutputFormat) -> AudioStream:
        context = self._in.codec_context
        rate, layouts = _able(form.audio_encoder, context.sample_rate)
        stream = cast(AudioStream, out.add_stream(form.audio_encoder, rate=rate))
        stream.codec_context.layout = layouts.get(context.layout.nb_channels, "stereo")
        if not form.audio_encoder.startswith("pcm"):
            stream.codec_context.bit_rate = _BITS_PER_CHANNEL * stream.codec_context.layout.nb_channels
        stream.codec_context.flags |= Flags.bitexact
        stream.codec_context.time_base = Fraction(1, rate)
        return stream

    def _encoded(self) -> Iterator[AudioPacket]:
        context = self.stream.codec_context
        resampler: av.AudioResampler | None = None
        form: tuple[str, str, int] | None = None
        for frame in self._decoded():
            if form != (form := (frame.format.name, frame.layout.name, frame.sample_rate)):
                # The first frame, when the encoder is open and its frame size known, or one after which a
                # broadcast sounds on other speakers.
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
        """Frames at the output's times, without what lies before its beginning."""
        decoder, good = self._in.codec_context, False
        last: FFmpegError | None = None
        for packet in self._source.demux(self._in):
            try:
                frames = decoder.decode(packet if packet.size else None)
            except FFmpegError as error:
                last = error  # a damaged packet is silence, a track of nothing else is an error
                continue
            for frame in frames:
                good = True
                if frame.pts is None or frame.time_base is None:
                    continue
                frame.pts = frame.pts - round(self._origin / frame.time_base)
                if frame.pts * frame.time_base + Fraction(frame.samples, frame.sample_rate) > 0:
                    yield frame
        if last is not None and not good:
            raise self._failed(last) from last

    def _failed(self, error: FFmpegError) -> UnsupportedVideo:
        return unsupported(
            f"The audio track ({codec_name(self._in)}) cannot be decoded: {error.strerror or error}."
        )


def _able(encoder: str, rate: int) -> tuple[int, dict[int, str]]:
    """The rate nearest to `rate` and the speaker layouts that an encoder takes."""
    if encoder == "libopus":
        return _OPUS_RATE, _LAYOUTS
    if encoder == "aac":
        return min(_AAC_RATES, key=lambda known: abs(known - rate)), _AAC_LAYOUTS
    return rate, _LAYOUTS
