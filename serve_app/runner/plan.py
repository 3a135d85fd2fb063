"""The plan of chunks: a pure function of the index, so that any runner computes the same plan."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from serve_app.protocols import SEEKS, Chunk, Index
from serve_app.settings import ChunkSettings

MIN_FRAMES_BYTES = 4  # a chunk of `min_frames` may be so many times larger than `max_bytes`


def plan_chunks(index: Index, limits: ChunkSettings) -> list[Chunk]:
    """Divide the whole source into chunks with nearly equal numbers of frames, none above the limits."""
    total = len(index.pts)
    if total == 0:
        return []
    fitting = min(limits.max_frames, limits.max_bytes // index.layout.frame_bytes)
    few = min(limits.min_frames, MIN_FRAMES_BYTES * limits.max_bytes // index.layout.frame_bytes)
    count = -(-total // max(few, fitting, 1))
    edges = [number * total // count for number in range(count + 1)]
    chunks = []
    for number, (first, end) in enumerate(pairwise(edges)):
        start = int(index.pts[first]) if number else None
        stop = int(index.pts[end]) if end < total else None
        chunks.append(Chunk(number, start, stop, _seeks(index, start), end - first))
    return chunks


def _seeks(index: Index, start: int | None) -> tuple[int, ...]:
    """Keyframes to start from, nearest first: one earlier than needed, because frames around a keyframe may
    reference the preceding GOP, then 2, 4, 8, ... earlier, for containers with inexact seeking.
    """
    if start is None or index.sequential:
        return ()
    nearest = int(np.searchsorted(index.keyframes, start, side="right")) - 1
    back = (nearest - (1 << step) for step in range(SEEKS))
    return tuple(int(index.keyframes[at]) for at in back if at >= 0)
