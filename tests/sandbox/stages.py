"""A file through all stages in media processes, and what a test may want to know of it."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from serve_app.errors import ServiceError
from serve_app.fal import OutputType
from serve_app.picture import Frames
from serve_app.protocols import Cutout, EncodeSettings, Expected, Index, IndexBrief, JoinPiece
from serve_app.runner.plan import join_request, plan_chunks
from serve_app.sandbox.sandbox import Sandbox
from serve_app.settings import ChunkSettings, SourceLimits
from serve_app.video.formats import cutout_layout
from tests.video.pipeline import PROVENANCE, in_layout, never, settings_of

MAX_CHUNKS = 3  # of a file: what decoding does wrong, it does in the first chunks


@dataclass
class Outcome:
    """What became of a file. error: None if it came through. grown: MiB of address space of its probing process."""

    error: ServiceError | None = None
    grown: float = 0.0
    pieces: list[JoinPiece] = field(default_factory=list)


def run(
    sandbox: Sandbox,
    path: Path,
    folder: Path,
    limits: SourceLimits,
    kind: OutputType,
    cancelled: Callable[[], bool] = never,
) -> Outcome:
    """Probes, decodes, encodes and joins a file; of a long one its first chunks, without the join.

    Lets pass what is no `ServiceError`.
    """
    outcome = Outcome()
    try:
        index = _probe(sandbox, path, limits, outcome, cancelled)
        chunks = plan_chunks(index, ChunkSettings())
        settings = settings_of(index, kind)
        with closing(sandbox.source(path, IndexBrief.of(index))) as source:
            for chunk in chunks[:MAX_CHUNKS]:
                frames = source.decode(chunk, cancelled)
                if len(frames):
                    piece = folder / f"{chunk.number}.piece"
                    made = sandbox.encode_piece(_cutout(frames, kind), settings, piece, cancelled)
                    outcome.pieces.append(
                        JoinPiece(piece.name, made.frames, made.first_pts, made.last_pts, made.sha256)
                    )
        if len(chunks) <= MAX_CHUNKS and outcome.pieces:
            _join(sandbox, path, folder, index, settings, outcome, cancelled)
    except ServiceError as error:
        outcome.error = error
    finally:
        for file in folder.glob("*.piece"):
            file.unlink()
        (folder / "output").unlink(missing_ok=True)
    return outcome


def _probe(
    sandbox: Sandbox, path: Path, limits: SourceLimits, outcome: Outcome, cancelled: Callable[[], bool]
) -> Index:
    """`Sandbox.probe`, with a look at the process before it is killed."""
    from serve_app.sandbox import sandbox as module

    with closing(sandbox._process(readable=(path,))) as process:
        before = _peak(process.pid)
        try:
            with module._READING:
                return process.call(Index, "probe", (path, limits, False), cancelled)
        finally:
            outcome.grown = max(0.0, _peak(process.pid) - before)


def _peak(pid: int) -> float:
    """The largest address space that a process has had, in MiB; 0 if it has ended."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmPeak:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found.group(1)) / 1024 if found else 0.0


def _cutout(frames: Frames, kind: OutputType) -> Cutout:
    colour = in_layout(frames, cutout_layout(frames.layout, kind))
    shape = (len(frames), colour.layout.height, colour.layout.width)
    return Cutout(colour, np.full(shape, 200, np.uint8), PROVENANCE, 0.0)


def _join(
    sandbox: Sandbox,
    path: Path,
    folder: Path,
    index: Index,
    settings: EncodeSettings,
    outcome: Outcome,
    cancelled: Callable[[], bool],
) -> None:
    pieces = tuple(outcome.pieces)
    expected = Expected(
        sum(piece.frames for piece in pieces),
        pieces[0].first_pts,
        pieces[-1].last_pts,
        int(index.pts[-1]) + index.last_duration,
        index.frame_duration,
    )
    request = join_request(settings, index, pieces, expected, "source", "output")

    def files() -> Iterator[Path]:
        return (folder / piece.name for piece in pieces)

    sandbox.join_pieces(files, request, path, folder / "output", cancelled)


class Watch:
    """Whether anybody opens a file (inotify(7))."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self._descriptor, str(path).encode(), 0x20) >= 0  # IN_OPEN

    def opened(self) -> int:
        """How often it was opened since the last call."""
        try:
            return len(os.read(self._descriptor, 1 << 16)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0

    def close(self) -> None:
        os.close(self._descriptor)
