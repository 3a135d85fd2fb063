"""Decodes single chunks, with the same frames as decoding the whole source."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from serve_app.errors import JobCancelled
from serve_app.picture import Frames, PixelLayout, Plane
from serve_app.protocols import SEEKS, Chunk, IndexBrief
from serve_app.video.clock import Clock
from serve_app.video.deinterlace import Timed, deinterlaced
from serve_app.video.figures import room_for
from serve_app.video.planes import Unpacker
from serve_app.video.source import DECODING_ORDER, decoder_of, only, open_container, unsupported, video_stream


class ChunkDecoder:
    """Decodes chunks of one source. A chunk that starts where the previous one stopped needs no seek.

    Not thread-safe. Must be closed.
    """

    def __init__(self, path: Path, brief: IndexBrief, threads: int = 1) -> None:
        self._reader = FrameReader(path, brief, threads)
        self._path, self._brief = path, brief
        self._threads = threads
        # The end of the previous chunk, and the frame read beyond it; None if unknown.
        self._stopped: tuple[int, Timed | None] | None = None

    def close(self) -> None:
        self._reader.close()

    def decode(
        self, chunk: Chunk, cancelled: Callable[[], bool], into: Sequence[Plane] | None = None
    ) -> Frames:
        """Decode the frames with start <= PTS < stop. Their number differs from the plan if the source is damaged or
        its packets do not match its frames; beyond `room_for` the plan it is cut off.

        into: planes with room for `room_for(chunk)` frames, which become those of the result.

        Raises `JobCancelled`, or `UnsupportedVideo` if the source cannot be reopened.
        """
        into = _allocate(self._brief.layout, room_for(chunk)) if into is None else into
        frames = self._decoded(chunk, cancelled, into)
        if self._reader.met_damage and self._threads > 1:
            # With several threads, the output for damaged packets is not deterministic.
            self.close()
            self._reader, self._threads, self._stopped = FrameReader(self._path, self._brief, 1), 1, None
            frames = self._decoded(chunk, cancelled, into)
        if frames.damage and self._reader.sought is not None and self._reader.sought != _furthest(chunk):
            # Error concealment depends on earlier frames, so decoding must start where all other decoders start.
            self._stopped = None
            chunk = replace(chunk, seek=chunk.seek[-1:] if _furthest(chunk) else ())
            frames = self._decoded(chunk, cancelled, into)
        return frames

    def _decoded(self, chunk: Chunk, cancelled: Callable[[], bool], into: Sequence[Plane]) -> Frames:
        batch = _Batch(self._brief, into, self._threads)
        stopped, self._stopped = self._stopped, None
        timed = self._find(chunk, stopped, cancelled)
        while timed is not None and (chunk.stop is None or timed[0] < chunk.stop) and not batch.full:
            batch.add(*timed)
            timed = self._next(cancelled)
        if chunk.stop is not None and not batch.full:
            self._stopped = chunk.stop, timed
        return batch.frames(self._damage(chunk, short=len(batch) < chunk.frames))

    def _damage(self, chunk: Chunk, short: bool) -> tuple[int, ...]:
        """Times of the damage in a chunk. If the chunk lacks frames, earlier damage may be the cause."""
        seen = sorted({time for time in self._reader.damage if chunk.stop is None or time < chunk.stop})
        within = [time for time in seen if chunk.start is None or time >= chunk.start]
        return tuple(within or (seen[-1:] if short else ()))

    def _find(
        self, chunk: Chunk, stopped: tuple[int, Timed | None] | None, cancelled: Callable[[], bool]
    ) -> Timed | None:
        """Find the chunk's first frame, from the current position or by seeking; None if it has no frame."""
        start = chunk.start
        if start is not None and stopped is not None:
            position, held = stopped
            if start == position or (self._brief.sequential and start > position):
                return self._skip(held, start, cancelled)
        if start is None:
            self._reader.restart()
            return self._next(cancelled)
        for keyframe in () if self._brief.sequential else chunk.seek:
            if not self._reader.seek(keyframe):
                continue
            first = self._next(cancelled)
            # Must be earlier than `start`, as deinterlacing needs the preceding frame.
            if first is not None and first[0] < start:
                timed = self._skip(first, start, cancelled)
                if keyframe == _furthest(chunk) or not any(time < start for time in self._reader.damage):
                    return timed
        self._reader.restart()
        return self._skip(self._next(cancelled), start, cancelled)

    def _skip(self, timed: Timed | None, start: int, cancelled: Callable[[], bool]) -> Timed | None:
        while timed is not None and timed[0] < start:
            timed = self._next(cancelled)
        return timed

    def _next(self, cancelled: Callable[[], bool]) -> Timed | None:
        if cancelled():
            raise JobCancelled("The job was cancelled while its video was being decoded.")
        return self._reader.next()


def _furthest(chunk: Chunk) -> int | None:
    """The keyframe at which decoding of damaged chunks starts; None for the start of the file."""
    return chunk.seek[-1] if len(chunk.seek) == SEEKS else None


