"""Decoder deployment: indexes sources and decodes the frames of chunks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ray import serve

from serve_app import protocols
from serve_app.artifacts.store import Artifacts
from serve_app.picture import Frames
from serve_app.protocols import CallLimits, Chunk, Index, IndexBrief
from serve_app.sandbox.sandbox import OpenSource, Sandbox
from serve_app.settings import Settings
from serve_app.stages.worker_pool import WorkerPool

logger = logging.getLogger("ray.serve")

# A chunk of a slow network takes a minute. An open decoder is a process, and occupies its source's disk space even when
# that is deleted.
IDLE_S = 300.0
MAX_IDLE = 4


@dataclass(slots=True)
class _Idle:
    """An open decoder whose next frame is the first of the chunk that starts at `next_start`."""

    source: str
    next_start: int
    decoder: OpenSource
    since: float = field(default_factory=time.monotonic)


class DecoderPool:
    """Keeps decoders open between calls, so that the chunk after the last one needs no seek.

    This is only an optimisation: a newly opened decoder returns the same frames.
    """

    def __init__(self) -> None:
        self._idle: list[_Idle] = []

    def take(self, source: str, chunk: Chunk) -> OpenSource | None:
        """Remove and return a decoder of `source` positioned at the start of the chunk, or None."""
        for idle in self._idle:
            if (idle.source, idle.next_start) == (source, chunk.start):
                self._idle.remove(idle)
                return idle.decoder
        return None

    def put(self, source: str, next_start: int, decoder: OpenSource) -> None:
        self._idle.append(_Idle(source, next_start, decoder))
        self.close_idle(keep=MAX_IDLE)

    def close_idle(self, keep: int = 0, age_s: float = 0.0) -> None:
        """Close decoders that have been idle for at least `age_s`, but keep the `keep` most recent ones."""
        limit = time.monotonic() - age_s
        for idle in self._idle[: max(0, len(self._idle) - keep)]:
            if idle.since <= limit:
                self._idle.remove(idle)
                idle.decoder.close()


@serve.deployment
class Decoder(protocols.Decoder):
    """Reads sources from the artifact store. They are opened in confined processes, never in this one."""

    def __init__(self, settings: Settings) -> None:
        self._source_limits = settings.source
        self._artifacts = Artifacts.of(settings)
        self._workers = WorkerPool(settings.decoder.scale.max_ongoing, "decoding")
        self._sandbox = Sandbox(settings.sandbox, settings.decoder.threads)
        self._decoders = DecoderPool()
        logger.info("each decoding process has %s", self._sandbox.enforced)

    async def probe(self, source: str, limits: CallLimits, decode: bool = False) -> Index:
        def work(cancelled: Callable[[], bool]) -> Index:
            with self._artifacts.local_path(source, cancelled=cancelled) as path:
                return self._sandbox.probe(path, self._source_limits, cancelled, decode)

        return await self._workers.run(work, limits)

    async def decode(self, source: str, index: IndexBrief, chunk: Chunk, limits: CallLimits) -> Frames:
        kept = self._decoders.take(source, chunk)
        if kept is None:
            logger.info("opening %s for chunk %d: no decoder stands there", source, chunk.number)

        def work(cancelled: Callable[[], bool]) -> tuple[OpenSource, Frames]:
            decoder = kept
            try:
                # Needed for an open decoder too: it opens the path again to seek backwards.
                with self._artifacts.local_path(source, cancelled=cancelled) as path:
                    if decoder is not None and not decoder.fit(path):
                        decoder.close()
                        decoder = None
                    decoder = decoder or self._sandbox.source(path, index)
                    frames = decoder.decode(chunk, cancelled)
            except BaseException:
                if decoder is not None:
                    decoder.close()
                raise
            if chunk.stop is None:
                decoder.close()
            return decoder, frames

        decoder, frames = await self._workers.run(work, limits)
        if chunk.stop is not None:
            self._decoders.put(source, chunk.stop, decoder)
            asyncio.get_running_loop().call_later(IDLE_S, self._decoders.close_idle, 0, IDLE_S)
        return frames
