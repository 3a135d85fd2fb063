"""Segmenter deployment: runs the network of one variant.

The engine is loaded in the replica, so that no other process imports torch, and benchmarks and tests can use a lighter
engine.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from ray import serve

from serve_app import protocols
from serve_app.errors import CheckpointError
from serve_app.fal import Variant
from serve_app.picture import Frames
from serve_app.protocols import CallLimits, CutOptions, Cutout
from serve_app.segmentation.engines import Engine, make_engine
from serve_app.settings import SegmenterSettings
from serve_app.stages.worker_pool import WorkerPool


@serve.deployment
class Segmenter(protocols.Segmenter):
    """Loads the network in the background, not in the constructor: a missing checkpoint then fails the jobs that need
    it, with the remedy in their error, instead of the deployment. The next call tries again.
    """

    def __init__(self, variant: Variant, settings: SegmenterSettings) -> None:
        self._variant = variant
        self._settings = settings
        self._workers = WorkerPool(1, f"segmenting ({variant.value})")
        self._loader = ThreadPoolExecutor(max_workers=1)
        self._engine = self._loader.submit(make_engine, variant, settings)

    async def cut_out(self, frames: Frames, options: CutOptions, limits: CallLimits) -> Cutout:
        engine = await self._loaded()
        return await self._workers.run(lambda cancelled: engine.cut_out(frames, options, cancelled), limits)

    async def _loaded(self) -> Engine:
        loading = self._engine
        try:
            return await asyncio.shield(asyncio.wrap_future(loading))
        except Exception as error:
            if self._engine is loading:
                self._engine = self._loader.submit(make_engine, self._variant, self._settings)
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"the network of {self._variant.value} could not be loaded: {error}"
            ) from error
