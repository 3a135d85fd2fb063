"""Encoder deployment: encodes cutouts as pieces, and joins pieces to the output."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ray import serve

from serve_app import protocols
from serve_app.artifacts.store import Artifacts
from serve_app.protocols import CallLimits, Cutout, EncodeSettings, JoinRequest, MediaFile, Piece
from serve_app.sandbox.sandbox import Sandbox
from serve_app.settings import Settings
from serve_app.stages.piece_store import PieceStore
from serve_app.stages.worker_pool import WorkerPool

logger = logging.getLogger("ray.serve")


@serve.deployment
class Encoder(protocols.Encoder):
    """Runs a `PieceStore` in threads, and its codecs in confined processes."""

    def __init__(self, settings: Settings) -> None:
        self._artifacts = Artifacts.of(settings)
        sandbox = Sandbox(settings.sandbox, settings.encoder.threads)
        logger.info("each encoding process has %s", sandbox.enforced)
        self._pieces = PieceStore(self._artifacts, sandbox)
        self._workers = WorkerPool(settings.encoder.scale.max_ongoing, "encoding")

    async def encode(
        self, cutout: Cutout, settings: EncodeSettings, name: str, mask_name: str | None, limits: CallLimits
    ) -> Piece:
        return await self._workers.run(
            lambda cancelled: self._pieces.encode(cutout, settings, name, mask_name, cancelled), limits
        )

    async def join(self, request: JoinRequest, limits: CallLimits) -> MediaFile:
        def work(cancelled: Callable[[], bool]) -> MediaFile:
            with self._artifacts.local_path(request.source, cancelled=cancelled) as source:
                return self._pieces.join(request, source, cancelled)

        return await self._workers.run(work, limits)
