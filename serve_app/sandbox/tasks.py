"""What a media process does for its replica: the functions of `serve_app.video`, called by messages.

A process that is no longer needed is killed: nothing here polls for cancellation.
"""

from __future__ import annotations

import os
import pickle
import socket
import traceback
from collections.abc import Iterator, Sequence
from errno import ENOMEM
from importlib import import_module
from pathlib import Path

import numpy as np

from serve_app.errors import ServiceError
from serve_app.protocols import Chunk, EncodeSettings, Index, IndexBrief, JoinRequest, MediaFile
from serve_app.sandbox.confinement import available
from serve_app.sandbox.memory import Slot, arrays_in, mapped
from serve_app.sandbox.messages import Failure, encoded, receive, send
from serve_app.sandbox.values import FAILURE, PIECE, RESULT, Decoded, SharedCutout
from serve_app.settings import SourceLimits
from serve_app.video.decode import ChunkDecoder
from serve_app.video.encode import encode_piece
from serve_app.video.figures import PieceFigures
from serve_app.video.join import join_pieces
from serve_app.video.probe import probe
from serve_app.video.writer import has_avx512


class Tasks:
    """The tasks of one process; their names and arguments come from the replica."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._decoder: ChunkDecoder | None = None
        self._memory = np.empty(0, np.uint8)

    def share(self, descriptor: int) -> None:
        """Use the memory behind `descriptor` from now on."""
        self._memory = mapped(descriptor)
        os.close(descriptor)

    def probe(self, path: Path, limits: SourceLimits, decode: bool) -> Index:
        return probe(path, limits, decode=decode)

    def decode(
        self, path: Path, brief: IndexBrief, threads: int, chunk: Chunk, slots: Sequence[Slot]
    ) -> Decoded:
        """Decodes a chunk into the shared memory. All calls of a process have the same source."""
        self._decoder = self._decoder or ChunkDecoder(path, brief, threads)
        frames = self._decoder.decode(chunk, _never, arrays_in(self._memory, slots))
        return Decoded(frames.pts, frames.damage)

    def encode(
        self, cutout: SharedCutout, settings: EncodeSettings, path: Path, threads: int
    ) -> PieceFigures:
        return encode_piece(cutout.within(self._memory), settings, path, _never, threads)

    def join(self, request: JoinRequest, source: Path, out: Path) -> MediaFile:
        return join_pieces(lambda: self._pieces(len(request.pieces)), request, source, out, _never)

    def _pieces(self, count: int) -> Iterator[Path]:
        """Asks for one piece after the other; the one before is gone then."""
        for number in range(count):
            send(self._connection, PIECE + encoded(number))
            yield pickle.loads(receive(self._connection))


def serve(connection: socket.socket) -> None:
    """Do what the replica asks for, until it closes the connection."""
    tasks = Tasks(connection)
    while True:
        try:
            (name, arguments), descriptors = _request(connection)
        except EOFError:
            return
        send(connection, _answer(tasks, name, arguments, descriptors))


def _request(connection: socket.socket) -> tuple[tuple[str, tuple[object, ...]], list[int]]:
    """A byte, with the descriptor of new memory if there is any, then the pickled name and arguments of a task."""
    byte, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    if not byte:
        raise EOFError
    return pickle.loads(receive(connection)), descriptors


def _answer(tasks: Tasks, name: str, arguments: tuple[object, ...], descriptors: list[int]) -> bytes:
    try:
        for descriptor in descriptors:
            tasks.share(descriptor)
        return RESULT + encoded(getattr(tasks, name)(*arguments))
    except ServiceError as error:
        return FAILURE + encoded(Failure.of(error))
    except Exception as error:
        out_of_memory = isinstance(error, MemoryError) or (
            isinstance(error, OSError) and error.errno == ENOMEM
        )
        kind = MemoryError if out_of_memory else type(error)
        return FAILURE + encoded(Failure(kind.__name__, traceback.format_exc(), None, {}))


def warm_up() -> None:
    """Do once, before the fork, what every process would do, and what it could not do any more."""
    available()
    has_avx512()
    import_module("av.subtitles.codeccontext")
    import_module("numpy.ma")


def _never() -> bool:
    return False
