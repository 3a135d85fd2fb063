"""Interlaced frames become progressive ones, one for each; progressive frames pass as they are.

FFmpeg's bwdif (Yadif's motion test, with the interpolation of BBC R&D's w3fdif) looks at the frame before and the frame
after. Decoding that starts one frame earlier than needed therefore gives the same pictures as decoding from the start.
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
    """`source` with its interlaced frames made progressive, at the same times. Owns `source`, and closes it."""
    with closing(source):
        before: VideoFrame | None = None
        bwdif: _Bwdif | None = None
        for time, frame in source:
            if bwdif is not None and not bwdif.takes(frame):
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
    """The filter, one frame behind. `before`, the frame before the first, is seen by it and not handed on again."""

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

    def takes(self, frame: VideoFrame) -> bool:
        return _kind(frame) == self._kind

    def add(self, time: int, frame: VideoFrame) -> list[Timed]:
        self._times.append(time)
        self._graph.vpush(frame)
        return self._made()

    def close(self) -> list[Timed]:
        self._graph.vpush(None)
        return self._made()

    def _made(self) -> list[Timed]:
        made: list[Timed] = []
        while True:
            try:
                frame = self._graph.vpull()
            except (BlockingIOError, EOFError):
                return made
            time = self._times.popleft()
            if time is not None:
                made.append((time, frame))


def _kind(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
