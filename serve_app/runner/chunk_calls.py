"""The handles of the stages, and the chain of calls that turns a chunk into a piece."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ray.serve.handle import DeploymentHandle

from serve_app.fal import Variant
from serve_app.jobs.names import JobNames
from serve_app.jobs.request import JobRequest
from serve_app.protocols import CallLimits, Chunk, Index, IndexBrief, Piece
from serve_app.runner.concurrency import Places
from serve_app.runner.plan import FrameBytes, cut_options, encode_settings
from serve_app.runner.pool import Holding
from serve_app.runner.readiness import Readiness, accepted
from serve_app.runner.retry import Attempt
from serve_app.settings import PictureSettings


@dataclass(frozen=True, slots=True)
class StageHandles:
    """The handles through which the runner calls the stages.

    `_by_reference` is set explicitly: with Serve's throughput mode enabled, frames would otherwise go over gRPC,
    which rejects them or is thirty times slower.
    """

    decoder: DeploymentHandle
    segmenters: dict[Variant, DeploymentHandle]
    encoder: DeploymentHandle

    @classmethod
    def of(
        cls,
        decoder: DeploymentHandle,
        segmenters: dict[Variant, DeploymentHandle],
        encoder: DeploymentHandle,
    ) -> StageHandles:
        def by_reference(handle: DeploymentHandle) -> DeploymentHandle:
            return handle.options(_by_reference=True)

        return cls(
            by_reference(decoder),
            {variant: by_reference(handle) for variant, handle in segmenters.items()},
            by_reference(encoder),
        )


@dataclass(frozen=True, slots=True)
class InFlight:
    """A chunk with its memory and its place ahead of the segmenters. `decoded`: set when its frames are there.

    run: the number of its run, whose chunks one decoder reads one after the other.
    """

    chunk: Chunk
    run: int
    memory: Holding
    ahead: Holding
    decoded: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        self.ahead.release()
        self.memory.release()


@dataclass(frozen=True, slots=True)
class ChunkCalls:
    """The stage calls for the chunks of one job. `weight`: bytes of a frame in each form."""

    stages: StageHandles
    readiness: Readiness
    places: Places
    request: JobRequest
    names: JobNames
    index: Index
    weight: FrameBytes
    limits: CallLimits
    picture: PictureSettings

    async def in_flight(self, chunk: Chunk, run: int) -> InFlight:
        """Wait until the chunk may be decoded. The caller releases it."""
        places = self.places
        memory = await places.memory.acquire(places.claimant, chunk.frames * self.weight.total)
        return InFlight(chunk, run, memory, await places.ahead.acquire(places.claimant))

    async def piece(self, flying: InFlight, attempt: Attempt) -> Piece:
        """Decode, segment and encode. Each call receives the unresolved response of the previous one."""
        request, index, places, chunk = self.request, self.index, self.places, flying.chunk
        flying.memory.resize(chunk.frames * self.weight.total)  # as before, in a further attempt
        decoder = self.stages.decoder.options(session_id=f"{self.names.source}/{flying.run}")
        frames = attempt.started(
            decoder.decode.remote(self.names.source, IndexBrief.of(index), chunk, self.limits)
        )
        await self.readiness.wait(frames)
        flying.decoded.set()
        with attempt.paused():
            place = await places.segmenting.acquire(places.claimant)
        try:
            cutout = attempt.started(
                self.stages.segmenters[request.variant].cut_out.remote(
                    frames, cut_options(request, index, self.picture), self.limits
                )
            )
            await accepted(cutout)
            flying.ahead.release()
            await self.readiness.wait(cutout)
        finally:
            place.release()
        attempt.forget(frames)
        del frames  # with the last reference, the store frees them
        flying.memory.resize(chunk.frames * self.weight.cutout)
        piece: Piece = await attempt.started(
            self.stages.encoder.encode.remote(
                cutout,
                encode_settings(request, index, self.picture),
                self.names.piece(chunk.number),
                self.names.mask_piece(chunk.number) if request.output_mask else None,
                self.limits,
            )
        )
        return piece
