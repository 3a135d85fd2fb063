"""What callers of this package need to know without importing PyAV."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.protocols import Chunk


@dataclass(frozen=True, slots=True)
class PieceFigures:
    """Properties of a written piece. PTS are ticks of the source; `size` is in bytes."""

    frames: int
    first_pts: int
    last_pts: int
    size: int
    sha256: str


def room_for(chunk: Chunk) -> int:
    """The number of frames that memory for a chunk has to hold.

    A source whose packets do not match its frames has up to twice as many as planned; with more the plan is wrong
    anyway, and `ChunkDecoder` stops. Memory is occupied only by frames that exist.
    """
    return 2 * chunk.frames + 2
