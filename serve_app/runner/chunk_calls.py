"""The handles of the stages, and the chain of calls that turns a chunk into a piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_app.fal import Variant
from serve_app.jobs.names import JobNames
from serve_app.jobs.request import JobRequest
from serve_app.protocols import CallLimits, Chunk, Index, IndexBrief
from serve_app.runner.plan import cut_options, encode_settings
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
class ChunkCalls:
    """Starts the stage calls for the chunks of one job."""

    stages: StageHandles
    request: JobRequest
    names: JobNames
    index: Index
    limits: CallLimits
    picture: PictureSettings

    def start(self, chunk: Chunk) -> list[Any]:
        """Start the three calls of a chunk; each receives the unresolved response of the previous one."""
        request, index = self.request, self.index
        options = cut_options(request, index, self.picture)
        frames = self.stages.decoder.decode.remote(
            self.names.source, IndexBrief.of(index), chunk, self.limits
        )
        cutout = self.stages.segmenters[request.variant].cut_out.remote(frames, options, self.limits)
        piece = self.stages.encoder.encode.remote(
            cutout,
            encode_settings(request, index, self.picture),
            self.names.piece(chunk.number),
            self.names.mask_piece(chunk.number) if request.output_mask else None,
            self.limits,
        )
        return [frames, cutout, piece]
