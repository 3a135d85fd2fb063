"""Joins pieces and the source's audio to the output file, without re-encoding the video."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias, cast

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from serve_app.errors import EncodingFailed, JobCancelled
from serve_app.protocols import JoinPiece, JoinRequest, MediaFile
from serve_app.video.audio import AudioPacket, AudioTrack
from serve_app.video.formats import OutputFormat, output_format
from serve_app.video.gif.join import join_gif
from serve_app.video.self_check import check_count, check_gif, check_plan, check_video, verified_pieces
from serve_app.video.source import opened
from serve_app.video.writer import complete_or_removed

VideoPacket: TypeAlias = "Packet[VideoStream]"


def join_pieces(
    pieces: Callable[[], Iterable[Path]],
    request: JoinRequest,
    source: Path,
    out: Path,
    cancelled: Callable[[], bool],
) -> MediaFile:
    """Write `out` from `pieces` in order and the audio of `source`, then reopen and verify it.

    Memory is constant: one piece is open at a time, and `pieces` may be a generator function that fetches them one
    by one. It is called twice for a GIF. Masks and GIFs have no audio.

    Raises `EncodingFailed` if pieces were changed or are incompatible, or if the file is not as expected;
    `UnsupportedVideo` if the audio cannot be decoded; `StorageFull`; `JobCancelled`. Then leaves no file at `out`.
    """
    form = output_format(request.settings.output_type, request.settings.mask)
    check_plan(request)

    def verified() -> Iterator[tuple[JoinPiece, Path]]:
        return verified_pieces(pieces(), request)

    with complete_or_removed(out):
        if form.is_gif:
            images = join_gif(verified, request, out, cancelled)
            return check_gif(out, request, form, images)
        _Joiner(request, form, cancelled).write(verified(), source, out)
        return check_video(out, request, form)


class _Joiner:
    def __init__(self, request: JoinRequest, form: OutputFormat, cancelled: Callable[[], bool]) -> None:
        self._request, self._form, self._cancelled = request, form, cancelled
        settings, expected = request.settings, request.expected
        self._time_base = form.timescale(settings.time_base)
        ratio = settings.time_base / self._time_base
        self._step = max(1, round(expected.frame_duration * ratio))
        self._first, self._last, self._end = (
            round((tick - settings.origin) * ratio)
            for tick in (expected.first_pts, expected.last_pts, expected.end)
        )

    def write(self, pieces: Iterable[tuple[JoinPiece, Path]], source: Path, path: Path) -> None:
        settings = self._request.settings
        options = self._form.muxer_options(settings.time_base)
        # Packets arrive in order; by default the muxer buffers up to ten seconds to wait for a track that has ended.
        options["max_interleave_delta"] = "1"
        if self._form.container == "mp4":
            options["movflags"] = "+faststart"  # playback can begin before the download ends
        with ExitStack() as stack:
            out = stack.enter_context(
                av.open(str(path), "w", self._form.container, container_options=options)
            )
            video = self._video(pieces, out)
            first = next(video, None)  # adds the video stream, which has to be the first
            if first is None:
                raise EncodingFailed("There is nothing to join: no piece has a frame.")
            audio: Iterator[AudioPacket] = iter(())
            if self._request.audio is not None and not settings.mask:
                container = stack.enter_context(opened(source))
                track = AudioTrack(
                    container, out, self._form, settings.origin * settings.time_base, self._request.audio
                )
                out.start_encoding()
                audio = track.packets()
            self._interleave(out, first, video, audio)

    def _interleave(
        self,
        out: OutputContainer,
        first: VideoPacket,
        video: Iterator[VideoPacket],
        audio: Iterator[AudioPacket],
    ) -> None:
        """Mux video and audio in order of time. The audio ends with the video."""
        end = Fraction(0)
        sound = next(audio, None)
        packet: VideoPacket | None = first
        while packet is not None:
            if self._cancelled():
                raise JobCancelled("The job was cancelled while its video was being joined.")
            now = _seconds(packet.dts, packet)
            while sound is not None and _seconds(sound.dts, sound) <= now:
                out.mux(sound)
                sound = next(audio, None)
            end = max(end, _seconds((packet.pts or 0) + (packet.duration or 0), packet))
            out.mux(packet)
            packet = next(video, None)
        while sound is not None and _seconds(sound.pts, sound) < end:
            out.mux(sound)
            sound = next(audio, None)

    def _video(self, pieces: Iterable[tuple[JoinPiece, Path]], out: OutputContainer) -> Iterator[VideoPacket]:
        """All packets of the output's video stream, with new DTS and durations."""
        dts = DecodingTimes(self._form.reorder, self._step)
        waiting: VideoPacket | None = None  # its duration depends on the next packet
        begun = 0
        for packet in self._demuxed(pieces, out):
            assert packet.pts is not None
            packet.dts = dts.of(packet.pts)
            if waiting is None:
                begun = packet.dts
            else:
                gap = packet.pts - cast(int, waiting.pts)
                waiting.duration = self._duration(waiting, gap if gap > 0 else self._step)
                yield waiting
            waiting = packet
        if waiting is not None:
            # The end of the last packet in decoding order sets the duration of the track.
            rest = self._end - self._first - (cast(int, waiting.dts) - begun)
            room = self._end - cast(int, waiting.pts)
            waiting.duration = self._duration(waiting, max(1, min(rest, room)))
            yield waiting

    def _duration(self, packet: VideoPacket, usual: int) -> int:
        """`usual`, except for the last frame in presentation order, which is shown until the end."""
        return max(1, self._end - self._last) if packet.pts == self._last else usual

    def _demuxed(
        self, pieces: Iterable[tuple[JoinPiece, Path]], out: OutputContainer
    ) -> Iterator[VideoPacket]:
        stream: VideoStream | None = None
        head: tuple[object, ...] | None = None
        for wanted, path in pieces:
            frames = 0
            with av.open(str(path), "r", self._form.container) as piece:
                template = piece.streams.video[0]
                context = template.codec_context
                if stream is None:
                    stream = out.add_stream_from_template(template, opaque=True)
                    stream.metadata.update(_kept_metadata(template))
                    if self._form.is_quicktime:  # it distinguishes ProRes 4444 from ProRes 422
                        stream.codec_context.codec_tag = context.codec_tag
                        # In MOV it is a property of the track, which the template lacks.
                        stream.codec_context.sample_aspect_ratio = self._request.settings.sample_aspect
                    head = (context.width, context.height, context.extradata)
                elif head != (context.width, context.height, context.extradata):
                    raise EncodingFailed("The pieces have different encoder settings and cannot be joined.")
                for packet in piece.demux(template):
                    if packet.size:
                        packet.stream = stream
                        frames += 1
                        yield packet
            check_count(wanted, frames)


