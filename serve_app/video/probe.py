"""One demux-only pass over a source: everything that planning needs. One frame is decoded, for its format."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from serve_app.errors import JobCancelled
from serve_app.protocols import AudioInfo, Index, IndexBrief, Ticks
from serve_app.video.decode import FrameReader
from serve_app.video.geometry import geometry_of, hdr_metadata
from serve_app.video.planes import layout_of
from serve_app.video.source import audio_stream, codec_name, decoder_of, opened, unsupported, video_stream

_REORDER_LIMIT = 32  # frames; no codec shows a frame more than 16 frames later than it was sent
_TAIL_S, _TAIL_PART = 1.0, 0.05  # a file that ends earlier than declared by more than both is truncated
_DECLARING = ("matroska,webm", "avi", "flv")  # formats whose header declares a duration worth trusting
_TORN = ("mpegts", "mpeg")  # recordings: cut anywhere, packets with lost parts are part of the trade


def probe(path: Path, cancelled: Callable[[], bool] = lambda: False) -> Index:
    """What a source holds. Raises `UnsupportedVideo` saying what is wrong: no video, truncated, damaged.

    Raises `JobCancelled` when `cancelled()` turns true; it is asked per packet, or per frame where the source
    has to be decoded.
    """
    with opened(path) as container:
        stream = video_stream(container)
        audio = audio_stream(container)
        survey = _Survey(container, stream, audio, cancelled)
        codec, geometry = codec_name(stream), geometry_of(survey.frame, container, stream)
        layout = layout_of(survey.frame, codec, geometry)
        time_base = _time_base(stream)
        sequential = survey.sequential
        pts = survey.pts
        if sequential:
            pts = _decoded_pts(path, IndexBrief(layout, geometry, time_base, True), cancelled)
        rate = _rate(stream, pts, time_base)
        first = int(pts[0])
        aspect = stream.sample_aspect_ratio or Fraction(1)
        return Index(
            layout=layout,
            geometry=geometry,
            sample_aspect=1 / aspect if geometry.sideways else aspect,
            time_base=time_base,
            pts=pts,
            keyframes=np.empty(0, np.int64) if sequential else survey.keyframes,
            frame_duration=_typical_step(pts, rate, time_base),
            average_rate=rate,
            origin=min(first, int(survey.audio_start // time_base))
            if survey.audio_start is not None
            else first,
            sequential=sequential,
            audio=_describe(audio, survey.audio_start),
            codec=codec,
            interlaced=survey.frame.interlaced_frame,
            hdr=hdr_metadata(survey.frame),
        )


class _Survey:
    """The pass itself. `frame`: the first that could be decoded; `audio_start`: second of the first sample."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        audio: AudioStream | None,
        cancelled: Callable[[], bool],
    ) -> None:
        self._cancelled = cancelled
        self._container, self._stream, self._audio = container, stream, audio
        self.audio_start: Fraction | None = None
        self._decoder = decoder_of(stream, threads=1)
        self._first: VideoFrame | None = None
        self._times, self._keys = array("q"), array("q")
        self._packets, self._untimed, self._corrupt = 0, 0, 0
        self._end = 0.0
        self._pass()
        self.frame = self._checked()

    @property
    def pts(self) -> Ticks:
        return np.sort(np.array(self._times, np.int64))

    @property
    def keyframes(self) -> Ticks:
        return np.unique(np.array(self._keys, np.int64))

    @property
    def sequential(self) -> bool:
        """Whether the times of the packets are not those of the frames."""
        if self._untimed or not self._times:
            return True
        if self._container.format.name == "avi" and self._stream.codec_context.has_b_frames:
            return True  # AVI counts packets in decoding order
        times = np.array(self._times, np.int64)
        order = np.argsort(times, kind="stable")
        duplicates = bool((np.diff(times[order]) == 0).any())
        return duplicates or int(np.abs(order - np.arange(len(order))).max()) > _REORDER_LIMIT

    def _pass(self) -> None:
        try:
            for packet in self._container.demux():
                _stop_if(self._cancelled)
                if not packet.size:
                    continue
                time = packet.pts if packet.pts is not None else packet.dts
                if time is not None and packet.time_base:
                    self._end = max(self._end, float((time + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index == self._stream.index:
                    self._video(packet)
                elif self._audio and packet.stream_index == self._audio.index and self.audio_start is None:
                    self.audio_start = _first_sample(self._audio, packet)
        except FFmpegError as error:
            raise unsupported(
                f"The file is damaged near {self._end:.2f} s: it cannot be read there."
            ) from error

    def _video(self, packet: Packet[Any]) -> None:
        self._packets += 1
        self._corrupt += packet.is_corrupt
        if self._first is None:
            self._first = _try_decode(self._decoder, packet)
        if packet.pts is None:
            self._untimed += 1
            return
        if packet.is_keyframe:
            self._keys.append(packet.pts)
        if not packet.is_discard:  # decoded, but cut away by an edit list
            self._times.append(packet.pts)

    def _checked(self) -> VideoFrame:
        """The first frame, once the file is known to be whole."""
        name = self._container.format.name
        if self._packets == 0:
            raise unsupported("The video track is empty.")
        if self._corrupt and name not in _TORN:
            raise unsupported("The file is truncated or damaged: a frame lacks part of its data.")
        # Each sample of an MP4 or MOV has an entry, so missing packets lie beyond the end of the file.
        expected = len(self._stream.index_entries) if name.startswith("mov,") else 0
        if self._packets < expected:
            raise unsupported(f"The file is truncated: it holds {self._packets} of {expected} frames.")
        declared = (self._container.duration or 0) / 1e6
        missing = declared + (self._container.start_time or 0) / 1e6 - self._end
        if name in _DECLARING and missing > max(_TAIL_S, _TAIL_PART * declared):
            raise unsupported(f"The file is truncated: it ends {missing:.1f} s before its declared end.")
        frame = self._first or _try_decode(self._decoder, None)
        if frame is None:
            raise unsupported(f"No frame of the video could be decoded (codec {self._decoder.name}).")
        return frame


def _try_decode(decoder: VideoCodecContext, packet: Packet[Any] | None) -> VideoFrame | None:
    try:
        return next(iter(decoder.decode(packet)), None)
    except FFmpegError:
        return None  # the lead-in of a recording; `_Survey` complains when nothing follows


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise JobCancelled("The job was cancelled while its source was being indexed.")


def _decoded_pts(path: Path, brief: IndexBrief, cancelled: Callable[[], bool]) -> Ticks:
    """The times of all frames where the packets do not tell: the whole source is decoded for them."""
    times = array("q")
    with closing(FrameReader(path, brief, threads=1)) as reader:
        while (timed := reader.next()) is not None:
            _stop_if(cancelled)
            times.append(timed[0])
    return np.array(times, np.int64)


def _time_base(stream: VideoStream) -> Fraction:
    if not stream.time_base:
        raise unsupported("The video track has no time base.")
    return stream.time_base


def _rate(stream: VideoStream, pts: Ticks, time_base: Fraction) -> Fraction:
    """Frames per second: the container's figure where the frames bear it out, else what they say."""
    declared = stream.average_rate or stream.guessed_rate
    if len(pts) < 2:
        return declared or Fraction(25)
    measured = (len(pts) - 1) / ((int(pts[-1]) - int(pts[0])) * time_base)
    if declared and abs(declared / measured - 1) < 0.05:
        return declared
    return measured.limit_denominator(1001)


def _typical_step(pts: Ticks, rate: Fraction, time_base: Fraction) -> int:
    if len(pts) > 1:
        return max(1, int(np.median(np.diff(pts))))
    return max(1, round(1 / (rate * time_base)))


def _first_sample(audio: AudioStream, packet: Packet[Any]) -> Fraction | None:
    """The second at which the first sample of a packet is heard, without what the encoder put before it.

    (The demuxer's own start time of the track is some milliseconds off for Opus.)
    """
    if packet.pts is None or packet.is_discard:
        return None
    skipped = 0
    if packet.has_sidedata("skip_samples"):
        skipped = int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[:4], "little")
    return packet.pts * packet.time_base + Fraction(skipped, audio.codec_context.sample_rate)


def _describe(audio: AudioStream | None, start: Fraction | None) -> AudioInfo | None:
    if audio is None or start is None:  # a track without a sample is none
        return None
    context = audio.codec_context
    return AudioInfo(codec_name(audio), context.sample_rate, context.layout.name, float(start))
