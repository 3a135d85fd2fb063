"""What all chunks of a job have in common, and how one is set going."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serve_app.jobs.names import JobNames
from serve_app.jobs.request import JobRequest
from serve_app.protocols import CallLimits, Chunk, CutOptions, EncodeSettings, Index, IndexBrief
from serve_app.stages.handles import StageHandles
from serve_app.video.formats import cutout_layout, has_alpha


@dataclass(frozen=True, slots=True)
class ChunkWork:
    """What all chunks of a job have in common, and how one is set going."""

    stages: StageHandles
    request: JobRequest
    names: JobNames
    index: Index
    limits: CallLimits

    def start(self, chunk: Chunk) -> list[Any]:
        """The three calls of a chunk, each handed the unresolved response of the one before."""
        request, index = self.request, self.index
        options = CutOptions(
            operating_size=request.operating_size,
            refine_foreground=request.refine_foreground,
            over_black=not has_alpha(request.output_type),
            layout=cutout_layout(index.layout, request.output_type),
        )
        frames = self.stages.decoder.decode.remote(
            self.names.source, IndexBrief.of(index), chunk, self.limits
        )
        cutout = self.stages.segmenters[request.variant].cut_out.remote(frames, options, self.limits)
        piece = self.stages.encoder.encode.remote(
            cutout,
            encode_settings(request, index),
            self.names.piece(chunk.number),
            self.names.mask_piece(chunk.number) if request.output_mask else None,
            self.limits,
        )
        return [frames, cutout, piece]


def encode_settings(request: JobRequest, index: Index) -> EncodeSettings:
    return EncodeSettings(
        output_type=request.output_type,
        quality=request.quality,
        write_mode=request.write_mode,
        time_base=index.time_base,
        origin=index.origin,
        rate=index.average_rate,
        sample_aspect=index.sample_aspect,
    )
