"""The encoder's work on the artifact store: cutouts become pieces, pieces become the output. Without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from serve_app.artifacts.store import Artifacts
from serve_app.errors import StorageFull
from serve_app.protocols import (
    Cutout,
    EmptyPiece,
    EncodeSettings,
    JoinRequest,
    MediaFile,
    Piece,
    PieceRef,
    StageSeconds,
)
from serve_app.video.figures import PieceFigures

SPARE_BYTES = 64 << 20  # beyond the size of the pieces: audio, index, concurrent calls


Cancelled = Callable[[], bool]


class Codec(Protocol):
    """`encode_piece` and `join_pieces` of `serve_app.video`, in this process or in a sandbox."""

    def encode_piece(
        self, cutout: Cutout, settings: EncodeSettings, path: Path, cancelled: Cancelled
    ) -> PieceFigures: ...

    def join_pieces(
        self,
        pieces: Callable[[], Iterable[Path]],
        request: JoinRequest,
        source: Path,
        out: Path,
        cancelled: Cancelled,
    ) -> MediaFile: ...


class PieceStore:
    """Encodes with `codec` and writes the files to the artifact store.

    Methods raise `JobCancelled` soon after `cancelled` turns true.
    """

    def __init__(self, artifacts: Artifacts, codec: Codec) -> None:
        self._artifacts, self._codec = artifacts, codec

    def encode(
        self,
        cutout: Cutout,
        settings: EncodeSettings,
        name: str,
        mask_name: str | None,
        cancelled: Cancelled,
    ) -> Piece:
        """Write the cutout as the piece `name`, and its matte as the piece `mask_name`.

        Repeating the call writes the same bytes. A cutout without frames writes no file.
        """
        started, damage, mask_sha256 = time.perf_counter(), cutout.colour.damage, None
        if not len(cutout.colour):
            return EmptyPiece(cutout.provenance, StageSeconds(cutout.seconds, 0.0), damage)
        with self._scratch(name, 8 * cutout.matte.nbytes) as directory:
            path = directory / "piece"
            if mask_name:
                mask = replace(settings, mask=True)
                mask_sha256 = self._codec.encode_piece(cutout, mask, path, cancelled).sha256
                self._artifacts.put_file(mask_name, path)
            encoded = self._codec.encode_piece(cutout, settings, path, cancelled)
            self._artifacts.put_file(name, path)
        return PieceRef(
            name=name,
            mask_name=mask_name,
            size=encoded.size,
            frames=encoded.frames,
            first_pts=encoded.first_pts,
            last_pts=encoded.last_pts,
            sha256=encoded.sha256,
            mask_sha256=mask_sha256,
            provenance=cutout.provenance,
            seconds=StageSeconds(cutout.seconds, time.perf_counter() - started),
            damage=damage,
        )

    def join(self, request: JoinRequest, source: Path, cancelled: Cancelled) -> MediaFile:
        """Join the pieces, add the audio of the file `source`, verify the result and store it as `request.output`."""
        names = tuple(piece.name for piece in request.pieces)
        size = sum(self._artifacts.size(name) for name in names)
        with self._scratch(request.source, size) as directory:
            path = directory / "output"
            pieces = partial(self._pieces, names, cancelled)
            media = self._codec.join_pieces(pieces, request, source, path, cancelled)
            # The name is unique to the lease, so an existing file comes from an earlier attempt.
            with suppress(FileExistsError):
                self._artifacts.put_file(request.output, path, final=True, content_type=media.content_type)
        return media

    def _pieces(self, names: tuple[str, ...], cancelled: Cancelled) -> Iterator[Path]:
        """Yield one piece at a time, so that reading from a bucket needs scratch space for one piece only."""
        for name in names:
            with self._artifacts.local_path(name, keep=False, cancelled=cancelled) as path:
                yield path

    @contextmanager
    def _scratch(self, beside: str, need: int) -> Iterator[Path]:
        """A directory for unfinished files. Raises `StorageFull` if fewer than `need` bytes are free."""
        free = self._artifacts.free_bytes()
        if free < need + SPARE_BYTES:
            raise StorageFull(
                f"writing needs {(need + SPARE_BYTES) >> 20} MiB in {self._artifacts.root}, but only "
                f"{free >> 20} MiB are free: free some space, or set `data_dir` to a larger disk"
            )
        with self._artifacts.scratch(beside) as directory:
            yield directory
