"""One job from claim to result: stage the source, index it, cut it into chunks, run them, join the pieces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from serve_app.errors import FileTooLarge, FrameTooLarge, NothingProduced
from serve_app.jobs.calls import call
from serve_app.jobs.names import JobNames
from serve_app.jobs.plan import ChunkLimits, plan_chunks
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.jobs.store import Progress
from serve_app.jobs.windows import Share, Window
from serve_app.protocols import (
    CallLimits,
    Chunk,
    CutOptions,
    EncodeSettings,
    Index,
    IndexBrief,
    JoinRequest,
    MediaFile,
    PieceRef,
)
from serve_app.settings import Settings
from serve_app.stages.handles import StageHandles
from serve_app.storage.artifacts import Artifacts
from serve_app.storage.fetch import FetchLimits, fetch
from serve_app.video.formats import cutout_layout, has_alpha, output_format

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

Report = Callable[[Progress], Awaitable[None]]


class Pipeline:
    """Runs jobs. Holds no pixels and no encoded bytes: frames pass between the stages by reference."""

    def __init__(self, settings: Settings, stages: StageHandles, artifacts: Artifacts) -> None:
        self._settings = settings
        self._stages = stages
        self._artifacts = artifacts
        self._limits = CallLimits(settings.runner.work_s)

    async def run(
        self, request: JobRequest, names: JobNames, window: Window, share: Share, report: Report
    ) -> JobResult:
        """The finished result. Raises a ServiceError, or CancelledError with every call cancelled."""
        await report(Progress("fetching", message="reading the source"))
        await self._stage_source(request.video_url, names.source)
        await report(Progress("indexing", message="looking through the source"))
        index = await self._probe(names.source)
        chunks = plan_chunks(index, ChunkLimits(**self._settings.chunk.model_dump()))
        await report(Progress("segmenting", 0, len(index.pts), _describe(index)))
        pieces = await self._chunks(request, names, index, chunks, window, share, report)
        total = sum(piece.frames for piece in pieces)
        await report(Progress("joining", total, total, "joining the pieces"))
        video = await self._join(request, names, index, [piece.name for piece in pieces])
        masks = [piece.mask_name for piece in pieces if piece.mask_name]
        mask = await self._join(request, names, index, masks, mask=True) if masks else None
        self._check_inline(request, video, mask)
        return JobResult(video=video, mask_video=mask)

    def _check_inline(self, request: JobRequest, *files: MediaFile | None) -> None:
        """`sync_mode` puts the files into the reply, which has its limits."""
        size, limit = sum(file.file_size for file in files if file), self._settings.max_inline_bytes
        if request.sync_mode and size > limit:
            raise FileTooLarge(
                f"The result has {size} bytes, more than the {limit} that fit into a reply. Leave sync_mode out: the "
                "reply then carries URLs.",
                field="sync_mode",
                context={"max_size": limit},
            )

    async def _stage_source(self, url: str, name: str) -> None:
        """The source as an artifact; one staged by an earlier holder of the job is used again."""
        if await asyncio.to_thread(self._artifacts.exists, name):
            return
        with self._artifacts.scratch(name) as directory:
            path = directory / "source"
            await fetch(url, path, FetchLimits(**self._settings.fetch.model_dump()))
            await asyncio.to_thread(self._artifacts.put_file, name, path)

    async def _probe(self, source: str) -> Index:
        index: Index = await self._call(
            lambda: [self._stages.decoder.probe.remote(source, self._limits)], "indexing the source"
        )
        limit = self._settings.max_side
        if max(index.layout.width, index.layout.height) > limit:
            raise FrameTooLarge(
                f"The video is {index.layout.width}x{index.layout.height}; a side may have {limit} pixels here.",
                context={"max_height": limit, "max_width": limit},
            )
        return index

    async def _chunks(
        self,
        request: JobRequest,
        names: JobNames,
        index: Index,
        chunks: list[Chunk],
        window: Window,
        share: Share,
        report: Report,
    ) -> list[PieceRef]:
        """All pieces that hold frames, in order. The window bounds the chunks in flight."""
        work = ChunkWork(self._stages, request, names, index, self._limits)
        pieces: dict[int, PieceRef] = {}

        async def run(chunk: Chunk) -> None:
            try:
                pieces[chunk.number] = await self._call(lambda: work.start(chunk), f"chunk {chunk.number}")
            finally:
                window.release(share)
            await report(_progress(pieces, request, index))

        try:
            async with asyncio.TaskGroup() as group:
                for chunk in chunks:
                    await window.acquire(share)
                    group.create_task(run(chunk))
        except ExceptionGroup as failed:  # the first failure cancelled the others
            raise failed.exceptions[0] from None
        made = [pieces[number] for number in sorted(pieces) if pieces[number].frames]
        if not made:
            raise NothingProduced("No frame of the video could be decoded.", field="video_url")
        return made

    async def _join(
        self, request: JobRequest, names: JobNames, index: Index, pieces: list[str], mask: bool = False
    ) -> MediaFile:
        extension = output_format(request.output_type).extension
        order = JoinRequest(
            pieces=tuple(pieces),
            source=names.source,
            audio=None if mask else index.audio,
            settings=replace(encode_settings(request, index), mask=mask),
            frame_duration=index.frame_duration,
            output=names.output("mask" if mask else "output", extension),
        )
        media: MediaFile = await self._call(
            lambda: [self._stages.encoder.join.remote(order, self._limits)], "joining the pieces"
        )
        return media

    async def _call(self, start: Callable[[], list[Any]], what: str) -> Any:
        """One chain of stage calls; a place to run may take `capacity_wait_s`, each stage bounds its work."""
        runner = self._settings.runner
        return await call(start, what, runner.capacity_wait_s + 3 * runner.work_s)


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


def _describe(index: Index) -> str:
    layout = index.layout
    return (
        f"{layout.width}x{layout.height}, {float(index.average_rate):.3f} frames/s, {len(index.pts)} frames, "
        f"{index.duration_s:.2f} s, {index.codec}"
    )


def _progress(pieces: dict[int, PieceRef], request: JobRequest, index: Index) -> Progress:
    """What is done so far, and which network did it at which size."""
    by = next(iter(pieces.values())).provenance
    height, width = by.size
    message = f"{by.checkpoint} on {by.device} at {width}x{height}"
    if max(by.size) < request.operating_size:
        message += f" (its largest size; {request.operating_size}x{request.operating_size} was asked for)"
    done = sum(piece.frames for piece in pieces.values())
    return Progress("segmenting", done, len(index.pts), message)