class DecodingTimes:
    """Computes DTS from PTS: the sorted PTS, delayed by the number of frames that may be reordered.

    They increase over all pieces, even with variable frame rates, and need no lookahead.
    """

    def __init__(self, reorder: int, step: int) -> None:
        self._reorder, self._step = reorder, step
        self._heap: list[int] = []
        self._begun = 0
        self._last: int | None = None

    def of(self, pts: int) -> int:
        """The DTS of the next packet. Raises `EncodingFailed` if its PTS overlaps earlier pieces."""
        heapq.heappush(self._heap, pts)
        if self._begun < self._reorder:
            dts = self._heap[0] - (self._reorder - self._begun) * self._step
            self._begun += 1
        else:
            dts = heapq.heappop(self._heap)
        if dts > pts or (self._last is not None and dts < self._last):
            raise EncodingFailed("The timestamps of the pieces overlap: they cannot be joined.")
        self._last = dts
        return dts


def _seconds(ticks: int | None, packet: VideoPacket | AudioPacket) -> Fraction:
    return (ticks or 0) * packet.time_base


def _kept_metadata(template: VideoStream) -> dict[str, str]:
    """The tag that WebM players require to show alpha."""
    alpha = {key.lower(): value for key, value in template.metadata.items()}.get("alpha_mode")
    return {"alpha_mode": alpha} if alpha else {}
