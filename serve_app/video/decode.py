"""Decoding one chunk, equal frame by frame to decoding everything in one go."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame

from serve_app.errors import JobCancelled, UnsupportedVideo
from serve_app.protocols import Chunk, Frames, IndexBrief, PixelLayout, Plane
from serve_app.video.clock import Clock
from serve_app.video.deinterlace import Timed, deinterlaced
from serve_app.video.planes import Unpacker
from serve_app.video.source import decoder_of, only, open_container, unsupported, video_stream


class ChunkDecoder:
    """Decodes chunks of one source. Keeps the decoder between calls: a chunk that starts where the last one
    stopped goes on without a seek. Not for use by several threads at a time. `close` it at the end.
    """

    def __init__(self, path: Path, brief: IndexBrief, threads: int = 1) -> None:
        self._reader = FrameReader(path, brief, threads)
        self._brief = brief
        self._threads = threads
        # Where the last chunk stopped, and the frame that was read too far for it; None when that is unknown.
        self._stopped: tuple[int, Timed | None] | None = None

    def close(self) -> None:
        self._reader.close()

    def decode(self, chunk: Chunk, cancelled: Callable[[], bool]) -> Frames:
        """The frames with start <= PTS < stop; fewer or more than planned where the packets misled the plan.

        Raises `UnsupportedVideo` naming the time where decoding fails, and `JobCancelled`.
        """
        batch = _Batch(self._brief, chunk.frames, self._threads)
        stopped, self._stopped = self._stopped, None
        timed = self._find(chunk, stopped, cancelled)
        while timed is not None and (chunk.stop is None or timed[0] < chunk.stop):
            batch.add(*timed)
            timed = self._next(cancelled)
        if chunk.stop is not None:
            self._stopped = chunk.stop, timed
        return batch.frames()

    def _find(
        self, chunk: Chunk, stopped: tuple[int, Timed | None] | None, cancelled: Callable[[], bool]
    ) -> Timed | None:
        """The chunk's first frame, from where the reader stands or by seeking; None when there is none."""
        start = chunk.start
        if start is not None and stopped is not None:
            position, held = stopped
            if start == position or (self._brief.sequential and start > position):
                return self._skip(held, start, cancelled)
        if start is None:
            self._reader.restart()
            return self._next(cancelled)
        for keyframe in () if self._brief.sequential else chunk.seek:
            try:
                self._reader.seek(keyframe)
                first = self._next(cancelled)
                # Earlier, not at it: to deinterlace a frame takes the one before.
                if first is not None and first[0] < start:
                    return self._skip(first, start, cancelled)
            except UnsupportedVideo:
                continue  # decoding may fail when begun in the middle; from further back it may not
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


class FrameReader:
    """Frames with their times from a place in the file on."""

    def __init__(self, path: Path, brief: IndexBrief, threads: int) -> None:
        self._path, self._brief, self._threads = path, brief, threads
        self._open()

    def _open(self) -> None:
        self._container = open_container(self._path)
        self._stream = video_stream(self._container)
        only(self._container, self._stream)
        self._decoder = decoder_of(self._stream, self._threads)
        self._fresh = True
        self._frames = deinterlaced(self._read(from_start=True))

    def close(self) -> None:
        self._frames.close()
        self._container.close()

    def restart(self) -> None:
        """Goes to the start of the file; by opening it anew, as seeking there is not exact in all formats."""
        if not self._fresh:
            self.close()
            self._open()

    def seek(self, keyframe: int) -> None:
        """Goes to a keyframe, or near it. Raises `UnsupportedVideo` where the container cannot seek."""
        self._frames.close()
        self._fresh = False
        try:
            self._container.seek(keyframe, stream=self._stream)
        except FFmpegError as error:
            raise self._failed(keyframe) from error
        self._decoder.flush_buffers()
        self._frames = deinterlaced(self._read(from_start=False))

    def next(self) -> Timed | None:
        """The next frame, None at the end. Raises `UnsupportedVideo` where decoding fails."""
        self._fresh = False
        return next(self._frames, None)

    def _read(self, from_start: bool) -> Generator[Timed, None, None]:
        reorders = self._container.format.name == "avi"
        clock = Clock(self._brief.time_base, reorders) if self._brief.sequential else None
        # What a recording caught of a group that began before it cannot be decoded, and nobody misses it.
        lead_in, time = from_start, None
        try:
            # An empty packet says "as before" (Theora), but to a decoder it would mean the end.
            full = (packet for packet in self._container.demux(self._stream) if packet.size)
            for packet in chain(full, (None,)):
                if packet is not None:
                    time = packet.pts if packet.pts is not None else packet.dts
                    if clock:
                        clock.packet(time, packet.duration)
                try:
                    frames = self._decoder.decode(packet)
                except FFmpegError:
                    if lead_in or packet is None or packet.is_corrupt:
                        continue
                    raise
                for frame in frames:
                    lead_in = False
                    if clock:
                        yield clock.frame(frame.pts), frame
                    elif frame.pts is not None:
                        yield frame.pts, frame
        except FFmpegError as error:
            raise self._failed(time) from error

    def _failed(self, time: int | None) -> UnsupportedVideo:
        where = "" if time is None else f" near {float(time * self._brief.time_base):.2f} s"
        return unsupported(f"The video is damaged{where}: it cannot be decoded there.")


class _Batch:
    """Arrays that fill with frames: allocated once at the planned size, longer only if the plan was wrong."""

    def __init__(self, brief: IndexBrief, planned: int, threads: int) -> None:
        self._brief = brief
        self._unpacker = Unpacker(brief.layout, brief.geometry, threads)
        self._planes = _allocate(brief.layout, max(planned, 1))
        self._pts: list[int] = []

    def add(self, pts: int, frame: VideoFrame) -> None:
        """Raises `UnsupportedVideo` for a frame of another size than the first."""
        (width, height), row = self._unpacker.size, len(self._pts)
        if (frame.width, frame.height) != (width, height):
            raise unsupported(
                f"The video changes its size at {float(pts * self._brief.time_base):.2f} s, from {width}x{height} to "
                f"{frame.width}x{frame.height}. Cut it there, or convert it to one size first."
            )
        if row == len(self._planes[0]):
            self._planes = tuple(np.concatenate([p, np.empty_like(p)]) for p in self._planes)
        self._unpacker.copy(frame, self._planes, row)
        self._pts.append(pts)

    def frames(self) -> Frames:
        planes = tuple(plane[: len(self._pts)] for plane in self._planes)
        return Frames(planes, self._brief.layout, np.array(self._pts, np.int64), self._brief.time_base)


def _allocate(layout: PixelLayout, count: int) -> tuple[Plane, ...]:
    dtype = np.uint16 if layout.depth == 10 else np.uint8
    return tuple(np.empty((count, *size), dtype) for size in layout.plane_sizes)


def linear(path: Path, brief: IndexBrief) -> Iterator[Frames]:
    """All frames from the start of the file, one at a time: what chunked decoding has to equal."""
    with closing(FrameReader(path, brief, threads=1)) as reader:
        while (timed := reader.next()) is not None:
            batch = _Batch(brief, 1, threads=1)
            batch.add(*timed)
            yield batch.frames()
