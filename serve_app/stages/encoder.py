"""Encoder deployment: pieces from cutouts, and the output from pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from ray import serve

from serve_app import protocols
from serve_app.artifacts.store import Artifacts
from serve_app.errors import StorageFull
from serve_app.protocols import (
    CallLimits,
    Cutout,
    EmptyPiece,
    EncodeSettings,
    JoinRequest,
    MediaFile,
    Piece,
    PieceRef,
    StageSeconds,
)
from serve_app.settings import Settings
from serve_app.stages.worker_pool import WorkerPool

SPARE_BYTES = 64 << 20  # beyond what a join will write: audio, index, neighbours


@serve.deployment
class Encoder(protocols.Encoder):
    """Thin shell around `serve_app.video`: arrays in, artifacts out."""

    def __init__(self, settings: Settings) -> None:
        self._threads = settings.encoder.threads
        self._artifacts = Artifacts.of(settings)
        self._workers = WorkerPool(settings.encoder.scale.max_ongoing, "encoding")

    async def encode(
        self, cutout: Cutout, settings: EncodeSettings, name: str, mask_name: str | None, limits: CallLimits
    ) -> Piece:
        """Write the cutout as the piece `name`, and its matte as `mask_name`; twice leaves the same bytes. Without a
        frame nothing is written.
        """
        from serve_app.video.encode import encode_piece  # PyAV: in this replica alone

        def work(cancelled: Callable[[], bool]) -> Piece:
            started, damage, mask_sha256 = time.perf_counter(), cutout.colour.damage, None
            if not len(cutout.colour):
                return EmptyPiece(cutout.provenance, StageSeconds(cutout.seconds, 0.0), damage)
            with self._scratch(name, 8 * cutout.matte.nbytes) as directory:
                path = directory / "piece"
                if mask_name:
                    mask = replace(settings, mask=True)
                    mask_sha256 = encode_piece(cutout, mask, path, cancelled, self._threads).sha256
                    self._artifacts.put_file(mask_name, path)
                made = encode_piece(cutout, settings, path, cancelled, self._threads)
                self._artifacts.put_file(name, path)
            return PieceRef(
                name=name,
                mask_name=mask_name,
                size=made.size,
                frames=made.frames,
                first_pts=made.first_pts,
                last_pts=made.last_pts,
                sha256=made.sha256,
                mask_sha256=mask_sha256,
                provenance=cutout.provenance,
                seconds=StageSeconds(cutout.seconds, time.perf_counter() - started),
                damage=damage,
            )

        return await self._workers.run(work, limits)

    async def join(self, request: JoinRequest, limits: CallLimits) -> MediaFile:
        """Join the pieces, add the source's audio, check the file and store it under `request.output`."""
        from serve_app.video.join import join_pieces

        def work(cancelled: Callable[[], bool]) -> MediaFile:
            names = tuple(piece.name for piece in request.pieces)
            size = sum(self._artifacts.size(name) for name in names)
            with (
                self._scratch(request.source, size) as directory,
                self._artifacts.local_path(request.source, cancelled=cancelled) as source,
            ):
                path = directory / "output"
                pieces = partial(self._pieces, names, cancelled)
                media = join_pieces(pieces, request, source, path, cancelled)
                # The name belongs to one holder of the job, so what lies there came from an earlier try.
                with suppress(FileExistsError):
                    self._artifacts.put_file(
                        request.output, path, final=True, content_type=media.content_type
                    )
            return media

        return await self._workers.run(work, limits)

    def _pieces(self, names: tuple[str, ...], cancelled: Callable[[], bool]) -> Iterator[Path]:
        """One piece at a time, so that a bucket is read through one file of space."""
        for name in names:
            with self._artifacts.local_path(name, keep=False, cancelled=cancelled) as path:
                yield path

    @contextmanager
    def _scratch(self, beside: str, need: int) -> Iterator[Path]:
        """A directory for unfinished files. Raises StorageFull when `need` bytes do not fit."""
        free = self._artifacts.free_bytes()
        if free < need + SPARE_BYTES:
            raise StorageFull(
                f"writing needs {(need + SPARE_BYTES) >> 20} MiB in {self._artifacts.root}, {free >> 20} MiB are "
                "free: make room, or set `data_dir` to a larger disk"
            )
        with self._artifacts.scratch(beside) as directory:
            yield directory
