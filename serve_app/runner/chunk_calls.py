"""The handles of the stages, and the chain of calls that turns a chunk into a piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_app.fal import Variant
from serve_app.jobs.names import JobNames
from serve_app.jobs.request import JobRequest
from serve_app.picture import UNKNOWN_PEAK, PixelLayout
from serve_app.protocols import CallLimits, Chunk, CutOptions, EncodeSettings, Index, IndexBrief
from serve_app.settings import PictureSettings
from serve_app.video.formats import cutout_layout, has_alpha, output_aspect


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
        options = CutOptions(
            operating_size=request.operating_size,
            refine_foreground=request.refine_foreground,
            over_black=not has_alpha(request.output_type),
            layout=output_layout(request, index, self.picture),
            snap_matte=self.picture.snap_matte,
            peak_nits=index.hdr.peak_nits if index.hdr else UNKNOWN_PEAK,
        )
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


def output_layout(request: JobRequest, index: Index, picture: PictureSettings) -> PixelLayout:
    """The pixel layout of a job's cutouts."""
    return cutout_layout(index.layout, request.output_type, index.sample_aspect, picture.keep_hdr)


def encode_settings(request: JobRequest, index: Index, picture: PictureSettings) -> EncodeSettings:
    return EncodeSettings(
        output_type=request.output_type,
        quality=request.quality,
        write_mode=request.write_mode,
        time_base=index.time_base,
        origin=index.origin,
        rate=index.average_rate,
        sample_aspect=output_aspect(request.output_type, index.sample_aspect),
        hdr=index.hdr if output_layout(request, index, picture).hdr else None,
    )
