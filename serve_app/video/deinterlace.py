"""Converts each interlaced frame to a progressive one; progressive frames pass unchanged.

FFmpeg's bwdif (Yadif's motion test with the interpolation of BBC R&D's w3fdif) uses the preceding and the following
frame. Decoding that starts one frame early therefore gives the same frames as decoding from the start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import closing

from av.error import BlockingIOError, EOFError
from av.filter import Graph
from av.video.frame import VideoFrame

Timed = tuple[int, VideoFrame]
_FILTER = "mode=send_frame:parity=auto:deint=interlaced"


def deinterlaced(source: Generator[Timed, None, None]) -> Generator[Timed, None, None]:
    """Deinterlace the frames of `source`, keeping their times. Closes `source`."""
    with closing(source):
        before: VideoFrame | None = None
        bwdif: _Bwdif | None = None
        for time, frame in source:
            if bwdif is not None and not bwdif.accepts(frame):
                yield from bwdif.close()
                before = bwdif = None
            if bwdif is None and frame.interlaced_frame:
                bwdif = _Bwdif(before, frame)
            if bwdif is None:
                before = frame
                yield time, frame
            else:
                yield from bwdif.add(time, frame)
        if bwdif is not None:
            yield from bwdif.close()


class _Bwdif:
    """The filter, which delays frames by one. `before` precedes the first frame and is not returned."""

    def __init__(self, before: VideoFrame | None, first: VideoFrame) -> None:
        self._kind = _kind(first)
        self._graph = Graph()
        width, height, _ = self._kind
        source = self._graph.add_buffer(
            width=width, height=height, format=first.format, time_base=first.time_base
        )
        bwdif, sink = self._graph.add("bwdif", _FILTER), self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()
        self._times: deque[int | None] = deque()
        if before is not None and _kind(before) == self._kind:
            self._times.append(None)
            self._graph.vpush(before)

    def accepts(self, frame: VideoFrame) -> bool:
        return _kind(frame) == self._kind

    def add(self, time: int, frame: VideoFrame) -> list[Timed]:
        self._times.append(time)
        self._graph.vpush(frame)
        return self._pull()

    def close(self) -> list[Timed]:
        self._graph.vpush(None)
        return self._pull()

    def _pull(self) -> list[Timed]:
        frames: list[Timed] = []
        while True:
            try:
                frame = self._graph.vpull()
            except (BlockingIOError, EOFError):
                return frames
            time = self._times.popleft()
            if time is not None:
                frames.append((time, frame))


def _kind(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