class FrameReader:
    """Reads frames with their times, from the start of the file or from a keyframe.

    damage: times of undecodable packets and corrupt frames since the last seek.
    met_damage: whether there has been any damage since the file was opened first.
    sought: the keyframe of the last seek, or None for the start of the file.
    """

    def __init__(self, path: Path, brief: IndexBrief, threads: int) -> None:
        self._path, self._brief, self._threads = path, brief, threads
        self.met_damage = False
        self._open()

    def _open(self) -> None:
        self._container = open_container(self._path)
        self._stream = video_stream(self._container)
        only(self._container, self._stream)
        self._decoder = decoder_of(self._stream, self._threads)
        self._fresh = True
        self._begin(None)

    def _begin(self, keyframe: int | None) -> None:
        reorders = self._container.format.name in DECODING_ORDER
        self._clock = Clock(self._brief.time_base, reorders) if self._brief.sequential else None
        self.damage: list[int] = []
        self.sought = keyframe
        self._frames = deinterlaced(self._read())

    def close(self) -> None:
        self._frames.close()
        self._container.close()

    @property
    def shifts(self) -> list[int]:
        """Shifts of the times, in ticks, at each jump back of a sequential source so far."""
        return self._clock.shifts if self._clock else []

    def restart(self) -> None:
        """Go to the start of the file by reopening it, as seeking there is not exact in all formats."""
        if not self._fresh:
            self.close()
            self._open()

    def seek(self, keyframe: int) -> bool:
        """Seek to or near a keyframe. Returns False if the container cannot seek."""
        self._frames.close()
        self._fresh = False
        try:
            self._container.seek(keyframe, stream=self._stream)
        except FFmpegError:
            return False
        self._decoder.flush_buffers()
        self._begin(keyframe)
        return True

    def next(self) -> Timed | None:
        """The next frame, or None at the end of the readable part of the file."""
        self._fresh = False
        return next(self._frames, None)

    def _read(self) -> Generator[Timed, None, None]:
        # A recording may start in the middle of a GOP, whose frames cannot be decoded: this is not damage.
        lead_in = self.sought is None
        for packet in self._packets():
            time = None if packet is None else packet.pts if packet.pts is not None else packet.dts
            if self._clock and packet is not None:
                self._clock.packet(time, packet.duration)
            try:
                frames = self._decoder.decode(packet)
            except FFmpegError:
                if not lead_in and packet is not None:
                    self._note(time)
                continue
            if packet is not None and packet.is_corrupt and not lead_in:
                self._note(time)
            for frame in frames:
                lead_in = False
                pts = self._clock.frame(frame.pts) if self._clock else frame.pts
                if pts is None:
                    continue
                if frame.is_corrupt:
                    self._note(pts)
                yield pts, frame

    def _packets(self) -> Iterator[Packet[Any] | None]:
        """The packets up to the first read error, then None to flush the decoder."""
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:  # an empty packet repeats a frame (Theora), but would flush the decoder
                    yield packet
        except FFmpegError:
            self._note(None)
        yield None

    def _note(self, time: int | None) -> None:
        """Record damage at `time`, or at the last damage if the packet has no time. Frames before the sought keyframe
        may reference frames that were not decoded, which is not damage.
        """
        if time is None:
            time = self.damage[-1] if self.damage else self.sought or 0
        if self.sought is None or time >= self.sought:
            self.damage.append(time)
            self.met_damage = True


class _Batch:
    """Collects frames in `planes`."""

    def __init__(self, brief: IndexBrief, planes: Sequence[Plane], threads: int) -> None:
        self._brief, self._planes = brief, planes
        self._unpacker = Unpacker(brief.layout, brief.geometry, threads)
        self._pts: list[int] = []

    def add(self, pts: int, frame: VideoFrame) -> None:
        """Append a frame. Raises `UnsupportedVideo` if the size changes or times do not increase."""
        (width, height), row = self._unpacker.size, len(self._pts)
        if (frame.width, frame.height) != (width, height):
            raise unsupported(
                f"The video changes its size at {float(pts * self._brief.time_base):.2f} s, from {width}x{height} to "
                f"{frame.width}x{frame.height}. Cut it there, or convert it to one size first."
            )
        if row and pts <= self._pts[-1]:
            raise unsupported(
                f"The video is damaged near {float(pts * self._brief.time_base):.2f} s: its frames do not follow each "
                "other in time."
            )
        self._unpacker.copy(frame, self._planes, row)
        self._pts.append(pts)

    def __len__(self) -> int:
        return len(self._pts)

    @property
    def full(self) -> bool:
        return len(self._pts) == len(self._planes[0])

    def frames(self, damage: tuple[int, ...] = ()) -> Frames:
        planes = tuple(plane[: len(self._pts)] for plane in self._planes)
        pts = np.array(self._pts, np.int64)
        return Frames(planes, self._brief.layout, pts, self._brief.time_base, damage)


def _allocate(layout: PixelLayout, count: int) -> tuple[Plane, ...]:
    return tuple(np.empty((count, *size), layout.sample_type) for size in layout.plane_sizes)


def linear(path: Path, brief: IndexBrief) -> Iterator[Frames]:
    """All frames from the start of the file, one at a time: the reference for chunked decoding."""
    with closing(FrameReader(path, brief, threads=1)) as reader:
        while (timed := reader.next()) is not None:
            batch = _Batch(brief, _allocate(brief.layout, 1), threads=1)
            batch.add(*timed)
            yield batch.frames()
