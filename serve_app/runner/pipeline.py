"""Computes the result of one job: stages and indexes the source, runs its chunks, and joins the pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from serve_app.artifacts.store import Artifacts
from serve_app.errors import DownloadFailed, FileTooLarge
from serve_app.fetch.fetch import fetch
from serve_app.files.signing import Signer
from serve_app.jobs.model import LogLevel, Progress
from serve_app.jobs.names import JobNames
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.protocols import (
    CallLimits,
    Chunk,
    EmptyPiece,
    Expected,
    Index,
    JoinPiece,
    MediaFile,
    Piece,
)
from serve_app.runner.chunk_calls import ChunkCalls, InFlight, StageHandles
from serve_app.runner.completeness import (
    PlanMismatch,
    audio_lines,
    check_chunk,
    damage_lines,
    expected_of,
    join_pieces_of,
)
from serve_app.runner.concurrency import Places, decoding_at_once
from serve_app.runner.journal import Journal
from serve_app.runner.log_lines import checked, count, describe, megabytes, network, treatment
from serve_app.runner.plan import (
    FrameBytes,
    as_requested,
    cut_runs,
    encode_settings,
    join_request,
    output_layout,
    plan_chunks,
    recipe,
)
from serve_app.runner.progress import STAGE, ProgressMeter
from serve_app.runner.readiness import Readiness
from serve_app.runner.retry import TRIES, Attempt, CallPolicy, call
from serve_app.runner.space import check_space
from serve_app.settings import Settings
from serve_app.video.formats import output_format

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Assignment:
    """A claimed job with its journal and places. `tries`: attempts per stage call if replicas are lost."""

    request: JobRequest
    names: JobNames
    journal: Journal
    places: Places
    tries: int = TRIES


class Pipeline:
    """Runs jobs. Holds neither frames nor encoded data: frames pass between the stages by reference."""

    def __init__(
        self, settings: Settings, stages: StageHandles, artifacts: Artifacts, signer: Signer
    ) -> None:
        self._settings = settings
        self._signer = signer
        self._stages = stages
        self._artifacts = artifacts
        self._limits = CallLimits(settings.runner.work_s)
        self._readiness = Readiness()

    async def run(self, job: Assignment) -> JobResult:
        """Compute the result. Raises `ServiceError`, or `CancelledError` after all stage calls are cancelled."""
        request, journal = job.request, job.journal
        await journal.report(Progress("fetching"))
        line = await self._stage_source(request.video_url, job.names.source)
        await journal.report(Progress("indexing"), line)
        index = await self._probe(job)
        cutouts = output_layout(request, index, self._settings.picture)
        lines = [f"indexed: {describe(index)}", *treatment(index, cutouts, request.output_type)]
        await journal.report(Progress(STAGE, 0, len(index.pts)), *lines)
        await journal.warn(*index.damage, *audio_lines(index.audio))
        check_space(self._artifacts, request, index)
        try:
            chunks, pieces = await self._chunks(job, index, decoded=index.sequential)
        except PlanMismatch:
            await journal.note(
                "packet and frame counts differ: decoding the whole source to count its frames"
            )
            index = await self._probe(job, decode=True)
            chunks, pieces = await self._chunks(job, index, decoded=True)
        expected = expected_of(index, chunks, pieces)
        await journal.warn(*damage_lines(index, chunks, pieces))
        done, total = expected.frames, len(index.pts)
        await journal.report(Progress("joining", done, total), f"joining {count(len(pieces), 'piece')}")
        video = await self._join(job, index, expected, join_pieces_of(pieces, mask=False))
        mask = None
        if request.output_mask:
            mask = await self._join(job, index, expected, join_pieces_of(pieces, mask=True), mask=True)
        await journal.report(
            Progress("finishing", done, total), *(checked(file) for file in (video, mask) if file)
        )
        self._check_inline(request, video, mask)
        return JobResult(video=video, mask_video=mask, inline=request.sync_mode)

    def _check_inline(self, request: JobRequest, *files: MediaFile | None) -> None:
        """Raise `FileTooLarge` if `sync_mode` asks for files that do not fit into a reply."""
        size, limit = sum(file.file_size for file in files if file), self._settings.max_inline_bytes
        if request.sync_mode and size > limit:
            raise FileTooLarge(
                f"The result has {size} bytes, but a reply can hold at most {limit}. Without sync_mode, the reply "
                "contains URLs instead.",
                field="sync_mode",
                context={"max_size": limit},
            )

    async def _stage_source(self, url: str, name: str) -> str:
        """Store the source as the artifact `name`, unless an earlier runner has; returns a log line."""
        if await asyncio.to_thread(self._artifacts.exists, name):
            return "the source was already staged"
        own = self._signer.name_in(url)
        if own is not None:  # uploaded to or made by this service: no HTTP needed
            return await asyncio.to_thread(self._link, own, name)
        begun = asyncio.get_running_loop().time()
        with self._artifacts.scratch(name) as directory:
            path = directory / "source"
            size = await fetch(url, path, self._settings.fetch)
            await asyncio.to_thread(self._artifacts.put_file, name, path)
        return f"downloaded {megabytes(size)} in {asyncio.get_running_loop().time() - begun:.1f} s"

    def _link(self, own: str, name: str) -> str:
        try:
            self._artifacts.link(own, name)
        except FileNotFoundError as error:
            raise DownloadFailed("The file of video_url has expired. Upload it again.") from error
        return f"the source is a file of this service: {megabytes(self._artifacts.size(name))}"

    async def _probe(self, job: Assignment, decode: bool = False) -> Index:
        index: Index = await self._call(
            job,
            lambda attempt: attempt.started(
                self._stages.decoder.probe.remote(job.names.source, self._limits, decode)
            ),
            "indexing the source",
        )
        return as_requested(index, job.request, self._settings)

    async def _chunks(
        self, job: Assignment, index: Index, decoded: bool
    ) -> tuple[list[Chunk], dict[int, Piece]]:
        """Plan the chunks and compute their pieces, several runs of chunks at once."""
        cutouts = output_layout(job.request, index, self._settings.picture)
        chunks = plan_chunks(index, self._settings.chunk, cutouts)
        work = ChunkCalls(
            self._stages,
            self._readiness,
            job.places,
            job.request,
            job.names,
            index,
            FrameBytes.of(index.layout, cutouts),
            self._limits,
            self._settings.picture,
        )
        made_by = recipe(job.request, index, self._settings)
        pieces = await self._resumable(job.journal, chunks, made_by)
        meter = ProgressMeter(
            len(index.pts), sum(piece.frames for piece in pieces.values()), asyncio.get_running_loop().time
        )
        if pieces:
            await job.journal.note(f"{count(len(pieces), 'piece')} of an earlier attempt reused")
        logged: set[str] = set()

        async def compute(flying: InFlight) -> None:
            chunk = flying.chunk
            try:
                piece = await self._call(
                    job, lambda attempt: work.piece(flying, attempt), f"chunk {chunk.number}"
                )
            finally:
                flying.release()
            check_chunk(index, chunk, piece, decoded)
            pieces[chunk.number] = piece
            meter.add(piece.frames)
            await job.journal.record(chunk, piece, made_by)
            line = network(piece, job.request)
            if line not in logged:
                logged.add(line)
                await job.journal.report(meter.progress(), line)

        async def follow(number: int, run: list[Chunk]) -> None:
            for chunk in run:
                flying = await work.in_flight(chunk, number)
                group.create_task(compute(flying))
                await flying.decoded.wait()

        ticker = asyncio.create_task(_tick(job.journal, meter))
        try:
            async with asyncio.TaskGroup() as group:
                missing = [chunk for chunk in chunks if chunk.number not in pieces]
                for number, run in enumerate(cut_runs(index, missing, decoding_at_once(self._settings))):
                    group.create_task(follow(number, run))
        except ExceptionGroup as failed:  # the first failure cancelled the others
            raise failed.exceptions[0] from None
        finally:
            ticker.cancel()
        await job.journal.report(meter.progress(), meter.summary())
        return chunks, pieces

    async def _resumable(self, journal: Journal, chunks: list[Chunk], made_by: str) -> dict[int, Piece]:
        """The recorded pieces whose files still exist in the artifact store, with the recorded size."""
        recorded = await journal.recorded(chunks, made_by)
        return await asyncio.to_thread(
            lambda: {number: piece for number, piece in recorded.items() if self._exists(piece)}
        )

    def _exists(self, piece: Piece) -> bool:
        if isinstance(piece, EmptyPiece):
            return True
        try:
            return self._artifacts.size(piece.name) == piece.size and (
                piece.mask_name is None or self._artifacts.exists(piece.mask_name)
            )
        except FileNotFoundError:
            return False

    async def _join(
        self,
        job: Assignment,
        index: Index,
        expected: Expected,
        pieces: tuple[JoinPiece, ...],
        mask: bool = False,
    ) -> MediaFile:
        request, names = job.request, job.names
        extension = output_format(request.output_type).extension
        join = join_request(
            encode_settings(request, index, self._settings.picture),
            index,
            pieces,
            expected,
            names.source,
            names.output("mask" if mask else "output", extension),
            mask,
        )
        media: MediaFile = await self._call(
            job,
            lambda attempt: attempt.started(self._stages.encoder.join.remote(join, self._limits)),
            "joining the pieces",
        )
        return media

    async def _call(self, job: Assignment, work: Callable[[Attempt], Awaitable[T]], what: str) -> T:
        """Run a chain of stage calls. Waiting for replicas may take `capacity_wait_s`; stages limit their own work."""
        runner = self._settings.runner
        limit_s = runner.capacity_wait_s + 3 * runner.work_s
        return await call(work, what, CallPolicy(limit_s, job.journal.note, job.tries))


async def _tick(journal: Journal, meter: ProgressMeter) -> None:
    """Report the progress about every second, until cancelled."""
    last = ""
    while True:
        await asyncio.sleep(meter.pause_s)
        line = str(meter)
        if line != last:
            last = line
            await journal.report(meter.progress(), line, level=LogLevel.DEBUG)
