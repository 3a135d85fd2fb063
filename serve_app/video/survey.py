"""Surveys the packets of a source for probing: times, keyframes, damage, and the first frame."""

from __future__ import annotations

from array import array
from collections.abc import Callable
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

from serve_app.errors import JobCancelled, VideoTooLong
from serve_app.picture import Ticks
from serve_app.video.audio_survey import AudioSurvey
from serve_app.video.source import DECODING_ORDER, MAX_PIXELS, decoder_of, tagged_end, unsupported
from serve_app.video.structure import structure_of

_REORDER_LIMIT = 32  # frames; no codec delays a frame by more than 16 frames
_TAIL_S, _TAIL_PART = 1.0, 0.05  # a file that ends earlier than declared by more than both is truncated
_DECLARING = ("matroska,webm", "avi", "flv")  # formats whose header declares a reliable duration


class Survey:
    """Reads all packets in the constructor, `max_frames` of the video at most.

    frame: the first decodable frame.
    damage: sentences about what is missing from the file.
    """

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        stream: VideoStream,
        audio: AudioStream | None,
        max_frames: int,
        cancelled: Callable[[], bool],
    ) -> None:
        self._max_frames, self._cancelled = max_frames, cancelled
        self._container, self._stream = container, stream
        self.audio = AudioSurvey(audio) if audio else None
        self.damage: list[str] = []
        self._structure = structure_of(path)
        self._decoder = decoder_of(stream, threads=1)
        self._first: VideoFrame | None = None
        self._times, self._keys = array("q"), array("q")
        self._packets, self._untimed, self._corrupt, self._steps_back = 0, 0, 0, False
        self._last_dts: int | None = None
        self._latest, self._latest_duration = -(1 << 63), 0  # of the packet with the latest PTS
        self._last_is_latest = True
        self._end = 0.0
        self._pass()
        self.frame = self._checked()

    @property
    def pts(self) -> Ticks:
        """Times of the packets, without those before the first decodable frame."""
        pts = np.sort(np.array(self._times, np.int64))
        first = self.frame.pts
        return pts if first is None else pts[pts >= first]

    @property
    def keyframes(self) -> Ticks:
        return np.unique(np.array(self._keys, np.int64))

    @property
    def last_duration(self) -> int:
        """Duration of the last frame in ticks; 0 if the container does not specify it."""
        name = self._container.format.name
        # AVI repeats a frame with empty chunks. In MP4, durations are in decoding order: that of the last frame
        # in presentation order belongs to another frame, unless it is also the last in decoding order.
        from_track = name == "avi" or (name.startswith("mov,") and not self._last_is_latest)
        if from_track and not self._structure.missing and not self._structure.fragmented:
            declared = (self._stream.start_time or 0) + (self._stream.duration or 0)
            return max(0, declared - self._latest)
        tagged = tagged_end(self._stream) if name == "matroska,webm" else None
        if self._latest_duration == 0 and tagged is not None:
            return max(0, round(tagged / (self._stream.time_base or 1)) - self._latest)
        return self._latest_duration

    @property
    def sequential(self) -> bool:
        """Whether the timestamps of the packets differ from those of the frames."""
        if self._untimed or self._steps_back or not self._times:
            return True
        name = self._container.format.name
        if name == "mpeg":
            return True  # few packets of a program stream have timestamps; the others depend on where reading starts
        times = np.array(self._times, np.int64)
        order = np.argsort(times, kind="stable")
        ahead = int(np.abs(order - np.arange(len(order))).max())
        reorders = name in DECODING_ORDER and self._stream.codec_context.has_b_frames
        if reorders and (name == "avi" or not ahead):
            return True  # frames are reordered, but timestamps are not; those of AVI are FFmpeg's guesses
        return ahead > _REORDER_LIMIT or bool((np.diff(times[order]) == 0).any())

    def _pass(self) -> None:
        try:
            for packet in self._container.demux():
                if self._cancelled():
                    raise JobCancelled("The job was cancelled while its source was being indexed.")
                if not packet.size:
                    continue
                time = packet.pts if packet.pts is not None else packet.dts
                if time is not None and packet.time_base:
                    self._end = max(self._end, float((time + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index == self._stream.index:
                    self._video(packet)
                elif self.audio and packet.stream_index == self.audio.stream.index:
                    self.audio.packet(packet)
        except FFmpegError:
            self.damage.append(f"The file is damaged near {self._end:.2f} s: it cannot be read beyond.")

    def _video(self, packet: Packet[Any]) -> None:
        check_frames(self._packets, self._max_frames)
        self._packets += 1
        self._corrupt += packet.is_corrupt
        if self._first is None:
            self._first = _try_decode(self._decoder, packet)
        if packet.dts is not None:
            self._steps_back |= self._last_dts is not None and packet.dts < self._last_dts
            self._last_dts = packet.dts
        if packet.pts is None:
            self._untimed += 1
            return
        if packet.is_keyframe:
            self._keys.append(packet.pts)
        if not packet.is_discard:  # decoded, but removed by an edit list
            self._times.append(packet.pts)
            self._last_is_latest = packet.pts >= self._latest
            if self._last_is_latest:
                self._latest, self._latest_duration = packet.pts, packet.duration or 0

    def _checked(self) -> VideoFrame:
        """Return the first frame and record damage. Raises `UnsupportedVideo` for a truncated MP4 or without frames."""
        if self._packets == 0:
            raise unsupported("The video track is empty.")
        name = self._container.format.name
        # Each sample of an MP4 or MOV has an entry, so missing packets lie beyond the end of the file.
        if name.startswith("mov,") and not self._structure.fragmented:
            expected = len(self._stream.index_entries)
            if self._packets < expected:
                raise unsupported(f"The file is truncated: it holds {self._packets} of {expected} frames.")
            if self._corrupt:
                raise unsupported("The file is truncated: part of the data of its last frame is missing.")
        elif self._corrupt:
            self.damage.append(f"{self._corrupt} of {self._packets} frames may be incomplete.")
        self._note_end(name)
        frame = self._first or _try_decode(self._decoder, None)
        if frame is None:
            raise unsupported(
                f"No frame of the video could be decoded (codec {self._decoder.name}): it is damaged, or its "
                f"frames have more than {MAX_PIXELS} pixels."
            )
        lead_in = 0 if frame.pts is None else sum(time < frame.pts for time in self._times)
        if lead_in and not self.sequential:
            self.damage.append(
                f"The first {lead_in} frames cannot be decoded, as their reference frames are missing."
            )
        return frame

    def _note_end(self, name: str) -> None:
        if self._structure.missing:
            self.damage.append(
                f"The file is truncated: it ends {self._structure.missing} bytes early, at {self._end:.2f} s."
            )
            return
        # Some writers of Matroska count the duration from zero, others from the first packet.
        declared = (self._container.duration or 0) / 1e6
        start = 0 if name == "matroska,webm" else (self._container.start_time or 0) / 1e6
        shown_until = float((self._latest + self.last_duration) * (self._stream.time_base or 0))
        missing = declared + start - max(self._end, shown_until)
        if name in _DECLARING and missing > max(_TAIL_S, _TAIL_PART * declared):
            self.damage.append(
                f"The file ends {missing:.1f} s before its declared end, at {self._end:.2f} s."
            )


def check_frames(found: int, limit: int) -> None:
    """Raises `VideoTooLong` if one more frame is too many."""
    if found >= limit:
        raise VideoTooLong(
            f"The video has more than {limit} frames. Cut it into parts.", context={"max_frames": limit}
        )


def _try_decode(decoder: VideoCodecContext, packet: Packet[Any] | None) -> VideoFrame | None:
    try:
        return next(iter(decoder.decode(packet)), None)
    except FFmpegError:
        return None  # the lead-in of a recording; `Survey` raises an error if no frame follows
