"""Surveys an audio track while probing: where it starts and ends, and how many packets cannot be decoded."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet

from serve_app.protocols import AudioInfo
from serve_app.video.source import codec_name

RESET_S = 1  # a larger jump back of the timestamps starts a new timeline, a smaller one is a stutter


class AudioSurvey:
    """Takes a track's packets in order. `start`: time of the first decoded sample, in seconds.

    Decodes all packets, so that damage is found before the frames are computed; decoding an hour of audio takes
    seconds.
    """

    def __init__(self, stream: AudioStream) -> None:
        self.stream = stream
        self.start: Fraction | None = None
        self._last = Fraction(0)
        self._ends = [Fraction(0)]  # of each timeline
        self._packets, self._damaged = 0, 0

    def packet(self, packet: Packet[Any]) -> None:
        self._packets += 1
        try:
            for frame in self.stream.codec_context.decode(packet):
                if self.start is None and frame.pts is not None and frame.time_base is not None:
                    self.start = frame.pts * frame.time_base
        except FFmpegError:
            self._damaged += 1
        if packet.pts is None or packet.is_discard:
            return
        time = packet.pts * packet.time_base
        if time < self._last - RESET_S:
            self._ends.append(time)
        self._last = time
        self._ends[-1] = max(self._ends[-1], time + (packet.duration or 0) * packet.time_base)

    def describe(self, shifts: tuple[float, ...]) -> AudioInfo | None:
        """The result, or None for a track without samples. `shifts`: corrections of the video's times at each reset."""
        if self.start is None and not self._damaged:
            return None
        context = self.stream.codec_context
        resets = shifts if len(shifts) == len(self._ends) - 1 else ()
        ends = (float(end) + shift for end, shift in zip(self._ends, (0.0, *resets), strict=False))
        return AudioInfo(
            codec=codec_name(self.stream),
            sample_rate=context.sample_rate,
            layout=context.layout.name,
            start_s=float(self.start or 0),
            end_s=max(ends),
            packets=self._packets,
            damaged=self._damaged,
            resets=resets,
        )
